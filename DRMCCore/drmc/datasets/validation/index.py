"""Writes the manifest of a folder of scans: CENTER/CASE/{full, low_drfNNN, lesions, organs}.{nii.gz, ...}."""

from __future__ import annotations

import hashlib
from pathlib import Path

from drmc.datasets.manifest import MANIFEST, SCHEMA, SIDECAR, SPLITS, case_entry
from drmc.errors import InputError
from drmc.files import write_json
from drmc.pet import sidecars

RULE = "SHA-256 of CENTER/PATIENT as a fraction of 1: the lowest are test, then validation, the rest train"


def write_index(folder: Path, *, test_share: float = 0.2, validation_share: float = 0.1) -> Path:
    """Writes FOLDER/dataset.json from the cases in the folder.

    The split of a case follows from its patient's name alone, so that it stays when cases are added, and the
    scans of one patient (`"PatientID"` in pet.json, else the case's name) stay together. A simulated case
    keeps the split that it was simulated for.

    Args:
        folder: of CENTER/CASE folders.
        test_share: share of the patients in the split "test".
        validation_share: share of those in the split "validation".

    Returns:
        The path of the manifest.

    Raises:
        InputError: there is a manifest already, there are no cases, a case lacks its full or low dose, or the
            shares are out of range.
    """
    path = folder / MANIFEST
    if path.exists():
        raise InputError(f"{path} is there already: remove it to write it again")
    if not (test_share >= 0 and validation_share >= 0 and test_share + validation_share < 1):
        raise InputError(
            f"--test-share {test_share:g} and --validation-share {validation_share:g}: shares from 0, with a "
            "sum below 1"
        )
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    cases, simulated = [], []
    for case in sorted(p for p in folder.glob("*/[!.]*") if p.is_dir() and not p.parent.name.startswith(".")):
        sidecar = case / SIDECAR
        facts = sidecars.read(sidecar) if sidecar.is_file() else {}
        center = case.parent.name
        patient = str(facts.get("PatientID") or case.name)
        seed = facts.get("Seed") if facts.get("Simulated") is True else None
        split = SPLITS[seed[2]] if seed else _split(f"{center}/{patient}", test_share, validation_share)
        # Two centers may both have a case of that name.
        entry = {**case_entry(folder, case, center=center, split=split), "id": f"{center}/{case.name}"}
        if "full" not in entry and not entry["low"]:
            continue
        if "full" not in entry or not entry["low"]:
            what = "low_drfNNN (NNN: the dose reduction factor)" if "full" in entry else "full"
            raise InputError(
                f"{case} has no image {what}.nii.gz, .nii, .nrrd or .mha: add it, or move the folder away"
            )
        cases.append({**entry, "patient": patient})
        simulated.append(facts.get("Simulated") is True)
    if not cases:
        raise InputError(f"{folder} holds no CENTER/CASE/full.nii.gz with a low_drfNNN.nii.gz beside it")
    centers = {center: {"name": center} for center in sorted({entry["center"] for entry in cases})}
    manifest = {
        "schema": SCHEMA,
        "simulated": all(simulated),
        "split_rule": RULE,
        "centers": centers,
        "cases": cases,
    }
    try:
        write_json(path, manifest)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror})") from None
    return path


def _split(name: str, test_share: float, validation_share: float) -> str:
    place = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big") / 2**64
    return (
        "test" if place < test_share else "validation" if place < test_share + validation_share else "train"
    )
