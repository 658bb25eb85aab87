"""The command `drmc import`: pairs of low and full dose, DICOM series or image files, as a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from drmc.runtime.progress import Reporter, add_progress_argument, table_lines

if TYPE_CHECKING:
    from drmc.datasets.importing.run import Imported

EXAMPLES = """\
  drmc import SCANS --pairs pairs.csv -o DATASET     makes DATASET, or adds what it does not have
  drmc validate DATASET                              then: reads every image and checks the pairs

the table, one row a pair, paths below SCANS (a DICOM folder, or an image file):
  center,patient,low,full,dose_reduction_factor
  A,P000,P000/low,P000/full,4
  B,P000,b/p0_low.nii.gz,b/p0_full.nii.gz,10

further columns, empty where they do not apply: lesions (a segmentation, as --lesions of drmc denoise),
scan (its name, where a patient has several full doses),
split (train, validation, test; by default drawn, some of each center in each), units (of image files that
do not say) and accept_suv (as --accept-suv of drmc denoise)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc import`."""
    parser.add_argument(
        "root", type=Path, metavar="DICOM_ROOT", help="folder that the paths of the table are relative to"
    )
    parser.add_argument(
        "--pairs", type=Path, required=True, metavar="PAIRS.csv", help="the table, one row a pair"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DATASET", help="dataset to make, or to add to"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the splits of new patients; the same gives the same (default 0)",
    )
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Imports the pairs; returns the exit code."""
    from drmc.datasets.importing.run import import_pairs

    done = import_pairs(arguments.root, arguments.pairs, arguments.output, reporter, seed=arguments.seed)
    for text in _lacking(done):
        reporter.notice(text)
    counts = _counts(done)
    reporter.result(
        output=str(done.manifest),
        added=done.added,
        extended=done.extended,
        unchanged=done.unchanged,
        patients=counts,
    )
    if arguments.progress != "json":
        cells = [[center, *map(str, found.values())] for center, found in counts.items()]
        print("\n".join(table_lines(["patients", "train", "validation", "test"], cells)))
        more = f", {len(done.extended)} with further doses or lesions" if done.extended else ""
        there = f", {len(done.unchanged)} were there already" if done.unchanged else ""
        print(f"{done.manifest}: {_count(len(done.added), 'case')} added{more}{there}")
        print(f"next: drmc validate {arguments.output}")
    return 0


def _counts(done: Imported) -> dict[str, dict[str, int]]:
    """Patients by center and split."""
    from drmc.datasets.manifest import SPLITS

    counts: dict[str, dict[str, int]] = {}
    for center, _ in sorted(done.splits):
        counts.setdefault(center, dict.fromkeys(SPLITS, 0))
    for (center, _), split in done.splits.items():
        counts[center][split] = counts[center].get(split, 0) + 1
    return counts


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'s' * (number != 1)}"


def _lacking(done: Imported) -> list[str]:
    """What a center cannot be used for, in a sentence each."""
    from drmc.datasets.importing.splits import lacking

    found = []
    for center, splits in lacking(done.splits).items():
        patients = sum(of == center for of, _ in done.splits)
        number = _count(patients, "patient")
        if "train" in splits or "validation" in splits:
            missing = " or ".join(split for split in splits if split != "test")
            what = f"none for {missing}, so drmc train leaves the center out; it needs two"
        else:
            what = "none for test, so drmc evaluate leaves the center out; it needs three"
        found.append(f"center {center} has {number}, {what}")
    return found
