"""A benchmark's result as tables: for a terminal, and as Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from drmc.benchmark.records import (
    Measurements,
    ParallelResult,
    Result,
    ScalingResult,
    ScanResult,
    TileRow,
    TrainingRow,
)
from drmc.benchmark.rivals import EXTRA
from drmc.runtime.progress import table_lines

FULL_SHARE = 0.9
"""Share of its threads' time in which the engine computed, below which that is said."""
PREAMBLE = """\
# Speed and memory

Printed by `drmc benchmark --page` from what `drmc benchmark --json` measured. The oracle is equations 1 and 2
of the paper in PyTorch, expert by expert (`drmc/benchmark/oracle.py`); ONNX Runtime and OpenVINO compute its
graph (`pip install drmc[benchmark]`). All run in turn, in one process, each with the same number of threads.

* Seconds, and CPU seconds of all threads: medians after a warm-up. A ratio says how many times as fast the
  engine is; that of CPU seconds changes less where other programs run.
* Error: relative, in the Euclidean norm; of a tile's residual against the oracle in float64, of a training
  step's gradients against the oracle in the same precision.
* Memory: the peak of a fresh process (on a GPU: of the allocator) above network and input.
* Whole bodies to measure: `drmc simulate --centers C1,C3 --patients 1 -o DATASET`.
"""
SMALL_STAGE = 0.01
"""Share of a scan's time below which the table names no stage."""
Table = tuple[str, list[str], list[list[str]], list[str]]  # heading, titles, cells, lines below


def terminal(result: Result) -> str:
    """The result as text for a terminal; what was asked is at the end, where it is seen first."""
    lines = [machine(result), *_remarks(result)]
    for heading, titles, cells, below in [*_tables(result), *_profiles([result]), *_verdicts([result])]:
        lines += ["", heading, *(table_lines(titles, cells) if cells else []), *below]
    return "\n".join(lines) + "\n"


def page(results: Sequence[Result]) -> str:
    """A Markdown page of the results of several machines; successive ones of one machine are one section.

    A section begins with what was asked and ends with the profiles.
    """
    parts = [PREAMBLE]
    for name, group in itertools.groupby(results, machine):
        of_machine = list(group)
        parts.append(f"## {name}\n")
        parts += map(_markdown, _verdicts(of_machine))
        for result in of_machine:
            tables = [_markdown(table) for table in _tables(result)]
            parts += [*tables, " ".join(_remarks(result)) + "\n"]
        parts += map(_markdown, _profiles(of_machine))
    return "\n".join(parts)


def _markdown(table: Table) -> str:
    heading, titles, cells, below = table
    lines = [f"### {heading}", ""]
    if cells:
        lines += [_row(titles), "|---|" + "---:|" * (len(titles) - 1), *map(_row, cells), ""]
    return "\n".join([*lines, *(f"{text}\n" for text in below)])


def machine(result: Measurements) -> str:
    """The hardware on one line."""
    hardware = result["hardware"]
    gpu = f"{hardware['gpu']}, {_bytes(hardware['gpu_memory_bytes'])}; " if "gpu" in hardware else ""
    memory = f", {_bytes(hardware['memory_bytes'])}" if hardware["memory_bytes"] else ""
    cores = _count(hardware["physical_cores"], "core")
    return f"{gpu}{hardware['processor']}, {cores}{memory}"


def _remarks(result: Measurements) -> list[str]:
    hardware, settings = result["hardware"], result["settings"]
    network, measured = settings["network"], [*result["tile"], *result["training_step"]]
    made = [result["created"][:10], *(f"{name} {result['versions'][name]}" for name in ("drmc", "torch"))]
    made += [settings["device"], _count(settings["threads"], "thread")]
    if hardware["load_average"] is not None:
        made.append(f"load average before it {hardware['load_average']:.1f}")
    remarks = [", ".join(made) + "."]
    if measured or result["scaling"] or result["parallel"]:  # a scan has its model
        size = [_count(network[name], name[:-1]) for name in ("channels", "blocks", "experts")]
        network_of = "Network" if settings["model"] is None else f"Network of {settings['model']}"
        runs = f"; medians of {settings['repeats']}" if measured or result["scaling"] else ""
        remarks.append(f"{network_of}: {', '.join(size)}{runs}.")
    if settings["ceiling_gflop_per_second"]:
        speeds = ", ".join(
            f"{speed:.0f} {name}" for name, speed in settings["ceiling_gflop_per_second"].items()
        )
        remarks.append(f"A large matrix product here: {speeds} GFLOP/s.")
    if measured and {row["precision"] for row in measured} == {"fp32"}:
        remarks.append("No bf16: this device only emulates its arithmetic.")
    shares = [
        cpu_seconds / row["seconds"] / settings["threads"]
        for row in measured
        if settings["device"] == "cpu" and row["seconds"] and (cpu_seconds := row["cpu_seconds"]) is not None
    ]
    if shares and min(shares) < FULL_SHARE:
        remarks.append(
            f"At worst the engine computed in {100 * min(shares):.0f} % of its threads' time: they waited "
            "for one another, or other programs ran."
        )
    return remarks + list(settings["notes"])


def _tables(result: Measurements) -> Iterator[Table]:
    model = result["settings"]["model"]
    if result["tile"]:
        yield _tile_table(result["tile"], model)
    if result["training_step"]:
        yield _training_table(result["training_step"], model)
    yield from map(_scan_table, result["scans"])
    if result["scaling"]:
        yield _scaling_table(result["scaling"])
    if result["parallel"]:
        yield _parallel_table(result["parallel"], model)


_MEASURED = ["seconds", "CPU [s]", "ratio", "CPU ratio", "error", "memory"]


def _tile_table(rows: Sequence[TileRow], model: str | None) -> Table:
    return (
        _of(f"One tile of {rows[0]['tile']}^3", model),
        ["computed by", "gates open", *_MEASURED],
        [
            [name, f"{row['open_gates']} of {row['experts']}", *cells]
            for row in rows
            for name, *cells in [*_engine_and_oracle(row, "fp32"), *_same_precision(row), *_rivals(row)]
        ],
        _rivals_left_out(rows),
    )


def _training_table(rows: Sequence[TrainingRow], model: str | None) -> Table:
    return (
        _of(f"Training step on a patch of {rows[0]['patch']}^3", model),
        ["computed by", "blocks", *_MEASURED],
        [
            [name, str(row["blocks"]), *cells]
            for row in rows
            for name, *cells in _engine_and_oracle(row, row["precision"])
        ],
        [
            f"The free memory did not suffice for the oracle's step with {row['blocks']} blocks."
            for row in rows
            if row["oracle_seconds"] is None
        ],
    )


def _engine_and_oracle(row: TileRow | TrainingRow, oracle_precision: str) -> Iterator[list[str]]:
    error, memory = row["relative_error"], row["peak_memory_bytes"]
    yield [
        f"engine, {row['precision']}",
        _seconds(row["seconds"]),
        _seconds(row["cpu_seconds"]),
        *("-", "-", _error(error), _bytes(memory)),
    ]
    if row["oracle_seconds"] is not None:
        yield [
            f"oracle, {oracle_precision}",
            _seconds(row["oracle_seconds"]),
            _seconds(row["oracle_cpu_seconds"]),
            _times(row["ratio"]),
            _times(row["cpu_ratio"]),
            "-",
            _bytes(row["oracle_peak_memory_bytes"]),
        ]


def _same_precision(row: TileRow) -> Iterator[list[str]]:
    if "ratio_same_precision" in row:
        seconds, ratio = row["oracle_same_precision_seconds"], row["ratio_same_precision"]
        yield [f"oracle, {row['precision']}", _seconds(seconds), "-", _times(ratio), "-", "-", "-"]


def _rivals(row: TileRow) -> Iterator[list[str]]:
    for rival in row["rivals"]:
        if rival["problem"] is None:
            yield [
                f"{rival['name']} {rival['version']}, fp32",
                _seconds(rival["seconds"]),
                _seconds(rival["cpu_seconds"]),
                _times(rival["ratio"]),
                _times(rival["cpu_ratio"]),
                _error(rival["relative_error"]),
                "-",
            ]


def _rivals_left_out(rows: Sequence[TileRow]) -> list[str]:
    rivals = [rival for row in rows for rival in row["rivals"]]
    absent = dict.fromkeys(rival["name"] for rival in rivals if rival["version"] is None)
    failed = dict.fromkeys(
        f"{rival['name']} {rival['version']} is left out: {rival['problem']}."
        for rival in rivals
        if rival["version"] is not None and rival["problem"] is not None
    )
    if absent:
        return [f"Not installed: {', '.join(absent)}; pip install {EXTRA}.", *failed]
    return [*failed]


def _scan_table(scan: ScanResult) -> Table:
    total = scan["seconds"]["total"]
    gpu, computed = scan["gpu_peak_memory_bytes"], scan["computed_per_body_voxel"]
    tiles, name = scan["tiles"], scan["model"]["name"]
    small = {stage for stage, share in scan["shares"].items() if share < SMALL_STAGE} | {"other"}
    stages = {stage: taken for stage, taken in scan["seconds"].items() if stage not in {*small, "total"}}
    stages |= {"other": sum(scan["seconds"][stage] for stage in small), "total": total}
    memory = f"Peak memory {_bytes(scan['peak_memory_bytes'])}"
    memory += "" if gpu is None else f", of the GPU {_bytes(gpu)}"
    body = f"{scan['body_voxels'] / 1e6:.2f} million voxels of body"
    below = f"{memory}; {_seconds(scan['cpu_seconds'])} CPU seconds; {body}"
    return (
        f"Scan {scan['scan']}: {_count(tiles['count'], 'tile')} of {tiles['edge']}^3, {name}, {_where(scan)}",
        ["stage", "seconds", "share"],
        [
            [
                stage.removeprefix("denoise_").replace("_", " "),
                f"{taken:.2f}",
                f"{100 * taken / total:.0f} %",
            ]
            for stage, taken in stages.items()
        ],
        [below + ("." if computed is None else f", {computed:.2f} voxels computed for each.")],
    )


def _scaling_table(scaling: ScalingResult) -> Table:
    return (
        f"Scaling with the body's volume, tiles of {scaling['tile']}^3, {_where(scaling)}",
        ["body [ml]", "tiles", "seconds", "ratio"],
        [
            [f"{body['body_ml']:.0f}", str(body["tiles"]), _seconds(body["seconds"]), ratio]
            for body, ratio in zip(
                scaling["bodies"], ["-", *(f"{ratio:.2f}" for ratio in scaling["ratios"])], strict=True
            )
        ],
        [],
    )


def _parallel_table(parallel: ParallelResult, model: str | None) -> Table:
    title = f"{parallel['tiles']} tiles of {parallel['tile']}^3 side by side, {parallel['precision']} on cpu"
    return (
        _of(title, model),
        ["at once", "threads each", "busy processes", "seconds", "s a tile", "CPU [s]", "same bits"],
        [
            [
                str(row["at_once"]),
                str(row["threads"]),
                str(row["busy_processes"]),
                _seconds(row["seconds"]),
                _seconds(row["seconds_per_tile"]),
                _seconds(row["cpu_seconds"]),
                "yes" if row["same_bits"] else "no",
            ]
            for row in parallel["rows"]
        ],
        ["One run each, after a warm-up. Several threads in a tile: as older versions computed it."],
    )


def _verdicts(results: Sequence[Result]) -> Iterator[Table]:
    if asked := [one for result in results for one in result["asked"]]:
        yield (
            "Asked and reached",
            ["what", "asked", "measured", "reached"],
            [
                [
                    one["what"],
                    f"{one['bound']} {_quantity(one['asked'], one['unit'])}",
                    _quantity(one["measured"], one["unit"]),
                    "yes" if one["reached"] else "no",
                ]
                for one in asked
            ],
            [],
        )


def _profiles(results: Sequence[Result]) -> Iterator[Table]:
    lines = []
    for result in results:
        model = result["settings"]["model"]
        for tile in result["tile"]:
            name = f"tile, {tile['precision']}, {tile['open_gates']} of {tile['experts']} gates open"
            ceiling = f"{100 * tile['ceiling_share']:.0f} % of a large matrix product's"
            lines.append(
                _operations(tile, f"{_of(name, model)}; {tile['gflop_per_second']:.3g} GFLOP/s, {ceiling}")
            )
        for step in result["training_step"]:
            name = f"training step, {step['precision']}, {_count(step['blocks'], 'block')}"
            lines.append(_operations(step, _of(name, model)))
    if lines:
        yield "Where the time goes", [], [], lines


def _operations(row: TileRow | TrainingRow, name: str) -> str:
    listed = ", ".join(f"{one['operation']} {100 * one['share']:.0f} %" for one in row["operations"])
    return f"{name[0].upper()}{name[1:]}: {listed}."


def _of(name: str, model: str | None) -> str:
    """The name with that of the model; the paper's network needs none."""
    return name if model is None else f"{name}, {model}"


def _where(part: ScanResult | ScalingResult) -> str:
    return f"{part['precision']} on {part['device']}"


def _quantity(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.0f} %"
    if unit == "of the oracle":
        return f"{100 * value:.0f} % of the oracle's"
    if unit == "bytes":
        return _bytes(value)
    return f"{value:.3g} {unit}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} x"


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
