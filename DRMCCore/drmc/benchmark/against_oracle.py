"""The parts `tile` and `training`: the engine against the oracle and its rivals, in one process, in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from drmc.benchmark.measure import Timing, alternate, free_memory, peak_memory, profile, relative_error
from drmc.benchmark.records import Compared, Memories, RivalTime, SamePrecision, TileRow, TrainingRow
from drmc.benchmark.rivals import LoadedRival, load_rivals
from drmc.benchmark.workload import Workload, gradient, measurable_open_gates, multiply_adds, prepare
from drmc.errors import DRMCError
from drmc.networks.drmc import NetworkConfig

USABLE = 0.8  # share of the free memory that a workload may be expected to take

Report = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """What is measured, and on what."""

    config: NetworkConfig
    edge: int
    """Edge of the tiles, voxels."""
    device: str
    precisions: tuple[str, ...]
    repeats: int
    """Repeats of each timing."""
    ceilings: dict[str, float]
    """GFLOP/s of a large matrix product, by precision."""


def measure_tiles(setting: Setting, report: Report) -> list[TileRow]:
    """One row per precision and number of open gates.

    `relative_error` is that of the residual against the oracle's in float64, in the Euclidean norm;
    `oracle_seconds` is the oracle's in float32, the precision of the authors' code; in bf16 there is also
    `oracle_same_precision_seconds`, the oracle under autocast. On a CPU the row in float32 has
    `rivals`, other libraries on the oracle's graph.
    """
    return [
        row
        for open_gates in measurable_open_gates(setting.config)
        for row in _tile_rows(setting, open_gates, report)
    ]


def _tile_rows(setting: Setting, open_gates: int, report: Report) -> list[TileRow]:
    """The rows of one number of open gates: everything is timed in the same rounds."""
    product = Workload("tile", "product", setting.config, setting.edge, "fp32", setting.device, open_gates)
    oracle = replace(product, side="oracle")
    report(f"tile of {setting.edge}^3, {open_gates} of {setting.config.experts} gates open")
    expected = _output(replace(oracle, precision="fp64"))
    works = {"oracle": oracle}
    for precision in setting.precisions:
        works[precision] = replace(product, precision=precision)
        if precision != "fp32":
            works[f"oracle {precision}"] = replace(oracle, precision=precision)
    runs: dict[str, Callable[[], Any]] = {name: prepare(work)[1] for name, work in works.items()}
    outputs = {name: run() for name, run in runs.items()}  # the warm-up
    rivals = load_rivals(oracle, expected) if torch.device(setting.device).type == "cpu" else []
    runs |= {rival.name: rival.run for rival in rivals if rival.run is not None}
    taken = alternate(runs, setting.repeats, setting.device)
    oracle_memory = peak_memory(oracle)
    rows: list[TileRow] = []
    for precision in setting.precisions:
        residual, gates = outputs[precision]
        opened = (gates > 0).sum(-1)
        if not bool((opened == open_gates).all()):
            raise DRMCError(f"{open_gates} gates per bank were to be open, found {opened.tolist()}")
        done = 2e-9 * multiply_adds(setting.config, setting.edge, open_gates) / taken[precision].seconds
        rows.append(
            {
                "precision": precision,
                "open_gates": open_gates,
                "experts": setting.config.experts,
                "tile": setting.edge,
                **_compared(taken[precision], taken["oracle"]),
                "relative_error": relative_error(residual, expected),
                **_memories(peak_memory(works[precision]), oracle_memory),
                "rivals": [_rival(one, taken, precision) for one in rivals if precision == "fp32"],
                "operations": profile(runs[precision], setting.device),
                **_same_precision(taken, precision),
                "gflop_per_second": done,
                "ceiling_share": done / setting.ceilings[precision],
            }
        )
    return rows


def measure_training(setting: Setting, report: Report) -> list[TrainingRow]:
    """Forward, backward and Adam's step on one patch, product and oracle in the same precision.

    `relative_error` is that of all gradients against the oracle's. Where the memory does not suffice for the
    oracle's step, the row has no oracle, and a second row compares networks of as many blocks as it suffices
    for (every block costs the same).
    """
    rows = []
    for precision in setting.precisions:
        product = Workload("training", "product", setting.config, setting.edge, precision, setting.device)
        blocks = _blocks_that_fit(replace(product, side="oracle"))
        report(f"training step on {setting.edge}^3, {precision}")
        rows.append(_training_row(product, setting, with_oracle=blocks == setting.config.blocks))
        if 0 < blocks < setting.config.blocks:
            report(f"training step on {setting.edge}^3, {precision}, {blocks} block(s) with the oracle")
            fewer = replace(product, config=replace(setting.config, blocks=blocks))
            rows.append(_training_row(fewer, setting, with_oracle=True))
    return rows


def _training_row(product: Workload, setting: Setting, *, with_oracle: bool) -> TrainingRow:
    works = {"product": product}
    if with_oracle:
        works["oracle"] = replace(product, side="oracle")
    prepared = {name: prepare(work) for name, work in works.items()}
    runs = {name: run for name, (_, run) in prepared.items()}
    for run in runs.values():  # the warm-up, from the same parameters
        run()
    gradients = {name: gradient(network) for name, (network, _) in prepared.items()}
    taken = alternate(runs, setting.repeats, setting.device)
    operations = profile(runs["product"], setting.device)
    del prepared, runs  # before a process beside this one takes as much
    memory = {name: peak_memory(work) for name, work in works.items()}
    return {
        "precision": product.precision,
        "patch": product.edge,
        "blocks": product.config.blocks,
        **_compared(taken["product"], taken.get("oracle")),
        "relative_error": relative_error(gradients["product"], gradients["oracle"]) if with_oracle else None,
        **_memories(memory["product"], memory.get("oracle")),
        "operations": operations,
    }


def _blocks_that_fit(oracle: Workload) -> int:
    """Of how many blocks the free memory holds the step, judged by a patch of half the edge."""
    free = free_memory(oracle.device)
    small = peak_memory(oracle.of_edge(oracle.edge // 2))
    if small is None:
        return 0
    if free is None or not small:
        return oracle.config.blocks
    return min(oracle.config.blocks, int(USABLE * free / (8 * small) * oracle.config.blocks))


def _output(work: Workload) -> torch.Tensor:
    return prepare(work)[1]()[0]


def _same_precision(taken: Mapping[str, Timing], precision: str) -> SamePrecision:
    """The oracle's time in the precision of the row, where that is not float32."""
    if f"oracle {precision}" not in taken:
        return {}
    seconds = taken[f"oracle {precision}"].seconds
    return {
        "oracle_same_precision_seconds": seconds,
        "ratio_same_precision": seconds / taken[precision].seconds,
    }


def _rival(rival: LoadedRival, taken: Mapping[str, Timing], precision: str) -> RivalTime:
    """The rival's time beside the engine's in `precision`."""
    timed = _compared(taken[precision], taken.get(rival.name))
    return {
        "name": rival.name,
        "version": rival.version,
        "problem": rival.problem,
        "seconds": timed["oracle_seconds"],
        "cpu_seconds": timed["oracle_cpu_seconds"],
        "ratio": timed["ratio"],
        "cpu_ratio": timed["cpu_ratio"],
        "relative_error": rival.relative_error,
    }


def _compared(product: Timing, oracle: Timing | None) -> Compared:
    oracle_cpu = oracle.cpu_seconds if oracle else None
    return {
        "seconds": product.seconds,
        "oracle_seconds": oracle.seconds if oracle else None,
        "ratio": oracle.seconds / product.seconds if oracle else None,
        "cpu_seconds": product.cpu_seconds,
        "oracle_cpu_seconds": oracle_cpu,
        "cpu_ratio": oracle_cpu / product.cpu_seconds
        if oracle_cpu is not None and product.cpu_seconds
        else None,
    }


def _memories(product: int | None, oracle: int | None) -> Memories:
    return {
        "peak_memory_bytes": product,
        "oracle_peak_memory_bytes": oracle,
        "memory_ratio": product / oracle if product is not None and oracle else None,
    }
