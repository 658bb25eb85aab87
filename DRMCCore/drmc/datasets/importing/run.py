"""Imports pairs into a dataset: everything is converted beside it first, then moved into place at once."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drmc import files
from drmc.datasets.importing.conversion import LESIONS, Converted, convert
from drmc.datasets.importing.splits import RULE, Patient, draw_splits
from drmc.datasets.importing.table import Refusal, Table, WantedCase, read_table
from drmc.datasets.manifest import (
    MANIFEST,
    SCHEMA,
    SIDECAR,
    Case,
    case_entry,
    load_manifest,
    low_name,
    parse_case,
)
from drmc.denoising.staging import Claim
from drmc.errors import InputError
from drmc.files import disk_full_as_error
from drmc.runtime.progress import Reporter


@dataclass
class Imported:
    """What an import has done: `added`, `extended` (by further doses or lesions) and `unchanged` cases by id.

    `splits` are those of all patients of the dataset, by (center, patient).
    """

    manifest: Path
    added: list[str] = field(default_factory=list)
    extended: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    splits: dict[Patient, str] = field(default_factory=dict)


@dataclass
class _Before:
    """The dataset as it is: its manifest, and its cases by id."""

    manifest: dict[str, Any]
    cases: dict[str, Case]

    @classmethod
    def read(cls, dataset: Path) -> _Before:
        if not (dataset / MANIFEST).exists():
            return cls({"schema": SCHEMA, "simulated": False}, {})
        path, manifest = load_manifest(dataset)
        if manifest.get("simulated"):
            raise InputError(f"{path}: is a simulated dataset: choose another folder for scans of patients")
        cases = [parse_case(path, entry, manifest.get("units")) for entry in manifest.get("cases", [])]
        return cls(manifest, {case.case_id: case for case in cases})

    def splits(self) -> dict[Patient, str]:
        return {(case.center, case.patient): case.split for case in self.cases.values()}


def import_pairs(root: Path, pairs: Path, dataset: Path, reporter: Reporter, *, seed: int = 0) -> Imported:
    """Makes a dataset of pairs, or adds them to one.

    Cases that the dataset has stay as they are, with their splits. Nothing is written unless every row of the
    table can be: each that is refused is reported (outcome `refused`).

    Args:
        root: folder of the scans.
        pairs: the table (`drmc.datasets.importing.table`).
        dataset: folder of the dataset.
        reporter: gets progress, warnings on SUV, and refusals.
        seed: of the splits of new patients.

    Returns:
        What was done.

    Raises:
        InputError: the table or a row of it is refused, or another process writes into the dataset.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: name the one that the paths of {pairs} are relative to")
    table, before = read_table(pairs, root), _Before.read(dataset)
    _check_against(table, before, dataset)
    refused = {one.line for one in table.refusals}
    for one in sorted(table.refusals, key=lambda one: one.line):
        reporter.outcome(f"{pairs.name}, line {one.line}", "refused", one.message)
    with disk_full_as_error(dataset), Claim(dataset) as claim:
        staging = claim.take()
        converted = _convert_all(table, before, staging, pairs, reporter, refused)
        if refused:
            raise InputError(
                f"{pairs}: {len(refused)} of {table.rows} rows are refused, nothing was imported: correct "
                "the lines above"
            )
        return _publish(converted, before, table, staging, dataset, seed)


def _check_against(table: Table, before: _Before, dataset: Path) -> None:
    """Refuses what contradicts the dataset."""
    splits = before.splits()
    for case in table.cases:
        old, split = before.cases.get(case.case_id), table.splits.get((case.center, case.patient))
        if old is not None and (old.center, old.patient) != (case.center, case.patient):
            message = f"{case.case_id} is patient {old.center}/{old.patient} of the dataset: rename it"
        elif split != (kept := splits.get((case.center, case.patient), split)) and split is not None:
            message = f"patient {case.center}/{case.patient} is in the split {kept} of the dataset: not moved"
        elif old is None and (folder := dataset / case.center / case.name).exists():
            message = f"{folder} is there, and {MANIFEST} does not name it: move it away"
        else:
            continue
        table.refusals.append(Refusal(case.line, message))


def _convert_all(
    table: Table,
    before: _Before,
    staging: Path,
    pairs: Path,
    reporter: Reporter,
    refused: set[int],
) -> list[Converted]:
    """Converts the cases into the staging folder; once a row is refused, the others are only checked."""
    found, start = [], time.monotonic()
    cases = [case for case in table.cases if case.line not in refused]
    for done, case in enumerate(cases, 1):
        folder = None if refused else staging / case.center / case.name
        try:
            one = convert(case, before.cases.get(case.case_id), folder)
        except InputError as refusal:
            refused.add(case.line)
            reporter.outcome(
                f"{pairs.name}, line {case.line} ({case.case_id})", "refused", " ".join(str(refusal).split())
            )
        else:
            found.append(one)
            for text in dict.fromkeys([*one.warnings, *one.notices]):
                reporter.notice(f"{case.case_id}: {text}")
        left = (time.monotonic() - start) / done * (len(cases) - done)
        reporter.progress(done, len(cases), left, "case")
    return found


def _publish(
    converted: list[Converted], before: _Before, table: Table, staging: Path, dataset: Path, seed: int
) -> Imported:
    """Moves the converted cases into the dataset and writes its manifest; all of it, or nothing."""
    wanted = [one.wanted for one in converted]
    splits = draw_splits(
        [(case.center, case.patient) for case in wanted], {**table.splits, **before.splits()}, seed=seed
    )
    done = Imported(dataset / MANIFEST, splits=splits)
    entries = list(before.manifest.get("cases", []))
    moved: list[Path] = []
    try:
        for one in converted:
            case = one.wanted
            if one.is_new:
                _move(staging, dataset, case, None, moved)
                done.added.append(case.case_id)
                entries.append(_entry(dataset, case, splits[case.center, case.patient]))
            elif one.doses or one.lesions:
                _move(staging, dataset, case, one, moved)
                done.extended.append(case.case_id)
                place = next(k for k, entry in enumerate(entries) if entry["id"] == case.case_id)
                new = _entry(dataset, case, "")
                lesions = {"lesions": new["lesions"]} if one.lesions else {}
                low = {**entries[place]["low"], **new["low"]}
                entries[place] = {**entries[place], "low": low, **lesions}
            else:
                done.unchanged.append(case.case_id)
        if done.added or done.extended:
            centers = {entry["center"]: {"name": entry["center"]} for entry in entries}
            files.write_json(
                done.manifest,
                {
                    **before.manifest,
                    "split_rule": before.manifest.get("split_rule", RULE.format(seed)),
                    "centers": {**centers, **before.manifest.get("centers", {})},
                    "cases": entries,
                },
            )
    except BaseException:
        for path in moved:
            _remove(path)
        raise
    return done


def _move(
    staging: Path, dataset: Path, case: WantedCase, further: Converted | None, moved: list[Path]
) -> None:
    """Moves a converted case into the dataset, or what it has `further` into its folder there."""
    made, target = staging / case.center / case.name, dataset / case.center / case.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if further is None:
        moved.append(target)
        made.rename(target)
        return
    for name in [*map(low_name, further.doses), *([LESIONS] if further.lesions else [])]:
        moved.append(target / name)
        (made / name).replace(target / name)
    if further.doses:
        (made / SIDECAR).replace(target / SIDECAR)


def _entry(dataset: Path, case: WantedCase, split: str) -> dict[str, Any]:
    entry = case_entry(dataset, dataset / case.center / case.name, center=case.center, split=split)
    return {**entry, "id": case.case_id, "patient": case.patient}


def _remove(path: Path) -> None:
    """Removes what was moved, and the folder of a center that is empty then."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
