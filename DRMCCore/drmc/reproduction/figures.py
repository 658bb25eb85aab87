"""Figures 3c and 3d: PSNR against the number of experts and of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drmc.pages.colors import series_color
from drmc.pages.plot import Plot, ticks
from drmc.pages.text import number
from drmc.reproduction.cells import PSNR, Column, Measured, Metric
from drmc.reproduction.config import ReproductionConfig
from drmc.reproduction.document import Figure, Table

NAMES = {"C_kn": "known centers", "C_ukn": "unknown centers"}
NOTE = (
    "Figures: mean over centers of the mean PSNR over patients, range 20 SUV, in the body. Table: "
    "first as in the authors' code, then with range 20. The paper draws its values and prints none."
)


def size_figures(
    config: ReproductionConfig, measured: Measured, columns: Sequence[Column]
) -> list[str | Table | Figure]:
    """The figures and a table of their points, of the trainings that were evaluated; [] without any.

    Args:
        config: the configuration.
        measured: the results.
        columns: the known and the unknown centers.
    """
    figures, lines = [], []
    for figure, letter, trainings in (
        ("3c", "M", config.figure_3c),
        ("3d", "N", config.figure_3d),
    ):
        points = {int(count): name for count, name in trainings.items()}
        for column in columns:
            found = _points(measured, points, PSNR[1], column)
            if found:
                figures.append((f"figure-{figure}-{column.name}", _plot(letter, column, found)))
        for count, name in sorted(points.items()):
            values = [measured.value(name, metric, column) for metric in PSNR for column in columns]
            if any(value is not None for value in values):
                lines.append([f"{letter} = {count}", *(number(v, 2, absent="") for v in values)])
    if not lines:
        return []
    head = [f"{column.name}, {name}" for name in ("authors' PSNR", "PSNR") for column in columns]
    return [Figure(figures), Table(["", *head], lines), NOTE]


def _points(
    measured: Measured, points: Mapping[int, str], metric: Metric, column: Column
) -> list[tuple[float, float]]:
    values = {count: measured.value(name, metric, column) for count, name in sorted(points.items())}
    return [(float(count), value) for count, value in values.items() if value is not None]


def _plot(letter: str, column: Column, points: list[tuple[float, float]]) -> str:
    heights = [value for _, value in points]
    middle, reach = (max(heights) + min(heights)) / 2, max(0.05, 0.7 * (max(heights) - min(heights)))
    low, high = middle - reach, middle + reach
    first, last = points[0][0], points[-1][0]
    kind = "experts of a bank, M" if letter == "M" else "blocks, N"
    plot = Plot(NAMES.get(column.name, column.name), (first - 0.5, last + 0.5), (low, high), size=(340, 240))
    plot.axes({x: f"{x:g}" for x, _ in points}, ticks(low, high), f"Number of {kind}", "PSNR [dB]")
    color = series_color(0 if column.name == "C_kn" else 1)
    plot.line(points, color)
    for x, y in points:
        plot.dot(x, y, color, f"{letter} = {x:g}: {y:.2f} dB")
    return plot.svg(f"PSNR of {NAMES.get(column.name, column.name)} against {letter}")
