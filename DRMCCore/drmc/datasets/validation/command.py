"""The command `drmc validate DATASET`: whether a dataset is fit to train on, and what is in it.

Checks every case of DATASET/dataset.json: files, pairs, units, voxels, doses, labels and side-cars, and the
cases against each other (copies, patients in two splits). Prints what each center holds, a hash of the
content, and the findings, errors first; the exit code is 0 without errors, 2 with.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.errors import InputError
from drmc.runtime.progress import Reporter, add_progress_argument, table_lines

if TYPE_CHECKING:
    from drmc.datasets.validation.fingerprint import Fingerprint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc validate`."""
    parser.add_argument(
        "dataset", nargs="?", type=Path, metavar="DATASET", help="folder with the manifest dataset.json"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_progress_argument(parser)
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FOLDER",
        help="write pictures of the cases: sheet.html and a PNG per center",
    )
    parser.add_argument(
        "--index",
        type=Path,
        metavar="FOLDER",
        help="first write the manifest of FOLDER/CENTER/CASE/{full,low_drfNNN,lesions,organs}.nii.gz "
        "(or .nii, .nrrd, .mha) with pet.json; the split follows from a hash of the patient's name",
    )
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.2,
        metavar="S",
        help="--index: share of test patients (default 0.2)",
    )
    parser.add_argument(
        "--validation-share",
        type=float,
        default=0.1,
        metavar="S",
        help="--index: share of validation patients (default 0.1)",
    )


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Checks a dataset; returns the exit code."""
    from drmc.datasets.validation.checks import examine
    from drmc.datasets.validation.findings import ERROR
    from drmc.datasets.validation.fingerprint import fingerprint
    from drmc.datasets.validation.index import write_index
    from drmc.denoising.staging import check_output_folder
    from drmc.files import jsonable

    if (arguments.dataset is None) == (arguments.index is None):
        raise InputError("give either a DATASET or --index FOLDER; see drmc validate --help")
    dataset = arguments.dataset or arguments.index
    if arguments.sheet is not None:
        check_output_folder(arguments.sheet)
    if arguments.index is not None:
        path = write_index(
            dataset, test_share=arguments.test_share, validation_share=arguments.validation_share
        )
        reporter.notice(f"wrote {path}")
    start = time.monotonic()

    def progress(done: int, total: int) -> None:
        seconds = time.monotonic() - start
        reporter.progress(done, total, seconds * (total - done) / done if done else None, "case")

    findings, measured = examine(dataset, progress)
    errors = sum(finding.severity == ERROR for finding in findings)
    content = fingerprint(measured)
    result: dict[str, Any] = {
        "dataset": str(dataset),
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [finding.to_dict() for finding in findings],
        **content,
    }
    if arguments.sheet is not None:
        from drmc.datasets.sheet import write_sheets

        readable = [one.case for one in measured if one.complete]
        result["sheet"] = str(write_sheets(readable, arguments.sheet, title=f"Dataset {dataset.name}"))
    exit_code = 2 if errors else 0
    result = jsonable({**result, "exit_code": exit_code})
    reporter.result(**result)
    if arguments.json and arguments.progress != "json":
        print(json.dumps(result, indent=2, allow_nan=False))
    elif arguments.progress != "json":
        print("\n".join(_lines(content)))
        print("\n".join(finding.line() for finding in findings) or "no findings")
        print(f"{dataset}: {errors} errors, {len(findings) - errors} warnings in {len(measured)} cases")
        if "sheet" in result:
            print(f"pictures: {result['sheet']}")
    return exit_code


def _lines(result: Fingerprint) -> list[str]:
    titles = [
        "center",
        "train/val/test",
        "voxel zyx [mm]",
        "matrix",
        "slices",
        "DRF",
        "SUV p50",
        "p95",
        "p99",
    ]
    titles += ["noise [SUV]", "low / full", "MBq", "kg", "scanner"]
    cells = []
    for name, center in result["centers"].items():
        uptake = center["suv_percentiles"] or {}
        cells.append(
            [
                name,
                "/".join(str(count) for count in center["cases"].values()),
                _several(" ".join(f"{v:g}" for v in voxel) for voxel in center["voxel_mm_zyx"]),
                _several("x".join(str(n) for n in matrix) for matrix in center["matrix"]),
                _several(str(n) for n in dict.fromkeys(center["slices"] or [])),
                ", ".join(f"{factor:g}" for factor in center["dose_reduction_factors"]),
                *(_short(uptake.get(key)) for key in ("p50", "p95", "p99")),
                _short(center["noise_full"], 3),
                ", ".join(_short(value) for value in center["noise_ratio"].values()),
                *(
                    _short(None if found is None else found[1], 0)
                    for found in (center["injected_mbq"], center["weight_kg"])
                ),
                ", ".join(center["scanners"]) or "-",
            ]
        )
    lines = table_lines(titles, cells) if cells else []
    return [*lines, f"content (SHA-256): {result['sha256'] or 'not known: a case cannot be read'}"]


def _several(texts: Iterable[str]) -> str:
    found = list(texts)
    return "-".join(found) if len(found) < 3 else f"{len(found)} kinds"


def _short(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
