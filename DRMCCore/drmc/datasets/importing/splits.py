"""Which split a patient gets: some of every center in each, drawn by a hash, and kept for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from drmc.datasets.manifest import SPLITS

Patient = tuple[str, str]
"""Center and patient."""
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
RULE = (
    "import: of each center's patients a tenth for validation and a fifth for test, at least one of each "
    "from two and three patients on; new patients in the order of SHA-256 of SEED/CENTER/PATIENT, seed {}"
)


def draw_splits(
    patients: Iterable[Patient], fixed: Mapping[Patient, str], *, seed: int = 0
) -> dict[Patient, str]:
    """The split of every patient.

    Args:
        patients: those who are asked for.
        fixed: splits that are not drawn, of these or of other patients of the centers.
        seed: another seed draws other patients.

    Returns:
        The splits of `fixed` and of all `patients`. With two patients or more a center has one in "train" and
        one in "validation", with three or more one in "test", unless `fixed` has used up its patients.
    """
    found = dict(fixed)
    new: dict[str, list[str]] = {}
    for center, patient in dict.fromkeys(patients):
        if (center, patient) not in found:
            new.setdefault(center, []).append(patient)
    for center, names in new.items():
        before = [split for (of, _), split in fixed.items() if of == center]
        wanted = _counts(len(before) + len(names))
        missing = {split: wanted[split] - before.count(split) for split in SPLITS}
        for name in sorted(names, key=lambda one: _place(f"{seed}/{center}/{one}")):
            # Training first, so that a center's first patient is of use; then what a run cannot do without.
            empty = [split for split in SPLITS if wanted[split] and not before.count(split)]
            split = empty[0] if empty else max(("validation", "test", "train"), key=missing.__getitem__)
            found[center, name] = split
            before.append(split)
            missing[split] -= 1
    return found


def lacking(splits: Mapping[Patient, str]) -> dict[str, list[str]]:
    """By center what is missing: the splits in which it has no patient, of centers where there is any."""
    there: dict[str, set[str]] = {}
    for (center, _), split in splits.items():
        there.setdefault(center, set()).add(split)
    missing = {center: [s for s in SPLITS if s not in found] for center, found in sorted(there.items())}
    return {center: splits for center, splits in missing.items() if splits}


def _counts(patients: int) -> dict[str, int]:
    """How many patients of a center belong into each split."""
    validation = max(1, round(VALIDATION_SHARE * patients)) if patients > 1 else 0
    test = max(1, round(TEST_SHARE * patients)) if patients > 2 else 0
    return {"train": patients - validation - test, "validation": validation, "test": test}


def _place(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8")).digest()
