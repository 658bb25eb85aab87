"""The records of a training, as they come or as training.jsonl keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOG = "training.jsonl"
REPORT = "training.html"
_PACE_RECORDS = 20  # the time left follows from the last ones: validation and other programs change the pace


class History:
    """Progress and validation of one run. Records may lack what an older or newer version does not log."""

    def __init__(self) -> None:
        self.progress: list[Mapping[str, Any]] = []
        self.validation: list[Mapping[str, Any]] = []
        self.step = 0
        self.steps = 0

    @classmethod
    def read(cls, output: Path) -> History:
        """What OUTPUT/training.jsonl holds; nothing where there is none."""
        history = cls()
        try:
            lines = (Path(output) / LOG).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError):
            return history
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            if isinstance(record, dict):
                history.add(record)
        return history

    def add(self, record: Mapping[str, Any]) -> None:
        """One record; others than the training's are passed over."""
        event, step = record.get("event"), record.get("step")
        if not isinstance(step, int):
            return
        if event in ("started", "resumed"):  # what follows is taken again
            self.progress = [one for one in self.progress if one["step"] <= step]
            self.validation = [one for one in self.validation if one["step"] <= step]
        elif event == "progress":
            self.progress.append(record)
        elif event == "validation":
            self.validation.append(record)
        self.step, self.steps = step, record.get("steps") or self.steps

    def centers(self) -> list[str]:
        """The centers in the order of the log."""
        newest = [self.latest("progress", "loss"), self.latest("validation", "psnr")]
        return list(next((one for one in newest if one), ()))

    def latest(self, kind: str, key: str) -> Any:
        """The newest value under `key` of the progress or validation records; None where none has it."""
        records = reversed(getattr(self, kind))
        return next((one[key] for one in records if one.get(key) is not None), None)

    def secondsLeft(self) -> float | None:
        """An estimate from the pace of the last records; None while there is none."""
        recent = [one for one in self.progress[-_PACE_RECORDS:] if isNumber(one.get("seconds"))]
        if not recent:
            return None
        last = recent[-1]
        first = recent[0] if len(recent) > 1 else {"step": 0, "seconds": 0.0}
        steps, seconds = last["step"] - first["step"], last["seconds"] - first["seconds"]
        return max(0.0, seconds / steps * (self.steps - last["step"])) if steps > 0 else None


def series(records: Sequence[Mapping[str, Any]], key: str, center: str) -> list[tuple[float, float]]:
    """(step, value) wherever a number was logged for the center."""
    found = [(one["step"], (one.get(key) or {}).get(center)) for one in records]
    return [(float(step), float(value)) for step, value in found if isNumber(value)]


def gains(
    records: Sequence[Mapping[str, Any]], key: str, below: str, center: str
) -> list[tuple[float, float]]:
    """(step, difference) of two figures of a center, e.g. of `psnr` over `psnr_low` in dB."""
    low = dict(series(records, below, center))
    return [(step, value - low[step]) for step, value in series(records, key, center) if step in low]


def isNumber(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
