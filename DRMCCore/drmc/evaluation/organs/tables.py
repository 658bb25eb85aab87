"""The tables of an evaluation of organs: the same for the terminal, table.md and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from drmc.evaluation.organs import paper
from drmc.evaluation.organs.aims import words
from drmc.evaluation.organs.cases import LABEL_MAP, PROCEDURAL
from drmc.evaluation.organs.groups import CENTER, CONDITIONS, DOSE, NO_IMAGE, TRACER, find
from drmc.evaluation.organs.records import TEMPLATE, Group, OrganEvaluation, Row, Spread
from drmc.evaluation.organs.scores import FINE_MM, TOLERANCE_MM
from drmc.evaluation.tables import aims_table, markdown_table, number, percent
from drmc.files import csv_text
from drmc.organs.table import classes

CSV = ("dice", "surface_dice", "surface_dice_fine", "hd95_mm", "volume_error", "suv_error", "suv_error_truth")
_PLACES = 3


class Table(NamedTuple):
    """A table of text: its title, the names of the columns, the lines, and what explains it."""

    title: str
    head: list[str]
    lines: list[list[str]]
    note: str


def tables(result: OrganEvaluation) -> Iterator[Table]:
    """All tables with lines, in their order."""
    found = result["groups"]
    centers = list(dict.fromkeys(g["value"] for g in found if g["by"] == CENTER))
    made = [
        _overview(result, centers),
        _doses(found),
        _tracers(found),
        _presence(found),
        Table("Beside the paper", list(paper.HEAD), paper.lines(found), result["sentence"]),
    ]
    for condition in CONDITIONS:
        made.append(_organs(found, condition, centers))
        made.append(_measures(found, condition))
    yield from (one for one in made if one.lines)


def markdown(result: OrganEvaluation) -> str:
    """All tables and the aims as Markdown."""
    parts = ["### Aims", aims_table(result["aims"]), paper.SHORT]
    for one in tables(result):
        note = [one.note] if one.note == result["sentence"] else [one.note, paper.SHORT]
        parts += [f"### {one.title}", markdown_table(one.head, one.lines), " ".join(filter(None, note))]
    return "\n\n".join(parts) + "\n"


def rows_csv(rows: Sequence[Row]) -> str:
    """Long form: a line per image, organ and measure."""
    head = ("data", "anatomy", "center", "case", "tracer", "method", "corrected", "dose_reduction_factor")
    lines = (
        [
            *("simulated", row["anatomy"], row["center"], row["case"], row["tracer"], row["method"]),
            *("yes" if row["corrected"] else "no", f"{row['dose_reduction_factor']:g}", organ),
            *(_cell(score[key]) for key in ("reference_ml", "found_ml", *CSV, "centroid_mm")),  # type: ignore[literal-required]
        ]
        for row in rows
        for organ, score in row["scores"]["organs"].items()
    )
    return csv_text([*head, "organ", "reference_ml", "found_ml", *CSV, "centroid_mm"], lines)


def _overview(result: OrganEvaluation, centers: Sequence[str]) -> Table:
    found, known = result["groups"], result["known_centers"]
    anatomies = (PROCEDURAL, LABEL_MAP)
    template = [find(found, anatomy=a, condition=NO_IMAGE, method=TEMPLATE) for a in anatomies]
    lines = []
    for condition in CONDITIONS:
        drawn, shapes = (find(found, anatomy=a, condition=condition) for a in (PROCEDURAL, LABEL_MAP))
        if drawn is None and shapes is None:
            continue
        by_center = [
            find(found, anatomy=PROCEDURAL, condition=condition, by=CENTER, value=center)
            for center in centers
        ]
        lines.append(
            [
                words(condition),
                *map(_dice, by_center),
                _dice(drawn, sd=True),
                _dice(shapes, sd=True),
                number(result["gap"].get(condition), _PLACES, sign=True),
                *(_dice(one) for one in template),
            ]
        )
    name = lambda center: center if known is None or center in known else f"{center} (unknown)"
    head = ["condition", *map(name, centers), "all procedural", "label maps", "gap"]
    made_of = "" if result["template"] is None else TEMPLATE_NOTE.format(**result["template"])
    note = f"Mean (± sd) over scans of the mean over 23 organs. Gap: procedural minus label maps. {made_of}"
    return Table("Mean Dice", [*head, "template, procedural", "template, label maps"], lines, note.strip())


DRAWN = "Procedural patients."
TEMPLATE_NOTE = (
    "Template: the mean shape of {patients} training patients, laid over each patient by the true centroids "
    "of the organs, without any look at the image; what a network reaches beyond it was read from the image."
)


def _doses(found: Sequence[Group]) -> Table:
    parts: dict[str, dict[str, str]] = {}
    for group in found:
        if group["by"] == DOSE and group["anatomy"] == PROCEDURAL:
            kind = group["condition"].split("_")[0]
            parts.setdefault(group["value"], {})[kind] = _dice(group)
    lines = [
        [value, own.get("corrected", ""), own.get("uncorrected", "")] for value, own in sorted(parts.items())
    ]
    return Table("Mean Dice by dose", ["center, dose", "corrected", "uncorrected"], lines, DRAWN)


def _tracers(found: Sequence[Group]) -> Table:
    names = sorted({g["value"] for g in found if g["by"] == TRACER and g["anatomy"] == PROCEDURAL})
    lines = []
    for name in names:
        own = [find(found, anatomy=PROCEDURAL, condition=c, by=TRACER, value=name) for c in CONDITIONS]
        scans = sum(group["scans"] for group in own if group is not None)
        lines.append([name, str(scans), *map(_dice, own)])
    head = ["tracer", "scans", *map(words, CONDITIONS)]
    return Table("Mean Dice by tracer", head, lines, DRAWN)


def _presence(found: Sequence[Group]) -> Table:
    lines = [
        [
            anatomy,
            words(condition),
            str(group["scans"]),
            percent(group["found"], 1),
            percent(group["invented"], 1),
            "–" if group["side_error"] is None else f"{group['side_error']:.2g}",
        ]
        for anatomy in (PROCEDURAL, LABEL_MAP)
        for condition in CONDITIONS
        if (group := find(found, anatomy=anatomy, condition=condition)) is not None
    ]
    head = [
        "anatomy",
        "condition",
        "scans",
        "organs found",
        "absent ones invented",
        "voxels on the wrong side",
    ]
    return Table("Presence and sides", head, lines, "An organ counts from 1 ml on.")


def _organs(found: Sequence[Group], condition: str, centers: Sequence[str]) -> Table:
    columns = [
        find(found, anatomy=PROCEDURAL, condition=condition, by=CENTER, value=center) for center in centers
    ]
    columns += [find(found, anatomy=a, condition=condition) for a in (PROCEDURAL, LABEL_MAP)]
    lines = []
    for one in classes():
        own = [_of(group, one.key, "dice")["mean"] if _has(group, one.key) else None for group in columns]
        if any(value is not None for value in own):
            name = one.name if one.counts else f"{one.name} (extra)"
            lines.append([name, *(number(value, _PLACES) or "–" for value in own)])
    if lines:
        lines.append(["mean of the 23", *map(_dice, columns)])
        largest = [None if group is None else group["dice_largest"] for group in columns]
        lines.append(["mean of the 12 largest", *(number(value, _PLACES) or "–" for value in largest)])
    head = ["organ", *centers, "all procedural", "label maps"]
    return Table(
        f"Dice by organ, {words(condition)}", head, lines, "Mean over the scans where the organ counts."
    )


def _measures(found: Sequence[Group], condition: str) -> Table:
    lines = []
    for anatomy in (PROCEDURAL, LABEL_MAP):
        group = find(found, anatomy=anatomy, condition=condition)
        for one in classes():
            if group is None or not _has(group, one.key):
                continue
            own = group["organs"][one.key]
            lines.append(
                [
                    *(anatomy, one.name, str(own["dice"]["n"])),
                    number(own["surface_dice"]["mean"], _PLACES),
                    number(own["surface_dice_fine"]["mean"], _PLACES) or "–",
                    number(own["hd95_mm"]["median"], 1) or "–",
                    *(_quartiles(own[key]) for key in ("volume_error", "suv_error", "suv_error_truth")),
                    number(own["centroid_mm"]["median"], 1) or "–",
                    *(str(own[key]) for key in ("missed", "invented")),
                ]
            )
    head = ["anatomy", "organ", "n", f"surface Dice {TOLERANCE_MM:g} mm", f"{FINE_MM:g} mm", "HD95 [mm]"]
    head += ["volume error", "SUVmean error", "on the truth", "centroid [mm]", "missed", "invented"]
    note = (
        "Surface Dice: mean. HD95 and centroid: median, of organs that were found. Errors: median "
        "[quartiles], of SUVmean on the corrected image of the same dose."
    )
    return Table(f"Surfaces, volumes and uptake, {words(condition)}", head, lines, note)


def _has(group: Group | None, key: str) -> bool:
    return group is not None and key in group["organs"]


def _of(group: Group | None, key: str, measure: str) -> dict[str, Any]:
    assert group is not None
    return group["organs"][key][measure]


def _dice(group: Group | None, *, sd: bool = False) -> str:
    if group is None or group["dice"]["mean"] is None:
        return "–"
    own: Spread = group["dice"]
    return number(own["mean"], _PLACES) + (f" ± {number(own['sd'], _PLACES)}" if sd and own["n"] > 1 else "")


def _quartiles(own: Spread) -> str:
    if own["median"] is None or own["quartiles"] is None:
        return "–"
    low, high = own["quartiles"]
    middle, first, last = (percent(value, 1, sign=True) for value in (own["median"], low, high))
    return f"{middle} [{first}, {last}]"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
