"""Total uptake above a threshold, with and without what is marked as physiological; nothing is taken away.

Volumes in ml; TLG is volume times mean [SUV x ml]; positions (x, y, z) in mm, LPS.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypedDict

from drmc.files import write_rows
from drmc.measures.candidates import Candidate

PHYSIOLOGICAL = "physiological"


class UptakeRow(TypedDict):
    """One connected part above the threshold, a row of uptake.csv; None where a number is not defined."""

    scan: str
    name: str
    volume_ml: float
    suv_max: float
    suv_peak: float | None
    suv_mean: float
    tlg: float
    suv_max_x_mm: float
    suv_max_y_mm: float
    suv_max_z_mm: float
    organ: str | None
    organ_share: float
    mark: str


class Total(TypedDict):
    """The sum over some parts."""

    count: int
    volume_ml: float
    tlg: float


COLUMNS = tuple(UptakeRow.__annotations__)


def uptake_rows(scan: str, found: Iterable[Candidate]) -> list[UptakeRow]:
    """The rows of uptake.csv; `scan`: the name in the column `scan`."""
    rows: list[UptakeRow] = []
    for one in found:
        x, y, z = one.position_mm
        rows.append(
            {
                "scan": scan,
                "name": one.segment.name,
                "volume_ml": one.volume_ml,
                "suv_max": one.suv_max,
                "suv_peak": one.suv_peak,
                "suv_mean": one.suv_mean,
                "tlg": one.tlg,
                "suv_max_x_mm": x,
                "suv_max_y_mm": y,
                "suv_max_z_mm": z,
                "organ": one.organ,
                "organ_share": one.organ_share,
                "mark": PHYSIOLOGICAL if one.is_physiological else "",
            }
        )
    return rows


def totals(found: Sequence[Candidate]) -> dict[str, Total]:
    """The burden of all parts (`all`), of those not marked (`without_physiological`), and of the others."""
    marked = [one for one in found if one.is_physiological]
    rest = [one for one in found if not one.is_physiological]
    return {"all": _total(found), "without_physiological": _total(rest), PHYSIOLOGICAL: _total(marked)}


def _total(found: Sequence[Candidate]) -> Total:
    return {
        "count": len(found),
        "volume_ml": float(sum(one.volume_ml for one in found)),
        "tlg": float(sum(one.tlg for one in found)),
    }


def write_uptake_csv(path: str | os.PathLike[str], rows: Iterable[UptakeRow]) -> None:
    """Writes uptake.csv."""
    write_rows(path, COLUMNS, rows)
