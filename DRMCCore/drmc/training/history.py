"""Reads the log of a training: its records by kind, its state, and series of numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.pages.plot import Point
from drmc.pages.text import is_number

LOG = "training.jsonl"
PAGE = "training.html"
_PACE_RECORDS = 20  # for the time left; validation and other programs change the pace
Record = Mapping[str, Any]


@dataclass
class History:
    """Progress and validation of one run, from its log or record by record (`add`).

    Records of older or newer versions may lack some keys.

    Attributes:
        about: the first record, which describes the run.
        progress: records of progress.
        validation: records of validation.
        resumed: steps at which the run was resumed.
        state: "under way", "stopped" or "finished".
        step: the last step.
        steps: the steps of the whole run.
    """

    about: dict[str, Any] = field(default_factory=dict)
    progress: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    state: str = "under way"
    step: int = 0
    steps: int = 0

    @classmethod
    def read(cls, path: Path) -> History:
        """Reads a log; incomplete lines are skipped.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            lines = Path(path).read_bytes().splitlines()
        except OSError as error:
            raise InputError(f"{path}: no log of a training ({error.strerror})") from None
        found = cls()
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                found.add(record)
        return found

    def add(self, record: Record) -> None:
        """Adds one record; those that do not belong to a training are ignored."""
        event, step = record.get("event"), record.get("step")
        if not isinstance(step, int):
            return
        if event in ("started", "resumed"):  # later steps are repeated
            self.progress = [one for one in self.progress if one["step"] <= step]
            self.validation = [one for one in self.validation if one["step"] <= step]
        self.step, self.steps = step, record.get("steps") or self.steps
        done = event != "stopped" and self.step >= self.steps > 0  # older logs lack the event
        self.state = "finished" if done else event if event == "stopped" else "under way"
        if event in ("started", "resumed"):
            self.about |= {k: v for k, v in record.items() if k not in ("event", "step", "steps")}
            self.resumed += [step] * (event == "resumed")
        elif event == "progress":
            self.progress.append(record)
        elif event == "validation":
            self.validation.append(record)

    @property
    def centers(self) -> list[str]:
        """The centers that are trained on, in the order of the log."""
        return list(
            self.last("progress", "loss")
            or self.last("validation", "psnr")
            or self.last("validation", "dice")
            or ()
        )

    def last(self, kind: str, key: str) -> Any:
        """The newest value of a key in the records of a kind, None if no record has it."""
        records = getattr(self, kind)
        return next((r[key] for r in reversed(records) if r.get(key) is not None), None)

    def seconds_left(self) -> float | None:
        """Estimates the time left from the pace of the last records; None before the first one."""
        recent = [one for one in self.progress[-_PACE_RECORDS:] if is_number(one.get("seconds"))]
        if not recent:
            return None
        last = recent[-1]
        first = recent[0] if len(recent) > 1 else {"step": 0, "seconds": 0.0}
        steps, seconds = last["step"] - first["step"], last["seconds"] - first["seconds"]
        return max(0.0, seconds / steps * (self.steps - last["step"])) if steps > 0 else None


def series(records: Sequence[Record], key: str, center: str | None = None) -> list[Point]:
    """(step, value) of each record with a number under the key, or under the center within it."""
    points = []
    for record in records:
        value = record.get(key)
        if center is not None:
            value = value.get(center) if isinstance(value, Mapping) else None
        if is_number(value):
            points.append((float(record["step"]), float(value)))
    return points


def gains(records: Sequence[Record], key: str, below: str, center: str) -> list[Point]:
    """(step, difference) of two values of a center, for example of `psnr` and `psnr_low` in dB."""
    low = dict(series(records, below, center))
    return [(step, value - low[step]) for step, value in series(records, key, center) if step in low]
