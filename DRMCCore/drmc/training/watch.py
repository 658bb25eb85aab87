"""What is recorded during a training: routing of every step, pace, TensorBoard if installed, the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

import drmc
from drmc.runtime import hardware
from drmc.training.config import FOLDERS, TrainingConfig
from drmc.training.page import write_page

Record = dict[str, Any]
# Settings of this machine, and what the model's card contains anyway.
_PRIVATE_KEYS = (*FOLDERS, "threads", "card")


class GateWatch:
    """Statistics of the gates of a step.

    They are sums over patches, which may be added over groups of patches and over processes.
    """

    def __init__(self, config: TrainingConfig, centers: Sequence[str] = ()):
        self._patches = config.patches_per_center
        layers, self._experts = config.network.gates_shape
        self._cells = {c: [(c, k) for k in range(layers * self._experts)] for c in centers or config.centers}

    def zeros(self) -> dict[Any, float]:
        """The sums before the first patch, with the same keys in every process."""
        usage = (cell for cells in self._cells.values() for cell in cells)
        return dict.fromkeys(("closed_gates", "dead_banks", *usage), 0.0)

    def add(self, sums: dict[Any, float], gates_BLM: torch.Tensor, mine: Sequence[tuple[str, int]]) -> None:
        """Adds patches to the sums.

        A patch has the weight 1 / patches of the step, in the usage of its center 1 / patches of the center.

        Args:
            sums: what `zeros` returned; changed in place.
            gates_BLM: gates of the patches.
            mine: (center, slot) of each patch, in the same order.
        """
        if not self._experts:
            return
        gates = gates_BLM.detach().float().cpu().numpy()
        total = gates.sum(axis=2, keepdims=True)
        shares = np.divide(gates, total, out=np.zeros_like(gates), where=total > 0)
        weight = len(mine) / (len(self._cells) * self._patches)
        sums["closed_gates"] += float((gates == 0).mean()) * weight
        sums["dead_banks"] += float((gates == 0).all(axis=2).mean()) * weight
        for (center, _), share in zip(mine, shares, strict=True):
            for cell, value in zip(self._cells[center], share.ravel().tolist(), strict=True):
                sums[cell] += value / self._patches

    def record(self, sums: dict[Any, float]) -> Record:
        """Removes the statistics from the sums and returns them as a record.

        Args:
            sums: sums over all patches of a step; changed in place.

        Returns:
            `closed_gates`, the share of gates that are 0; `dead_banks`, the share of banks all of whose
            experts a patch closed; `usage`, by center layers x experts, the mean over patches of a gate's
            share of the sum of its bank. Without routing NaN, NaN and {}.
        """
        closed, dead = sums.pop("closed_gates"), sums.pop("dead_banks")
        if not self._experts:
            return {"closed_gates": math.nan, "dead_banks": math.nan, "usage": {}}
        usage = {
            center: np.reshape([sums.pop(cell) for cell in cells], (-1, self._experts)).tolist()
            for center, cells in self._cells.items()
        }
        return {"closed_gates": closed, "dead_banks": dead, "usage": usage}


def entropy(usage_LM: Sequence[Sequence[float]]) -> float:
    """How evenly a center uses its experts: entropy of each layer's usage over log M, mean over layers.

    1: all experts alike; 0: one expert alone. Layers without an open expert are left out. NaN if all are, or
    if there is only one expert.
    """
    usage = np.asarray(usage_LM, dtype=np.float64)
    usage = usage[usage.sum(axis=1) > 0]
    if usage.shape[0] == 0 or usage.shape[1] < 2:
        return math.nan
    share = usage / usage.sum(axis=1, keepdims=True)
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    return float(-(share * logarithm).sum(axis=1).mean() / math.log(usage.shape[1]))


def progress(records: Sequence[Record], *, patches: int, seconds: float) -> Record:
    """One record of several steps: means over the steps in which a value was finite; usage to four digits.

    Args:
        records: what the steps returned.
        patches: how many were drawn, by all processes together.
        seconds: the time that they took.
    """
    last = records[-1]
    usage = {
        center: np.mean([r["usage"][center] for r in records], axis=0).round(4).tolist()
        for center in last["usage"]
    }
    critics = last.get("critic", {})
    judged = {"critic": {key: _mean(r["critic"][key] for r in records) for key in critics}} if critics else {}
    return {
        "step": last["step"],
        "rate": last["rate"],
        **{key: _mean(r[key] for r in records) for key in ("gradient_norm", "closed_gates", "dead_banks")},
        "loss": {center: _mean(r["loss"][center] for r in records) for center in last["loss"]},
        **judged,
        "usage": usage,
        "entropy": {center: entropy(table) for center, table in usage.items()},
        "patches_per_second": patches / seconds if seconds > 0 else math.nan,
    }


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def public_settings(config: TrainingConfig) -> Record:
    """The configuration without paths and settings of this machine, for the model's card and the page."""
    settings = {key: value for key, value in config.to_dict().items() if key not in _PRIVATE_KEYS}
    if config.network.task != "organs":
        del settings["organs"]
    return {**settings, "initial_weights": Path(config.initial_weights).name}


def facts(config: TrainingConfig, device: torch.device, world: int, *, simulated: bool) -> Record:
    """The first record of a run, which describes it, so that its page can be made from the log alone."""
    return {
        "name": config.name,
        "simulated": simulated,
        "hardware": hardware.describe(device),
        "processes": world,
        "version": drmc.__version__,
        "configuration": public_settings(config),
    }


class Watch:
    """Receives every logged record in the first process, for TensorBoard, the page and then `report`."""

    def __init__(self, output: Path, rank: int, step: int, report: Callable[[Record], None] | None = None):
        self._output, self._report = Path(output), report
        self._board = summary_writer(self._output / "tensorboard", step) if rank == 0 else None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    @property
    def tensorboard(self) -> bool:
        """Whether TensorBoard is installed, and its files are written."""
        return self._board is not None

    def __call__(self, record: Record) -> None:
        """Passes on a record, which is in the log already."""
        if self._board is not None and record["event"] in ("progress", "validation"):
            for tag, value in _scalars(record):
                self._board.add_scalar(f"{record['event']}/{tag}", value, record["step"])
        if record["event"] != "progress":
            try:
                write_page(self._output)
            except OSError:
                pass  # the training goes on; the page can be written again from the log
        if self._report is not None:
            self._report(record)


def summary_writer(folder: Path, step: int) -> Any | None:
    """TensorBoard's writer into a folder; None if TensorBoard is not installed.

    Args:
        folder: the folder of its files.
        step: the step that the run continues from; later entries are replaced.
    """
    try:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        return None
    return writer(str(folder), purge_step=step + 1)


def _scalars(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """(tag, value) of every number in a record; tables and undefined values are left out."""
    found = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and key not in ("step", "steps"):
            found.append((prefix + key, float(value)))
    return found
