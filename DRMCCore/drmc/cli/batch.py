"""Batches of the commands that take a scan or a folder of scans: their arguments, and how they end."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.errors import InputError
from drmc.runtime.progress import Reporter
from drmc.texts import RESEARCH_USE, shown

if TYPE_CHECKING:
    from drmc.denoising.batch_work import BatchWork
    from drmc.dicom.catalog import Catalog


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a batch to a command whose scan is `input`."""
    parser.add_argument(
        "--batch", action="store_true", help="take the input as a folder of scans even if it holds only one"
    )
    parser.add_argument("--match", metavar="GLOB", help="batch: the scans are what matches in the folder")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="batch: leave out scans that are complete in OUT and were made from the same files (the scan, "
        "and what is given with it), model and settings, by their content",
    )
    parser.add_argument(
        "--headers",
        metavar="TABLE",
        help="batch: a CSV file with values as --header gives them, one row a scan: the column scan (its "
        "name as in batch.csv, or its path in the folder), and columns named by keywords",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="batch: how many scans at a time, each in a process of its own (default 1)",
    )


def asks_for_batch(options: argparse.Namespace, catalog: Catalog) -> bool:
    """Whether the input is a batch, or is to be taken as one.

    Raises:
        InputError: an option of batches is given for one scan.
    """
    from drmc.denoising.finding import is_batch

    if options.match is not None or options.batch or options.resume:
        return True
    if is_batch(Path(options.input), catalog):
        return True
    for option, value in (("--headers", options.headers), ("--jobs", options.jobs)):
        if value is not None:
            raise InputError(f"{option}: is for a batch, and {options.input} is one scan: leave it out")
    return False


def run_batch_of(
    request: Any,
    options: argparse.Namespace,
    reporter: Reporter,
    cancel: Callable[[], bool],
    catalog: Catalog,
    *,
    work: BatchWork | None = None,
    page: str = "",
) -> int:
    """Does all scans, prints how they ended, and returns the exit code.

    Args:
        request: of the kind that `work` takes.
        options: those of `add_batch`.
        reporter: told of each scan.
        cancel: asked for a cancel.
        catalog: what was read of DICOM files before.
        work: what is done; None: denoising.
        page: name of the page about all scans, if there is one.
    """
    from drmc.denoising.batch import run_batch
    from drmc.denoising.batch_work import DENOISING
    from drmc.denoising.finding import find_scans

    work = work or DENOISING
    scans = None if options.match is None else find_scans(Path(options.input), options.match)
    result = run_batch(
        request,
        reporter,
        cancel,
        scans=scans,
        resume=options.resume,
        headers=options.headers,
        jobs=1 if options.jobs is None else options.jobs,
        catalog=catalog,
        work=work,
    )
    reporter.result(**result)
    if options.progress != "json":
        _print(result, page, work.warned)
    return result["exit_code"]


def _print(result: dict[str, Any], page: str, kind: str) -> None:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in result["counts"].items())
    print(f"{len(result['scans'])} scans: {counts}")
    warned = [row["scan"] for row in result["scans"] if row["warnings"]]
    if warned:
        names = ", ".join(warned[:5]) + (", ..." if len(warned) > 5 else "")
        print(f"{kind} in {len(warned)} of {len(result['scans'])} scans, see batch.csv: {shown(names)}")
    print(f"outcome of each scan: {shown(Path(result['output']) / 'batch.csv')}")
    if page:
        print(f"all scans on one page: {shown(Path(result['output']) / page)}")
    print(RESEARCH_USE)
