"""The report's list of foci that denoising lowered by more than noise explains."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from drmc.measures.rows import LOWERED_PERCENT
from drmc.pages.markup import table
from drmc.pages.text import mapping, number, percent, plain
from drmc.report.summary import Summary

_TITLES = (
    "No.",
    "Position, LPS [mm]",
    "Slice",
    "Original, 1 ml mean",
    "Denoised, 1 ml mean",
    "Change",
    "Beyond noise",
    "Lesion",
)
_TEXTS = {"Position, LPS [mm]", "Lesion"}
_NOTE = (
    '<p class="note">Local maxima of the original whose mean over 1 ml fell by at least {percent:.0f} % and '
    "by more than the change of comparable tissue around explains: by more than {limit} standard deviations "
    "of that change, a limit for {candidates} local maxima. <b>A focus listed here need not be a lesion</b>: "
    "it may be physiological uptake, or a rare maximum of noise. <b>A lesion not listed here may have been "
    "lowered too</b>: in a noisy scan its change cannot be told from that of noise. Look at each place in "
    "the original.</p>"
)


def sentence(found: Mapping[str, Any]) -> str:
    """How many foci were lowered by more than noise explains, for messages; "" if none was."""
    count = found.get("count") or 0
    if not count:
        return ""
    foci = "1 focus was" if count == 1 else f"{count} foci were"
    return f"{foci} lowered by more than noise explains: see the list in the report"


def foci_html(summary: Summary) -> str:
    """The list as HTML; "" if no focus was lowered by more than noise explains."""
    found = mapping(summary.get("lowered_foci"))
    foci = [mapping(focus) for focus in found.get("foci") or ()]
    if not foci:
        return ""
    head = "".join(f'<th class="text">{t}</th>' if t in _TEXTS else f"<th>{t}</th>" for t in _TITLES)
    lines = []
    for focus in foci:
        place = ", ".join(number(focus.get(f"{axis}_mm"), 0, fixed=True) for axis in "xyz")
        lines.append(
            f'<tr><td>{plain(focus.get("rank"))}</td><td class="text">{place}</td>'
            f"<td>{plain(focus.get('slice'))}</td>"
            f"<td>{number(focus.get('suv_before'), 2)}</td><td>{number(focus.get('suv_after'), 2)}</td>"
            f"<td>{percent(focus.get('change_percent'))}</td><td>{number(focus.get('sigmas'), 1)} SD</td>"
            f'<td class="text">{escape(plain(focus.get("segment") or "–"))}</td></tr>'
        )
    more = found["count"] - len(foci)
    rest = f'<p class="note">{more} more {"is" if more == 1 else "are"} not listed.</p>' if more > 0 else ""
    note = _NOTE.format(
        percent=LOWERED_PERCENT,
        limit=number(found.get("limit_sigmas"), 1),
        candidates=plain(found.get("candidates")),
    )
    return table(head, lines) + rest + note
