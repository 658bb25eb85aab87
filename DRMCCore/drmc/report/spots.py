"""The report's table of virtual spots: which share of small faint foci denoising keeps in this scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drmc.measures.rows import LEAST_KEPT
from drmc.pages.markup import table
from drmc.pages.text import mapping, number, plain, share
from drmc.report.summary import Summary

_TITLES = (
    "Diameter [mm]",
    "Peak [SUV]",
    "Spots",
    "1 ml mean kept",
    "Worst tenth",
    "Peak kept",
    "Gaussian: 1 ml mean",
    "Gaussian: peak",
)
_BESIDE = ("mean_kept_low", "peak_kept", "gaussian_mean_kept", "gaussian_peak_kept")  # the columns after it
_NOTE = (
    '<p class="note">{spots} balls of uptake, blurred by {resolution} mm, were added in the body, '
    "where uptake is not high, and the scan was denoised with and without them (strength {strength}). The "
    "table has the share of their contrast that is kept; worst tenth: what nine of ten spots keep at least. "
    "{beside} A real focus brings noise of its own, a virtual one does not.</p>"
)


def sentence(found: Mapping[str, Any]) -> str:
    """A warning for messages if too little of some virtual spots is kept; "" if enough is, or unmeasured."""
    rows = list(found.get("rows") or ())
    low = [row for row in rows if row.get("warning")]
    if not low:
        return ""
    least = min(low, key=lambda row: row["mean_kept"])
    return (
        f"virtual spots: {len(low)} of {len(rows)} kinds keep less than {100 * LEAST_KEPT:.0f} % of their "
        f"contrast, the least {share(least['mean_kept'], LEAST_KEPT)} ({least['diameter_mm']:g} mm, "
        f"+{least['peak_suv']:g} SUV): small faint lesions may be lost"
    )


def least_percent(found: Mapping[str, Any]) -> str | None:
    """The smallest share in the table, in percent as it stands there; None without one."""
    shares = [row["mean_kept"] for row in found.get("rows") or ()]
    return share(min(shares), LEAST_KEPT).removesuffix(" %") if shares else None


def gaussian_text(width_mm: float | None) -> str:
    """Which Gaussian filter leaves as much noise as denoising."""
    if width_mm is None:
        return "no Gaussian filter leaves as little noise"
    return f"a Gaussian of {width_mm:g} mm leaves as much noise"


def spots_html(summary: Summary) -> str:
    """The table as HTML; "" if virtual spots were not measured."""
    found = mapping(summary.get("virtual_spots"))
    rows = [mapping(row) for row in found.get("rows") or ()]
    if not rows:
        return ""
    lines = []
    for row in rows:
        beyond = ' class="beyond"' if row.get("warning") else ""
        lines.append(
            f"<tr><td>{number(row.get('diameter_mm'), 0)}</td>"
            f"<td>{number(row.get('peak_suv'), 0, sign=True)}</td>"
            f"<td>{plain(row.get('spots'))}</td><td{beyond}>{share(row.get('mean_kept'), LEAST_KEPT)}</td>"
            + "".join(f"<td>{share(row.get(key), LEAST_KEPT)}</td>" for key in _BESIDE)
            + "</tr>"
        )
    beside = gaussian_text(found.get("gaussian_fwhm_mm"))
    note = _NOTE.format(
        spots=plain(found.get("spots")),
        resolution=number(found.get("resolution_mm"), 1),
        strength=plain(found.get("strength")),
        beside=f"{beside[0].upper()}{beside[1:]}.",
    )
    return table("".join(f"<th>{title}</th>" for title in _TITLES), lines) + note
