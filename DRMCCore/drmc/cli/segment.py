"""The command `drmc segment SCAN`: organs of a PET scan, from PET alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from drmc.cli.arguments import LESIONS, add_reading, suv_type_of
from drmc.cli.printing import printed
from drmc.errors import InputError
from drmc.runtime.arguments import add_network_arguments
from drmc.runtime.cancellation import Cancellation
from drmc.runtime.progress import Reporter, add_progress_argument, table_lines
from drmc.texts import RESEARCH_USE, shown

EXAMPLES = (
    "  drmc segment PET_FOLDER -o OUT\n"
    "  drmc segment pet.nii.gz -o OUT --lesions lesions.seg.nrrd\n"
    "  drmc segment nac.nii.gz -o OUT --uncorrected\n\n"
    "OUT gets organs.seg.nrrd (names, SNOMED codes and colors as Slicer reads them), organs.csv,\n"
    "report.html and summary.json. A scan without a known SUV, or without correction for attenuation, is\n"
    "welcome: its organs are measured relative to the body."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("scan", metavar="SCAN", nargs="?", help="DICOM folder or file, NIfTI, NRRD or MHA")
    parser.add_argument("-o", "--output", metavar="OUT", help="folder for the results (made if need be)")
    parser.add_argument("--model", metavar="M", help="name of an installed model of organs, or a weight file")
    parser.add_argument("--lesions", metavar="SEG", help=f"{LESIONS}: organs are measured without them too")
    parser.add_argument(
        "--uncorrected",
        action="store_true",
        help="the scan is not corrected for attenuation: no SUV is taken from it",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the organs with their label values and codes, and end"
    )
    add_network_arguments(parser)
    add_reading(parser)
    parser.add_argument("--json", action="store_true", help="print the summary, or the list, as JSON")
    add_progress_argument(parser)
    parser.add_argument(
        "--cancel-on-eof", action="store_true", help="stop when standard input ends (for a parent process)"
    )


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Labels a scan, prints its organs, and returns the exit code."""
    if options.list:
        return _list(options, reporter)
    if options.scan is None or options.output is None:
        raise InputError("SCAN and -o OUT are needed, or --list; see drmc segment --help")
    from drmc.segmentation.pipeline import SegmentRequest
    from drmc.segmentation.pipeline import run as segment

    request = SegmentRequest(
        input=options.scan,
        output=options.output,
        model=options.model,
        lesions=options.lesions,
        uncorrected=options.uncorrected,
        device=options.device,
        precision=options.precision,
        reading={
            "units": options.units,
            "suv_type": suv_type_of(options),
            "accept_rule": options.accept_rule,
            "series_uid": options.series,
            "series_description": options.series_description,
            "header": options.header,
        },
    )
    with Cancellation() as cancel:
        if options.cancel_on_eof:
            cancel.on_end_of_input()
        summary = segment(request, reporter.progress, cancel)
    for notice in [*summary["notices"], *summary["warnings"]]:
        reporter.notice(notice)
    if printed(options, reporter, {**summary, "output": str(options.output)}):
        return 0
    cells = [
        [
            name,
            f"{found['volume_ml']:.0f}",
            "-" if found["suv_mean"] is None else f"{found['suv_mean']:.2f}",
            "-" if found["relative_mean"] is None else f"{found['relative_mean']:.2f}",
            found["flags"],
        ]
        for name, found in summary["organs"].items()
    ]
    print("\n".join(table_lines(["organ", "ml", "SUVmean", "of body", ""], cells)))
    print(f"{len(cells)} organs: {shown(Path(options.output) / 'organs.seg.nrrd')}")
    print(RESEARCH_USE)
    return 0


def _list(options: argparse.Namespace, reporter: Reporter) -> int:
    from drmc.organs.table import classes

    listed = [
        {
            "value": one.index,
            "name": one.name,
            "key": one.key,
            "code": one.code,
            "side": one.side,
            "color": list(one.color),
            "counts": one.counts,
        }
        for one in classes()
    ]
    if printed(options, reporter, {"organs": listed}):
        return 0
    cells = [[str(one.index), one.name, one.code, "" if one.counts else "extra"] for one in classes()]
    print("\n".join(table_lines(["value", "organ", "SNOMED CT", ""], cells)))
    return 0
