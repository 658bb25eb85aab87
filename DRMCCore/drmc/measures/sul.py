"""SUL, the SUV by lean body mass, of the rows of a lesion table (drmc.suv.lean)."""

from __future__ import annotations

from collections.abc import Iterable

from drmc.measures.rows import SUL_OF, LesionRow
from drmc.suv.decision import SUVDecision
from drmc.suv.lean import sul_per_suv


def state_sul(rows: Iterable[LesionRow], original: SUVDecision, reference: SUVDecision | None = None) -> None:
    """Sets the SUL of each row, or the note why it is not known.

    Changes in percent are those of the SUV, to which SUL is proportional.

    Args:
        rows: the lesion table.
        original: the SUV decision of the scan, on which the denoised image rests, too.
        reference: that of the full-dose image, if there is one.
    """
    of_scan = sul_per_suv(original.to_dict())
    of_reference = of_scan if reference is None else sul_per_suv(reference.to_dict())
    for row in rows:
        ratio, note = of_reference if row["stage"] == "reference" else of_scan
        row["sul_note"] = note or None
        for key, sul in SUL_OF.items():
            value = row[key]
            if ratio is not None and value is not None:
                row[sul] = value if row["stage"] == "change_percent" else value * ratio
