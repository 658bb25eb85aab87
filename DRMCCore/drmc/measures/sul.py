"""SUL, the SUV by lean body mass, of the rows of a lesion table (drmc.suv.lean)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from drmc.measures.rows import SUL_OF, LesionRow
from drmc.suv.lean import sul_per_suv


def state_sul(rows: Iterable[LesionRow], suv: Mapping[str, Mapping[str, Any]]) -> None:
    """Sets the SUL of each row, or the note why it is not known.

    Changes in percent are those of the SUV, to which SUL is proportional.

    Args:
        rows: the lesion table.
        suv: the SUV decision (`SUVDecision.to_dict`) of each image: "original", and "reference" with a
            full-dose image.
    """
    lean = {stage: sul_per_suv(decision) for stage, decision in suv.items()}
    for row in rows:
        ratio, note = lean["reference" if row["stage"] == "reference" else "original"]
        row["sul_note"] = note or None
        for key, sul in SUL_OF.items():
            value = row[key]
            if ratio is not None and value is not None:
                row[sul] = value if row["stage"] == "change_percent" else value * ratio
