"""A benchmark's result as tables: for a terminal, and as Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from drmc.benchmark.records import (
    Compared,
    Measurements,
    Memories,
    Result,
    ScalingResult,
    ScanResult,
    TileRow,
    TrainingRow,
)
from drmc.runtime.progress import table_lines

DISTURBED = 0.9
"""Share of its threads' time that the engine got, below which other work ran on the same cores."""
PREAMBLE = """\
# Speed and memory

Written by `drmc benchmark --page` from what `drmc benchmark --json` measured. The engine is compared with the
literal oracle, equations 1 and 2 of the paper computed expert by expert (`drmc/benchmark/oracle.py`), in the
same process, in turn. Seconds are medians after a warm-up; memory is the peak of a fresh process (on a GPU:
of the allocator) above network and input; the error of a tile is that of its residual against the oracle in
float64, that of a training step is that of all gradients against the oracle in the same precision. A ratio is
how many times as fast as the oracle in float32 (training: in the same precision); the ratio by processor time
beside it changes less where other work disturbs the clock. GFLOP/s count the engine's own multiply-adds,
their share is of a large matrix product measured in the same process.
"""
Table = tuple[str, list[str], list[list[str]], list[str]]  # heading, titles, cells, lines below


def terminal(result: Result) -> str:
    """The result as text for a terminal."""
    lines = [machine(result), *_remarks(result)]
    for heading, titles, cells, below in [*_tables(result), *_verdicts([result])]:
        lines += ["", heading, *(table_lines(titles, cells) if cells else []), *below]
    return "\n".join(lines) + "\n"


def page(results: Sequence[Result]) -> str:
    """A Markdown page of the results of several machines; successive ones of one machine are one section."""
    parts = [PREAMBLE]
    for name, group in itertools.groupby(results, machine):
        of_machine = list(group)
        parts.append(f"## {name}\n")
        for result in of_machine:
            parts += [f"{remark}\n" for remark in _remarks(result)]
            parts += map(_markdown, _tables(result))
        parts += map(_markdown, _verdicts(of_machine))
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
    if result["tile"] or result["training_step"] or result["scaling"]:  # a scan has its model
        size = [_count(network[name], name[:-1]) for name in ("channels", "blocks", "experts")]
        remarks.append(f"Network of {', '.join(size)}; medians of {settings['repeats']}.")
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
    if shares and min(shares) < DISTURBED:
        worst = f"{100 * min(shares):.0f} %"
        remarks.append(f"Disturbed: other work ran here, the engine got {worst} of its cores' time at worst.")
    return remarks + list(settings["notes"])


def _tables(result: Measurements) -> Iterator[Table]:
    if result["tile"]:
        yield _tile_table(result["tile"])
    if result["training_step"]:
        yield _training_table(result["training_step"])
    if result["scan"]:
        yield _scan_table(result["scan"])
    if result["scaling"]:
        yield _scaling_table(result["scaling"])


def _tile_table(rows: Sequence[TileRow]) -> Table:
    edge = rows[0]["tile"]
    return (
        f"One tile of {edge}^3",
        ["precision", "open", *_COMPARED, "error", *_MEMORY, "GFLOP/s", "of ceiling"],
        [
            [
                row["precision"],
                f"{row['open_gates']} of {row['experts']}",
                *_compared(row),
                f"{row['relative_error']:.1e}",
                *_memory(row),
                f"{row['gflop_per_second']:.3g}",
                f"{100 * row['ceiling_share']:.0f} %",
            ]
            for row in rows
        ],
        [
            f"The oracle in {row['precision']}, {row['open_gates']} of {row['experts']} gates open: "
            f"{_seconds(row['oracle_same_precision_seconds'])} s, {row['ratio_same_precision']:.1f} times."
            for row in rows
            if "ratio_same_precision" in row
        ]
        + [_operations(row, f"{row['precision']}, {row['open_gates']} open") for row in rows],
    )


def _training_table(rows: Sequence[TrainingRow]) -> Table:
    return (
        f"Training step on a patch of {rows[0]['patch']}^3",
        ["precision", "blocks", *_COMPARED, "error", *_MEMORY],
        [
            [
                row["precision"],
                str(row["blocks"]),
                *_compared(row),
                "-" if row["relative_error"] is None else f"{row['relative_error']:.1e}",
                *_memory(row),
            ]
            for row in rows
        ],
        [
            f"The free memory did not suffice for the oracle's step with {row['blocks']} blocks."
            for row in rows
            if row["oracle_seconds"] is None
        ]
        + [_operations(row, f"{row['precision']}, {_count(row['blocks'], 'block')}") for row in rows],
    )


def _scan_table(scan: ScanResult) -> Table:
    total = scan["seconds"]["total"]
    gpu = scan["gpu_peak_memory_bytes"]
    tiles, name = scan["tiles"], scan["model"]["name"]
    return (
        f"Scan {scan['scan']}: {tiles['count']} tiles of {tiles['edge']}^3, {name}, {_where(scan)}",
        ["stage", "seconds", "share"],
        [
            [
                stage.removeprefix("denoise_").replace("_", " "),
                f"{taken:.2f}",
                f"{100 * taken / total:.0f} %",
            ]
            for stage, taken in scan["seconds"].items()
        ],
        [
            f"Peak memory {_bytes(scan['peak_memory_bytes'])}"
            + ("." if gpu is None else f", of the GPU {_bytes(gpu)}.")
        ],
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


_COMPARED = ["seconds", "oracle [s]", "ratio", "by processor"]
_MEMORY = ["memory", "oracle's", "share"]


def _compared(row: Compared) -> list[str]:
    return [
        _seconds(row["seconds"]),
        _seconds(row["oracle_seconds"]),
        _times(row["ratio"]),
        _times(row["cpu_ratio"]),
    ]


def _memory(row: Memories) -> list[str]:
    share = row["memory_ratio"]
    return [
        _bytes(row["peak_memory_bytes"]),
        _bytes(row["oracle_peak_memory_bytes"]),
        "-" if share is None else f"{share:.2f}",
    ]


def _operations(row: TileRow | TrainingRow, name: str) -> str:
    listed = ", ".join(f"{one['operation']} {100 * one['share']:.0f} %" for one in row["operations"])
    return f"Where the time goes ({name}): {listed}."


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
