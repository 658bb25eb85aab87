"""The command `drmc suv`: the SUV factor of a scan, the rule it came from and every candidate."""

from __future__ import annotations

import argparse

from drmc.cli.arguments import add_json, add_reading, read_scan
from drmc.cli.printing import printed
from drmc.runtime.progress import Reporter
from drmc.texts import shown

EXAMPLES = "  drmc suv PET_FOLDER\n  drmc suv PET_FOLDER --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("input", metavar="INPUT", help="DICOM folder or file, NIfTI, NRRD or MHA")
    add_reading(parser)
    add_json(parser)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Prints factor, rule, candidates and facts, and returns the exit code."""
    path, volume = read_scan(options)
    decision = volume.suv.to_dict()
    found = {
        "input": str(path),
        "kind": volume.kind,
        "units": volume.units,
        **decision,
        "notices": volume.notices,
        "header": volume.header,
        "stated": volume.stated,
    }
    if printed(options, reporter, found):
        return 0
    print(f"{shown(options.input)}: {decision['type']} = {volume.units} value x {decision['factor']:.9g}")
    print(f"rule: {decision['rule']}")
    if decision["reference_time"]:
        print(f"reference time: {decision['reference_time']}")
    for candidate in decision["candidates"]:
        difference = candidate["difference_percent"]
        said = "" if difference is None else f"{difference:+.3f} %"
        not_plausible = (
            "" if candidate["plausible"] else f"  not plausible: {candidate.get('note') or 'for the record'}"
        )
        print(f"  candidate {candidate['rule']:10} {candidate['time'] or '-':26} {said:>10}{not_plausible}")
    for key, value in decision["facts"].items():
        if value is not None and not isinstance(value, dict):  # what was given by hand is among the warnings
            print(f"  {key}: {shown(value)}")
    for text in volume.notices:
        print(f"note: {shown(text)}")
    for text in decision["warnings"]:
        print(f"warning: {shown(text)}")
    return 0
