"""The command `drmc denoise`: one scan, or every scan of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from drmc.cli.arguments import LESIONS, add_liver, add_passed_in, add_reading, suv_type_of
from drmc.cli.batch import add_batch, asks_for_batch, run_batch_of
from drmc.cli.printing import print_denoised
from drmc.errors import InputError
from drmc.runtime.arguments import add_network_arguments
from drmc.runtime.cancellation import Cancellation
from drmc.runtime.progress import Reporter, add_progress_argument, counting

EXAMPLES = (
    "  drmc denoise PET_FOLDER -o OUT\n"
    "  drmc denoise low.nii.gz -o OUT --lesions lesions.nii.gz --reference full.nii.gz\n"
    "  drmc denoise COHORT -o OUT --lesions SEGMENTATIONS --resume\n"
    "  drmc denoise DATASET -o OUT --match '*/*/low_*.nii.gz' --lesions '{folder}/lesions.nii.gz'\n\n"
    "A file, or a folder with DICOM files directly in it, is one scan. Any other folder is the one PET\n"
    "series (or else the one image file) below it; if it holds several it is a batch: each of its\n"
    "subfolders and image files is a scan, done into OUT/<name>/. A scan that is refused does not stop\n"
    "the others (exit code 2, or 1 if any failed) and a cancel keeps those that are done; OUT/batch.csv\n"
    "says how each ended, OUT/lesions.csv collects all lesions, OUT/cohort.html shows all scans. Several\n"
    "processes may be given the same OUT: they share the scans among them.\n\n"
    "OUT gets denoised.nii.gz (.nrrd) with denoised.json, or denoised/ with a DICOM series; lesions.csv and\n"
    "routing_lesions.csv, with --organs organs.csv; routing.csv, report.html and summary.json; with\n"
    "--keep-residual also residual.nii.gz (.nrrd) and residual.json; from DICOM input with lesions also\n"
    "measurements/, a structured report beside a series, and with --dicom-seg segmentation/."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "input", metavar="INPUT", help="DICOM folder or file, NIfTI, NRRD or MHA, or a folder of scans"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="folder for the results (made if need be)"
    )
    parser.add_argument(
        "--model", metavar="M", help="name of an installed model, or a weight file (default: drmc models)"
    )
    parser.add_argument(
        "--lesions",
        metavar="SEG",
        help=f"{LESIONS}; in a batch a folder with files or folders of the scans' names, or a pattern with "
        "{name} or {folder}",
    )
    parser.add_argument(
        "--reference",
        metavar="FULLDOSE",
        help="full-dose image on the same grid, to compare with; --header is not for it; in a batch as "
        "--lesions",
    )
    parser.add_argument(
        "--organs",
        metavar="SEG",
        help=f"{LESIONS}, with organs (drmc segment), whose SUV is measured before and after (organs.csv); "
        "in a batch as --lesions",
    )
    add_liver(parser)
    add_network_arguments(parser)
    _add_forms(parser)
    parser.add_argument(
        "--strength",
        default="high",
        metavar="S",
        help="share of the residual that is added, 0 to 1: 0 is the scan itself; or low (0.5), standard "
        "(0.75), high (1, default: all that the network predicts)",
    )
    parser.add_argument(
        "--keep-residual",
        action="store_true",
        help="write the whole residual as well, for the same scan at another strength (--residual)",
    )
    parser.add_argument(
        "--residual",
        metavar="FOLDER",
        help="a result with --keep-residual of the same scan: its residual is taken, and no network is run",
    )
    parser.add_argument(
        "--spots",
        action="store_true",
        help="add virtual spots to the scan, run the network again, and say how much of them is kept "
        "(drmc spots); takes somewhat more than twice the time",
    )
    parser.add_argument(
        "--tile-batch", type=int, metavar="N", help="tiles computed at once; lower it when memory is short"
    )
    add_reading(parser)
    _add_passed_in(parser)
    add_batch(parser)
    add_progress_argument(parser)
    parser.add_argument(
        "--cancel-on-eof", action="store_true", help="stop when standard input ends (for a parent process)"
    )


def _add_forms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("nifti", "nrrd", "dicom"),
        default="nifti",
        help="form of the denoised image (default nifti); dicom: a new PET series, from DICOM input only",
    )
    parser.add_argument(
        "--dicom", action="store_true", help="write the DICOM series as well, beside an image of another form"
    )
    parser.add_argument(
        "--dicom-seg",
        action="store_true",
        help="write the lesions as a DICOM segmentation (SEG) as well, from DICOM input with --lesions",
    )


def _add_passed_in(parser: argparse.ArgumentParser) -> None:
    add_passed_in(parser)
    parser.add_argument("--reference-voxels", metavar="FILE", help="the same as --voxels for the reference")
    parser.add_argument("--reference-label", metavar="NAME", help="what messages call the reference")
    parser.add_argument("--lesions-label", metavar="NAME", help="what messages call the lesions")
    parser.add_argument("--organs-label", metavar="NAME", help="what messages call the organs")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Denoises, prints what came out, and returns the exit code."""
    from drmc.denoising import pipeline
    from drmc.denoising.request import DenoiseRequest
    from drmc.denoising.summary import suv_warnings
    from drmc.dicom.catalog import Catalog

    if options.dicom_seg and options.lesions is None:
        raise InputError("--dicom-seg: there are no lesions to write: name them by --lesions")
    if options.liver_reference is not None and options.lesions is None:
        raise InputError("--liver-reference: is a segment of --lesions, which is missing")
    request = DenoiseRequest(
        input=options.input,
        output=options.output,
        model=options.model,
        lesions=options.lesions,
        reference=options.reference,
        device=options.device,
        precision=options.precision,
        format=options.format,
        dicom=options.dicom,
        dicom_seg=options.dicom_seg,
        units=options.units,
        suv_type=suv_type_of(options),
        accept_rule=options.accept_rule,
        series_uid=options.series,
        series_description=options.series_description,
        liver_reference=options.liver_reference,
        tile_batch=options.tile_batch,
        strength=options.strength,
        spots=options.spots,
        keep_residual=options.keep_residual,
        residual=options.residual,
        header=options.header,
        voxels=options.voxels,
        label=options.label,
        reference_voxels=options.reference_voxels,
        reference_label=options.reference_label,
        lesions_label=options.lesions_label,
        organs=options.organs,
        organs_label=options.organs_label,
    )
    catalog = Catalog(checksums=True)
    with Cancellation() as cancel:
        if options.cancel_on_eof:
            cancel.on_end_of_input()
        if asks_for_batch(options, catalog):
            return run_batch_of(request, options, reporter, cancel, catalog, page="cohort.html")
        summary = pipeline.run(request, counting(reporter, "tile"), cancel, catalog=catalog)
    for notice in [*summary["notices"], *suv_warnings(summary)]:
        reporter.notice(notice)
    reporter.result(output=str(options.output), outputs=summary["outputs"], summary=summary)
    if options.progress != "json":
        print_denoised(summary, Path(options.output))
    return 0
