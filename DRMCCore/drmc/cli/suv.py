"""The command `drmc suv`: the SUV factor of a scan, the rule it came from and every candidate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from drmc.cli.arguments import add_json, add_passed_in, add_reading, read_scan, read_scan_header
from drmc.cli.printing import printed
from drmc.errors import InputError
from drmc.runtime.progress import Reporter
from drmc.texts import shown

if TYPE_CHECKING:
    from drmc.pet.volume import PETHeader

EXAMPLES = (
    "  drmc suv PET_FOLDER\n"
    "  drmc suv PET_FOLDER --json\n"
    "  drmc suv PET_FOLDER --header-only        at once: whether the SUV that comes out can be true is not "
    "checked"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("input", metavar="INPUT", help="DICOM folder or file, NIfTI, NRRD or MHA")
    add_reading(parser)
    add_passed_in(parser)
    parser.add_argument(
        "--header-only",
        action="store_true",
        help="read no voxel: without a check whether the SUV that comes out can be true, which drmc denoise "
        "makes",
    )
    parser.add_argument(
        "--body-percentile",
        type=float,
        metavar="VALUE",
        help="with --header-only: the 99.9th percentile of the voxels in the body, in the scan's own units, "
        "if another program knows it, for that check",
    )
    add_json(parser)


def _read(options: argparse.Namespace) -> tuple[Path, PETHeader]:
    if options.header_only:
        if options.voxels is not None:
            raise InputError("--voxels: nothing is compared with --header-only, leave one of them out")
        return read_scan_header(options, options.body_percentile)
    if options.body_percentile is not None:
        raise InputError("--body-percentile: is for --header-only, else the voxels themselves are looked at")
    return read_scan(options)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Prints factor, rule, candidates and facts, and returns the exit code."""
    path, volume = _read(options)
    decision = volume.suv.to_dict()
    found = {
        "input": str(path),
        "kind": volume.kind,
        "units": volume.units,
        **decision,
        "notices": volume.notices,
        "header": volume.header,
        "stated": volume.header_values,
    }
    if printed(options, reporter, found):
        return 0
    print(f"{shown(options.input)}: {decision['type']} = {volume.units} value x {decision['factor']:.9g}")
    print(f"rule: {decision['rule']}")
    if decision["reference_time"]:
        print(f"reference time: {decision['reference_time']}")
    for candidate in decision["candidates"]:
        difference = candidate["difference_percent"]
        text = "" if difference is None else f"{difference:+.3f} %"
        not_plausible = (
            "" if candidate["plausible"] else f"  not plausible: {candidate.get('note') or 'for the record'}"
        )
        print(f"  candidate {candidate['rule']:10} {candidate['time'] or '-':26} {text:>10}{not_plausible}")
    for key, value in decision["facts"].items():
        if value is not None and not isinstance(value, dict):  # what was given by hand is among the warnings
            print(f"  {key}: {shown(value)}")
    for text in volume.notices:
        print(f"note: {shown(text)}")
    for text in decision["warnings"]:
        print(f"warning: {shown(text)}")
    return 0
