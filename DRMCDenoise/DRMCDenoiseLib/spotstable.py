"""What a run has kept of virtual spots, for people."""

from __future__ import annotations

import json
from typing import Any

from drmc.measures.rows import LEAST_KEPT
from drmc.pages.text import share
from DRMCCoreLib.nodes.names import VIRTUAL_SPOTS_ATTRIBUTE
from slicer.i18n import tr as _


def virtualSpots(volumeNode) -> dict[str, Any]:
    """The table that a denoised volume keeps (drmc.measures.rows.SpotsTable); {} without."""
    text = None if volumeNode is None else volumeNode.GetAttribute(VIRTUAL_SPOTS_ATTRIBUTE)
    return json.loads(text) if text else {}


def spotsText(found: dict[str, Any]) -> str:
    """The table as rich text, a line per diameter and a column per peak; "" without one."""
    rows = {(row["diameter_mm"], row["peak_suv"]): row for row in found.get("rows", ())}
    if not rows:
        return ""
    diameters, peaks = (sorted({kind[axis] for kind in rows}) for axis in (0, 1))
    head = "".join(f"<th>{_('+{peak:g} SUV').format(peak=peak)}</th>" for peak in peaks)
    lines = [
        f"<tr><th>{_('{diameter:g} mm').format(diameter=diameter)}</th>"
        + "".join(f"<td>{_cell(rows.get((diameter, peak)))}</td>" for peak in peaks)
        + "</tr>"
        for diameter in diameters
    ]
    title = _(
        "Share of the contrast of {count} virtual spots that is kept at strength {strength:g}; in brackets "
        "by a Gaussian filter that leaves as much noise:"
    ).format(count=found["spots"], strength=found["strength"])
    warning = ""
    if any(row["warning"] for row in rows.values()):
        warning = _("Bold: less than {least:.0f} %. Small faint lesions may be lost.").format(
            least=100 * LEAST_KEPT
        )
    return f'{title}<table cellpadding="3"><tr><th></th>{head}</tr>{"".join(lines)}</table>{warning}'


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "\u2013"
    kept, gaussian = (share(row[key], LEAST_KEPT) for key in ("mean_kept", "gaussian_mean_kept"))
    return f"<b>{kept}</b> ({gaussian})" if row["warning"] else f"{kept} ({gaussian})"
