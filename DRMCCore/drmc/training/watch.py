"""What is watched while training: the routing of every step, the pace, TensorBoard where there is one, the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

import drmc
from drmc.runtime import hardware
from drmc.training.config import TrainingConfig
from drmc.training.page import write_page

Record = dict[str, Any]
# Places and machines, and what the model's card says itself.
_NOT_TOLD = ("dataset", "output", "watched_dataset", "threads", "card")


class GateWatch:
    """What the gates of a step say, as sums over patches that may be added up over groups of them and processes."""

    def __init__(self, config: TrainingConfig):
        self._patches = config.patches_per_center
        layers, self._experts = config.network.gates_shape
        self._cells = {c: [(c, k) for k in range(layers * self._experts)] for c in config.centers}

    def zeros(self) -> dict[Any, float]:
        """The sums before the first patch: the same keys in every process."""
        usage = (cell for cells in self._cells.values() for cell in cells)
        return dict.fromkeys(("closed_gates", "dead_banks", *usage), 0.0)

    def add(self, sums: dict[Any, float], gates_BLM: torch.Tensor, mine: Sequence[tuple[str, int]]) -> None:
        """Adds patches to `sums`; `mine`: their (center, slot), in the order of gates_BLM.

        A patch has the weight 1 / patches of the step, in its center's usage 1 / patches of the center.
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
        """Takes its sums out of all that were added up: `closed_gates` (share of gates that are 0), `dead_banks` (share of
        banks all of whose experts a patch closed) and `usage` (center -> layers x experts: mean over patches of a gate's
        share of its bank's sum). Of a network without routing they are NaN, NaN and {}."""
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

    1: all experts alike; 0: one expert alone. A layer that is always closed does not count; NaN where there is no
    other, or only one expert.
    """
    usage = np.asarray(usage_LM, dtype=np.float64)
    usage = usage[usage.sum(axis=1) > 0]
    if usage.shape[0] == 0 or usage.shape[1] < 2:
        return math.nan
    share = usage / usage.sum(axis=1, keepdims=True)
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    return float(-(share * logarithm).sum(axis=1).mean() / math.log(usage.shape[1]))


def progress(records: Sequence[Record], *, patches: int, seconds: float) -> Record:
    """One record of several steps: means over those in which a value was finite; usage to four digits.

    `patches` were drawn in `seconds` by all processes together.
    """
    last = records[-1]
    usage = {
        center: np.mean([r["usage"][center] for r in records], axis=0).round(4).tolist()
        for center in last["usage"]
    }
    return {
        "step": last["step"],
        "rate": last["rate"],
        **{key: _mean(r[key] for r in records) for key in ("gradient_norm", "closed_gates", "dead_banks")},
        "loss": {center: _mean(r["loss"][center] for r in records) for center in last["loss"]},
        "usage": usage,
        "entropy": {center: entropy(table) for center, table in usage.items()},
        "patches_per_second": patches / seconds if seconds > 0 else math.nan,
    }


def _mean(values) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def told_configuration(config: TrainingConfig) -> Record:
    """The configuration without the places on this machine: what a model's card and a page may say."""
    told = {key: value for key, value in config.to_dict().items() if key not in _NOT_TOLD}
    return {**told, "initial_weights": Path(config.initial_weights).name}


def facts(config: TrainingConfig, device: torch.device, world: int, *, simulated: bool) -> Record:
    """What the first record of a run says of it, so that its page follows from its log alone."""
    return {
        "name": config.name,
        "simulated": simulated,
        "hardware": hardware.describe(device),
        "processes": world,
        "version": drmc.__version__,
        "configuration": told_configuration(config),
    }


class Watch:
    """Receives every logged record in the first process: for TensorBoard, the page, and then for who asked for it."""

    def __init__(self, output: Path, rank: int, step: int, report: Callable[[Record], None] | None = None):
        self._output, self._report = Path(output), report
        self._board = summary_writer(self._output / "tensorboard", step) if rank == 0 else None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_) -> None:
        if self._board is not None:
            self._board.close()

    @property
    def tensorboard(self) -> bool:
        """Whether TensorBoard can be imported, and so its files are written."""
        return self._board is not None

    def __call__(self, record: Record) -> None:
        """`record` is in the log already."""
        if self._board is not None and record["event"] in ("progress", "validation"):
            for tag, value in _scalars(record):
                self._board.add_scalar(f"{record['event']}/{tag}", value, record["step"])
        if record["event"] != "progress":
            try:
                write_page(self._output)
            except OSError:
                pass  # the training is worth more than its page, which the log gives again
        if self._report is not None:
            self._report(record)


def summary_writer(folder: Path, step: int) -> Any | None:
    """TensorBoard's writer into `folder`, where what follows on `step` is written anew; None without TensorBoard."""
    try:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        return None
    return writer(str(folder), purge_step=step + 1)


def _scalars(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """(tag, value) of every number in a record; tables and what is undefined have none."""
    found = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and key not in ("step", "steps"):
            found.append((prefix + key, float(value)))
    return found
