"""Contact sheets: truth, full dose and every low dose of the cases of a center, on one gray scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import numpy as np

from drmc.datasets.manifest import Case
from drmc.denoising.staging import check_output_folder
from drmc.errors import InputError
from drmc.files import atomic_path, write_text
from drmc.imaging.body import body_mask
from drmc.pages.colors import inverted_gray
from drmc.pages.markup import section
from drmc.pages.page import page
from drmc.pages.png import png
from drmc.pages.views import anatomical_spacing, extent, resized, to_anatomical, uptake_center
from drmc.pages.windows import window_of_uptake

VIEWS = ("MIP", "coronal", "axial")
_TALLEST = 360  # pixels of the tallest picture
_FINEST_MM = 1.0  # of a pixel
_GAP = 4
_GROUND = 225

_STYLE = """
main { max-width: none; } .sheet { position: relative; padding-top: 22px; }
.sheet img { display: block; width: 100%; height: auto; }
.sheet span { position: absolute; font: 600 11px/1.2 system-ui, sans-serif; white-space: nowrap; }
.sheet .column { top: 4px; transform: translateX(-50%); color: var(--soft); }
.sheet .row { left: 4px; transform: translateY(-100%); color: #17262c; \
background: rgba(255, 255, 255, 0.75); padding: 1px 3px; }
"""


@dataclass(frozen=True)
class Sheet:
    """A picture and where its labels belong, as fractions of its width and height."""

    path: Path
    gray_top: float
    columns: list[tuple[str, float]]
    rows: list[tuple[str, float]]
    left_out: int


@dataclass
class _Row:
    """The pictures (height, width) of one case by view and dose, `step` mm per pixel."""

    case: Case
    panels: dict[tuple[str, str], np.ndarray]


def write_sheets(cases: Sequence[Case], folder: Path, *, title: str, limit: int = 12) -> Path:
    """Writes a PNG per center and sheet.html, which shows and labels them; returns the page's path."""
    centers: dict[str, list[Case]] = {}
    for case in cases:
        centers.setdefault(case.center, []).append(case)
    if not centers:
        raise InputError("there is no readable case to make a picture of")
    check_output_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sheets = {
        center: contact_sheet(found, folder / f"{center}.png", limit=limit)
        for center, found in centers.items()
    }
    path = folder / "sheet.html"
    write_text(path, _page(title, sheets))
    return path


def contact_sheet(cases: Sequence[Case], path: Path, *, limit: int = 12) -> Sheet:
    """Draws the first `limit` cases of one center into a PNG.

    A row is a patient; its columns are, by view (maximum-intensity projection from the front, a coronal and
    an axial slice through the center of the uptake), truth where it is stored, full dose, and the low doses.
    All are on one gray scale, 0 to `gray_top` SUV, in true proportions, cut to the body; the patient's right
    is on the left.
    """
    shown = list(cases[:limit])
    step, gray_top = _scale(shown)
    rows = [_row(case, step) for case in shown]
    names: list[tuple[str, str]] = []
    for view in VIEWS:
        doses = dict.fromkeys(dose for row in rows for panel_view, dose in row.panels if panel_view == view)
        names += [(view, dose) for dose in sorted(doses, key=_dose_order)]
    empty = np.zeros((0, 0))
    width = {n: max(row.panels.get(n, empty).shape[1] for row in rows) for n in names}
    height = [max(panel.shape[0] for panel in row.panels.values()) for row in rows]
    total = (sum(height) + _GAP * (len(rows) + 1), sum(width.values()) + _GAP * (len(names) + 1))
    canvas = np.full(total, _GROUND, np.uint8)
    columns: list[tuple[str, float]] = []
    labels: list[tuple[str, float]] = []
    y = _GAP
    for row, tall in zip(rows, height, strict=True):
        x = _GAP
        labels.append((f"{row.case.case_id} ({row.case.split})", (y + tall) / total[0]))
        for name in names:
            cell = np.zeros((tall, width[name]), np.float32)
            panel = row.panels.get(name, empty)
            top, left = ((a - b) // 2 for a, b in zip(cell.shape, panel.shape, strict=True))
            cell[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
            canvas[y : y + tall, x : x + width[name]] = inverted_gray(cell, gray_top)
            if not columns or len(columns) < len(names):
                columns.append((" ".join(name), (x + width[name] / 2) / total[1]))
            x += width[name] + _GAP
        y += tall + _GAP
    with atomic_path(path) as temporary:
        temporary.write_bytes(png(canvas))
    return Sheet(path, gray_top, columns, labels, len(cases) - len(shown))


def _scale(cases: Sequence[Case]) -> tuple[float, float]:
    """Millimeters per pixel and the SUV that is black, one for the whole sheet."""
    heights, hot = [], []
    for case in cases:
        volume = case.read(case.full)
        spacing = anatomical_spacing(volume.geometry.spacing_zyx, volume.geometry.direction)
        full = to_anatomical(volume.suv_array(), volume.geometry.direction)
        heights.append(full.shape[0] * spacing[0])
        inside = full[full > 1]
        hot.append(float(np.median(inside)) if inside.size else 0.0)
    return max(_FINEST_MM, max(heights) / _TALLEST), window_of_uptake(float(np.median(hot)))


def _row(case: Case, step: float) -> _Row:
    full = case.read(case.full)
    direction = full.geometry.direction
    spacing = anatomical_spacing(full.geometry.spacing_zyx, direction)
    suv = to_anatomical(full.suv_array(), direction)
    body = body_mask(suv, spacing)
    box = tuple(extent(body, axis, spacing[axis]) for axis in range(3))
    point = uptake_center(suv[box])
    panels: dict[tuple[str, str], np.ndarray] = {}
    doses: dict[str, Callable[[], np.ndarray]] = {}  # read one at a time
    if case.truth is not None:
        doses["truth"] = lambda: case.read_truth()[0]
    doses["full"] = full.suv_array
    doses |= {f"1/{factor:g}": partial(_suv, case, case.low[factor]) for factor in sorted(case.low)}
    for dose, suv_array in doses.items():
        cut = to_anatomical(suv_array(), direction)[box]
        coronal = (spacing[0], spacing[2])
        panels["MIP", dose] = resized(cut.max(axis=1), coronal, step)
        panels["coronal", dose] = resized(cut[:, point[1]], coronal, step)
        panels["axial", dose] = resized(cut[point[0]], (spacing[1], spacing[2]), step)
    return _Row(case, panels)


def _suv(case: Case, path: Path) -> np.ndarray:
    return case.read(path).suv_array()


def _dose_order(dose: str) -> float:
    return {"truth": -2.0, "full": -1.0}.get(dose) or float(dose.removeprefix("1/"))


def _page(title: str, sheets: dict[str, Sheet]) -> str:
    parts = []
    for center, sheet in sheets.items():
        left = f" The first {len(sheet.rows)} cases; {sheet.left_out} more are not shown." * bool(
            sheet.left_out
        )
        columns = "".join(
            f'<span class="column" style="left:{100 * x:.3f}%">{escape(text)}</span>'
            for text, x in sheet.columns
        )
        rows = "".join(
            f'<span class="row" style="top:calc(22px + (100% - 22px) * {y:.5f})">{escape(text)}</span>'
            for text, y in sheet.rows
        )
        content = (
            f'<p class="note">White is SUV 0, black SUV {sheet.gray_top:g} and above, '
            "the same in every picture; cut to the body, true proportions, patient’s right on the left."
            f'{left} <a href="{escape(sheet.path.name)}">The picture alone</a></p><div class="scroll"><div '
            f'class="sheet" style="min-width:{95 * len(sheet.columns)}px">{columns}<img '
            f'alt="{escape(center)}" src="{escape(sheet.path.name)}">{rows}</div></div>'
        )
        parts.append(section(escape(center), content))
    return page(title, "".join(parts), style=_STYLE)
