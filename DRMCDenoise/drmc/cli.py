"""The command `drmc`: denoise a scan, look at its SUV and its lesions, list the models, simulate, validate,
train, evaluate, profile, benchmark.

Exit codes: 0 done, 1 failed, 2 refused (bad input or usage: one line on standard error, nothing written),
130 cancelled (SIGINT, SIGTERM). With DRMC_DEBUG=1 a failure shows its traceback. Nothing heavy is
imported before a subcommand needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from drmc import __version__
from drmc.errors import CancelledError, DRMCError, InputError
from drmc.files import is_full_disk
from drmc.runtime.cancellation import Cancellation
from drmc.runtime.progress import (
    JsonProgress,
    Reporter,
    TerminalProgress,
    add_progress_argument,
    duration,
    table_lines,
)
from drmc.texts import shown, shown_output

DESCRIPTION = "Multi-center low-dose PET denoising by dynamic routing, with the SUV figures a reader trusts."
RESEARCH = "Research use only. Not for diagnosis or treatment."
LESIONS = "label image, Slicer segmentation (.seg.nrrd), DICOM SEG or RTSTRUCT"
EPILOG = f"""\
examples:
  drmc denoise PET_FOLDER -o OUT                      a DICOM folder: denoised.nii.gz, report.html, ...
  drmc denoise pet.nii.gz -o OUT --lesions seg.nrrd   with a table of the lesions before and after
  drmc denoise COHORT_FOLDER -o OUT --resume          every scan in a folder, each into OUT/<name>/
  drmc suv PET_FOLDER                                 the SUV factor and the rule it came from
  drmc models                                         what is installed

exit codes: 0 done, 1 failed, 2 refused (bad input or usage), 130 cancelled
{RESEARCH}"""

# Subcommands whose room brings its own arguments: module, help.
ROOMS = {
    "simulate": (
        "drmc.simulation.command",
        "simulate low-dose and full-dose PET of the centers of the paper",
    ),
    "calibrate": (
        "drmc.simulation.calibrate_command",
        "measure the noise of the simulation against real scans",
    ),
    "validate": ("drmc.validation.command", "check a dataset before training on it"),
    "train": ("drmc.training.command", "train a network on one's own centers"),
    "evaluate": ("drmc.evaluation.command", "measure a network on patients that it has not seen"),
    "profile": (
        "drmc.evaluation.profile_command",
        "measure which experts a network uses at each training center",
    ),
    "spots": ("drmc.spots_command", "measure what a model leaves of small faint foci in this very scan"),
    "benchmark": ("drmc.benchmark.command", "measure speed and memory on this machine"),
}
# Rooms that compute for hours, in processes of their own, and keep all that these say.
KEEP_THEIR_TEXT = ("train", "evaluate")
TABLE_QUANTITIES = (
    ("suv_mean", "SUVmean"),
    ("suv_max", "SUVmax"),
    ("suv_peak", "SUVpeak"),
    ("mtv41_ml", "MTV41 [ml]"),
    ("tlg41", "TLG41"),
)
FIXED_VOLUMES = (
    ("mtv_suv25_ml", "MTV SUV2.5"),
    ("mtv_suv40_ml", "MTV SUV4.0"),
    ("mtv41_original_ml", "MTV41 of original"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's) and returns its exit code; nothing is raised."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if os.environ.get("DRMC_DEBUG") == "1":
        with shown_output():
            return _run(arguments)
    own = arguments[:1] == [] or arguments[0] not in KEEP_THEIR_TEXT
    with _without_warnings(), _without_native_text() if own else contextlib.nullcontext(), shown_output():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    reporter: Reporter | None = None
    try:
        options = _parser(arguments).parse_args(arguments)
        reporter = _reporter(options)
        code = options.command(options, reporter)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:
        # The reader of standard output is gone (`drmc models | head`); nothing may be flushed there at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _end(reporter, "cancelled", CancelledError.exit_code)
    except DRMCError as error:
        return _end(reporter, str(error), error.exit_code, error.details)
    except Exception as error:
        if is_full_disk(error):
            place = f"{error.filename}: " if error.filename else ""
            return _end(reporter, f"{place}{error.strerror}: make room on the disk and start again", 1)
        return _end(reporter, f"{type(error).__name__}: {error} (DRMC_DEBUG=1 shows where)", 1)


# ---- subcommands


def _denoise(options: argparse.Namespace, reporter: Reporter) -> int:
    from drmc.denoising import pipeline
    from drmc.denoising.finding import is_batch
    from drmc.denoising.request import DenoiseRequest
    from drmc.denoising.summary import suv_warnings
    from drmc.pet import in_memory

    request = DenoiseRequest(
        input=in_memory.resolve(options.input),
        output=options.output,
        model=options.model,
        lesions=options.lesions,
        reference=options.reference and in_memory.resolve(options.reference),
        device=options.device,
        precision=options.precision,
        format=options.format,
        dicom=options.dicom,
        units=options.units,
        suv_type=_suv_type(options),
        accept_rule=options.accept_rule,
        series_uid=options.series,
        series_description=options.series_description,
        liver_reference=options.liver_reference,
        tile_batch=options.tile_batch,
        header=options.header,
    )
    with Cancellation() as cancel:
        if options.cancel_on_eof:
            cancel.on_end_of_input()
        if options.match is not None or options.batch or options.resume or is_batch(Path(request.input)):
            return _denoise_batch(request, options, reporter, cancel)
        for option, value in (("--headers", options.headers), ("--jobs", options.jobs)):
            if value is not None:
                raise InputError(f"{option}: is for a batch, and {options.input} is one scan: leave it out")
        summary = pipeline.run(request, reporter.progress, cancel)
    for notice in [*summary["notices"], *suv_warnings(summary)]:
        reporter.notice(notice)
    reporter.result(output=str(options.output), outputs=summary["outputs"], summary=summary)
    if options.progress != "json":
        _print_denoised(summary, Path(options.output))
    return 0


def _denoise_batch(
    request: Any, options: argparse.Namespace, reporter: Reporter, cancel: Callable[[], bool]
) -> int:
    from drmc.denoising.batch import run_batch
    from drmc.denoising.finding import find_scans

    scans = None if options.match is None else find_scans(Path(options.input), options.match)
    result = run_batch(
        request,
        reporter,
        cancel,
        scans=scans,
        resume=options.resume,
        headers=options.headers,
        jobs=1 if options.jobs is None else options.jobs,
    )
    reporter.result(**result)
    if options.progress != "json":
        counts = ", ".join(f"{count} {outcome}" for outcome, count in result["counts"].items())
        print(f"{len(result['scans'])} scans: {counts}")
        warned = [row["scan"] for row in result["scans"] if row["warnings"]]
        if warned:
            names = ", ".join(warned[:5]) + (", ..." if len(warned) > 5 else "")
            print(
                f"SUV warnings in {len(warned)} of {len(result['scans'])} scans, see batch.csv: {shown(names)}"
            )
        print(f"outcome of each scan: {shown(Path(result['output']) / 'batch.csv')}")
        print(f"all scans on one page: {shown(Path(result['output']) / 'cohort.html')}")
        print(RESEARCH)
    return result["exit_code"]


def _suv(options: argparse.Namespace, reporter: Reporter) -> int:
    path, volume = _read(options)
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
    if _printed(options, reporter, found):
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


def _quantify(options: argparse.Namespace, reporter: Reporter) -> int:
    from drmc.denoising import remeasure
    from drmc.denoising.finding import scan_name
    from drmc.denoising.inputs import read_reference
    from drmc.measures import mtv
    from drmc.measures.bias import lesion_bias
    from drmc.measures.lesions import lesion_table
    from drmc.pet import in_memory
    from drmc.segments.reading import read_segments
    from drmc.suv import wording

    result = None
    if remeasure.is_result(Path(options.input)):
        asked = {"series_uid": options.series, "series_description": options.series_description}
        asked |= {"suv_type": options.suv_type, "accept_rule": options.accept_rule}
        asked |= {"units": options.units, "header": options.header}
        result = remeasure.read_result(Path(options.input), **asked)
        name, volume = result.name, result.original
        volume.notices[:0] = result.notices
    else:
        path, volume = _read(options)
        name = scan_name(path)
    segments, notices = read_segments(
        options.lesions, volume.geometry, volume.frame_of_reference, volume.series_uid
    )
    stages = {"original": volume.suv_array()}
    if result is not None:
        stages["denoised"] = result.denoised_suv
    reference = None
    if options.reference is not None:
        reading = _reading(options) if result is None else result.reading
        reference = read_reference(in_memory.resolve(options.reference), volume.geometry, **reading)
        stages["reference"] = reference.suv_array()
    rows = lesion_table(name, segments, stages, volume.geometry, options.liver_reference)
    notices = [*notices, *mtv.peak_notes(rows)]
    bias = lesion_bias(rows) if options.reference is not None else None
    if options.json:
        _print_json(
            {
                "segments": rows,
                "bias": bias,
                "notices": [*volume.notices, *notices],
                "suv": wording.chosen(volume.suv.to_dict()),
                "reference": reference and {"suv": wording.chosen(reference.suv.to_dict())},
            }
        )
        return 0
    columns = [
        ("volume_ml", "volume [ml]"),
        ("suv_min", "SUVmin"),
        ("suv_median", "median"),
        *TABLE_QUANTITIES,
        *FIXED_VOLUMES,
    ]
    cells = [
        [row["segment"], row["stage"], *(_number(row[key]) + _mark(row, key) for key, _ in columns)]
        for row in rows
    ]
    _print_table(["segment", "stage", *(title for _, title in columns)], cells)
    _print_volumes(rows)
    if bias is not None:
        _print_bias(bias)
    _print_suv(volume.suv.to_dict(), volume.units)
    if reference is not None:
        _print_suv(reference.suv.to_dict(), reference.units, "reference")
    for text in [*volume.notices, *notices]:
        print(f"note: {shown(text)}")
    return 0


def _models(options: argparse.Namespace, reporter: Reporter) -> int:
    from drmc.models.registry import add_model, list_models, model_folders

    added = None if options.add is None else add_model(options.add)
    entries = list_models()
    found = {
        "folders": [str(folder) for folder in model_folders()],
        "models": [_model(e) for e in entries],
        "added": None if added is None else _model(added),
    }
    if _printed(options, reporter, found):
        return 0
    if added is not None:
        print(f"{added.path}: added")
        return 0
    if not entries:
        folders = ", ".join(str(folder) for folder in model_folders())
        print(f"no model installed; weight files (NAME.pt with NAME.json) are looked for in {folders}")
    for entry in entries:
        found = _model(entry)
        print(
            found["name"]
            + (f": {found['title']}" if found["title"] else "")
            + ("  (default)" if found["default"] else "")
        )
        print(f"  file: {found['path']}")
        print(f"  sha256: {found['sha256']}")
        for key in ("problem", "kind", "parameters", "tile", "training", "license", "intended_use"):
            if found[key] is not None:
                print(f"  {key.replace('_', ' ')}: {shown(_plain(found[key]))}")
    return 0


def _devices(options: argparse.Namespace, reporter: Reporter) -> int:
    from drmc.inference import devices

    found = devices.list_devices()
    if _printed(options, reporter, found):
        return 0
    for one in found["devices"]:
        cores = f", {one['cores']} cores" if one["cores"] else ""
        free, total = (
            None if one[key] is None else f"{one[key] / 2**30:.1f}" for key in ("free_bytes", "total_bytes")
        )
        memory = f", {free or '?'} of {total} GiB free" if total else ""
        arithmetic = "bf16" if one["bf16"] else "fp32"
        chosen = "  (auto)" if one["name"] == found["auto"] else ""
        print(f"{one['name']}: {one['title']}{cores}{memory}, {arithmetic}{chosen}")
    print(f"auto takes {found['auto']}: {found['why']} (PyTorch {found['torch']})")
    return 0


# ---- the parser


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors that go the way of every other refusal."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser(arguments: Sequence[str]) -> _Parser:
    parser = _Parser(
        prog="drmc",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"drmc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command_name", required=True)

    def add(name: str, text: str, command: Callable[..., int], examples: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"examples:\n{examples}\n\n{RESEARCH}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(command=command)
        return sub

    _add_denoise(add)
    sub = add(
        "suv",
        "show the SUV factor of a scan, the rule it came from and every candidate",
        _suv,
        "  drmc suv PET_FOLDER\n  drmc suv PET_FOLDER --json",
    )
    sub.add_argument("input", metavar="INPUT", help="DICOM folder or file, NIfTI, NRRD or MHA")
    _add_reading(sub)
    _add_json(sub)
    sub = add(
        "quantify",
        "measure the segments of an image: volume, SUV, MTV and TLG",
        _quantify,
        "  drmc quantify OUT/denoised.nii.gz --lesions lesions.seg.nrrd\n"
        "  drmc quantify OUT --lesions others.seg.nrrd     a result of drmc denoise: before, after and change\n"
        "  drmc quantify low.nii.gz --lesions lesions.nii.gz --reference full.nii.gz --json",
    )
    sub.add_argument(
        "input",
        metavar="IMAGE",
        help="DICOM folder or file, NIfTI, NRRD or MHA; or the result folder of drmc denoise, whose scan and denoised image are "
        "both measured, without denoising again",
    )
    sub.add_argument("--lesions", metavar="SEG", required=True, help=LESIONS)
    sub.add_argument(
        "--reference", metavar="FULLDOSE", help="full-dose image on the same grid: adds B_mean, B_max, B_peak"
    )
    _add_liver(sub)
    _add_reading(sub)
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub = add(
        "models",
        "list the installed models, where they are from and what they were trained on, or add one",
        _models,
        "  drmc models\n  drmc models --add mine.pt",
    )
    sub.add_argument(
        "--add",
        metavar="FILE",
        help="check a weight file (.pt) and copy it with its card into the user's folder",
    )
    _add_json(sub)
    sub = add(
        "devices",
        "list what a network can be computed on here, and which of it auto takes",
        _devices,
        "  drmc devices\n  drmc devices --json",
    )
    _add_json(sub)
    for name, (module, text) in ROOMS.items():
        if importlib.util.find_spec(module) is not None:
            _add_room(commands, name, module, text, chosen=name in arguments[:1])
    return parser


def _add_denoise(add: Callable[..., argparse.ArgumentParser]) -> None:
    sub = add(
        "denoise",
        "denoise a scan, or every scan of a folder",
        _denoise,
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
        "routing_lesions.csv, routing.csv, report.html and summary.json.",
    )
    sub.add_argument(
        "input", metavar="INPUT", help="DICOM folder or file, NIfTI, NRRD or MHA, or a folder of scans"
    )
    sub.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="folder for the results (made if need be)"
    )
    sub.add_argument(
        "--model", metavar="M", help="name of an installed model, or a weight file (default: drmc models)"
    )
    sub.add_argument(
        "--lesions",
        metavar="SEG",
        help=f"{LESIONS}; in a batch a folder with files or folders of the scans' names, or a pattern with "
        "{name} or {folder}",
    )
    sub.add_argument(
        "--reference",
        metavar="FULLDOSE",
        help="full-dose image on the same grid, to compare with; in a batch as --lesions",
    )
    _add_liver(sub)
    sub.add_argument(
        "--device",
        type=_device,
        default="auto",
        metavar="{auto,cpu,cuda,mps}",
        help="where to compute (default auto)",
    )
    sub.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="arithmetic (default auto: bf16 on CUDA cards that compute in it, else fp32)",
    )
    sub.add_argument(
        "--format",
        choices=("nifti", "nrrd", "dicom"),
        default="nifti",
        help="form of the denoised image (default nifti); dicom: a new PET series, from DICOM input only",
    )
    sub.add_argument(
        "--dicom", action="store_true", help="write the DICOM series as well, beside an image of another form"
    )
    sub.add_argument(
        "--tile-batch", type=int, metavar="N", help="tiles computed at once; lower it when memory is short"
    )
    _add_reading(sub)
    sub.add_argument(
        "--batch", action="store_true", help="take INPUT as a folder of scans even if it holds only one"
    )
    sub.add_argument("--match", metavar="GLOB", help="batch: the scans are what matches below INPUT")
    sub.add_argument(
        "--resume",
        action="store_true",
        help="batch: leave out scans that are complete in OUT and were made from the same scan, lesions, reference, model "
        "and settings, by their content",
    )
    sub.add_argument(
        "--headers",
        metavar="TABLE",
        help="batch: a CSV file with values as --header gives them, one row a scan: the column scan (its name as in "
        "batch.csv, or its path below INPUT), and columns named by keywords",
    )
    sub.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="batch: how many scans at a time, each in a process of its own (default 1)",
    )
    add_progress_argument(sub)
    sub.add_argument(
        "--cancel-on-eof", action="store_true", help="stop when standard input ends (for a parent process)"
    )


def _add_liver(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--liver-reference",
        metavar="SEGMENT",
        help="the segment of --lesions from which the PERCIST threshold is taken, 1.5 x mean + 2 SD (default: one called "
        "liver, where there is one)",
    )


def _add_json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print JSON")
    add_progress_argument(sub)


def _add_reading(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--series",
        metavar="UID",
        help="SeriesInstanceUID, where a folder holds more than one series (default: the only attenuation-corrected PET)",
    )
    sub.add_argument(
        "--series-description",
        metavar="TEXT",
        help="the PET series whose description alone holds this text, in capitals or not; in a batch for every scan",
    )
    sub.add_argument(
        "--units",
        choices=("suv", "bqml", "kbqml", "mbqml", "nciml", "uciml"),
        metavar="UNITS",
        help="what a file holds that does not say so: suv, or an activity per ml (bqml, kbqml, mbqml, nciml, uciml), "
        "whose SUV its side-car JSON must then give; it is never guessed",
    )
    sub.add_argument("--suv-type", metavar="TYPE", help="SUV normalization (default bw, body weight)")
    sub.add_argument(
        "--accept-suv",
        dest="accept_rule",
        metavar="RULE",
        help="the reference-time rule to take when rules disagree (drmc suv); what is implausible and yet right: DOSE, "
        "HALF_LIFE, UPTAKE, BODY, FORMULA, SUV, PHILIPS, CLOCK; several with commas (ST,DOSE)",
    )
    sub.add_argument(
        "--header",
        action=_HeaderValue,
        default={},
        metavar="KEYWORD=VALUE",
        help="a value of the scan's DICOM header that is missing or wrong there, for its SUV alone (PatientWeight=70 "
        "in kg, RadionuclideTotalDose=3.7e8 in Bq, ...; empty: as if it were not there); may be repeated; the "
        "reference keeps its own; of one scan only, a batch takes --headers",
    )


def _add_room(commands: Any, name: str, module: str, text: str, *, chosen: bool) -> None:
    """A subcommand of a room of its own, which is imported only when it is the one that was asked for."""
    sub = commands.add_parser(
        name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if chosen:
        room = importlib.import_module(module)
        sub.description = room.__doc__
        room.add_arguments(sub)
        sub.set_defaults(command=lambda options, reporter: _run_room(room.run, options, reporter))


def _run_room(
    run: Callable[[argparse.Namespace, Reporter], int], options: argparse.Namespace, reporter: Reporter
) -> int:
    """Runs a room that polls no flag: SIGTERM stops it as SIGINT does, unless it has its own handler."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return run(options, reporter)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return run(options, reporter)


class _HeaderValue(argparse.Action):
    """Collects KEYWORD=VALUE."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        from drmc.suv import manual

        earlier = [f"{keyword}={text}" for keyword, text in namespace.header.items()]
        namespace.header = manual.parse([*earlier, values])


def _device(text: str) -> str:
    head, _, number = text.partition(":")
    if head not in ("auto", "cpu", "cuda", "mps") or (number and not (head == "cuda" and number.isdecimal())):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda, cuda:N or mps")
    return text


# ---- reading


def _read(options: argparse.Namespace) -> tuple[Path, Any]:
    """What the input stands for, and the PETVolume there."""
    from drmc.denoising.finding import find_scan, passed_over
    from drmc.pet.in_memory import resolve
    from drmc.pet.reading import read_volume

    path = Path(resolve(options.input))
    scan = find_scan(path)
    volume = read_volume(
        scan,
        series_uid=options.series,
        series_description=options.series_description,
        header=options.header,
        **_reading(options),
    )
    volume.notices[:0] = passed_over(path, scan)
    return path, volume


def _suv_type(options: argparse.Namespace) -> str:
    return options.suv_type or "bw"


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    return {"suv_type": _suv_type(options), "accept_rule": options.accept_rule, "units": options.units}


# ---- printing


def _reporter(options: argparse.Namespace) -> Reporter:
    return (
        JsonProgress(sys.stdout)
        if getattr(options, "progress", None) == "json"
        else TerminalProgress(sys.stderr)
    )


def _end(reporter: Reporter | None, message: str, code: int, details: dict[str, Any] | None = None) -> int:
    if os.environ.get("DRMC_DEBUG") == "1" and code == 1:
        traceback.print_exc()
    line = " ".join(message.split())
    with contextlib.suppress(OSError):
        if reporter is not None:
            reporter.error(line, code, **(details or {}))
        print(f"drmc: {line}", file=sys.stderr, flush=True)
    return code


def _print_denoised(summary: dict[str, Any], output: Path) -> None:
    lesions = summary["lesions"]
    if lesions is not None:
        by_segment: dict[str, dict[str, Any]] = {}
        for row in lesions["segments"]:
            by_segment.setdefault(row["segment"], {})[row["stage"]] = row
        columns = (*TABLE_QUANTITIES, *FIXED_VOLUMES)
        titles = ["segment", "volume [ml]", *(title for _, title in columns)]
        cells = []
        for segment, stages in by_segment.items():
            before, after, change = (
                stages.get(stage, {}) for stage in ("original", "denoised", "change_percent")
            )
            cells.append(
                [
                    segment,
                    _number(before.get("volume_ml")),
                    *(_change(before, after, change, key) for key, _ in columns),
                ]
            )
        print("lesions, original -> denoised (change)")
        _print_table(titles, cells)
        _print_volumes(lesions["segments"])
    reference = summary["reference"]
    if reference is not None:
        for name, unit in (("psnr", " dB"), ("nrmse", ""), ("ssim", "")):
            before, after = (_number(reference[name][stage]) for stage in ("original", "denoised"))
            print(f"{name.upper()} in the body against the reference: {before} -> {after}{unit}")
        if reference.get("lesions"):
            _print_bias(reference["lesions"])
    _print_suv(summary["suv"], summary["input"]["units"])
    if reference is not None:
        _print_suv(reference["suv"], reference["input"]["units"], "reference")
    tiles, model = summary["tiles"]["count"], summary["model"]["name"]
    where = f"{summary['device']} ({summary['precision']})"
    print(f"{tiles} tiles on {where} in {duration(summary['seconds']['total'])}, model {model}")
    print(f"denoised: {shown(output / summary['outputs'][0])}")
    print(f"report: {shown(output / 'report.html')}")
    print(RESEARCH)


def _print_suv(decision: dict[str, Any], units: str, whose: str = "") -> None:
    """Factor, rule and warnings of the SUV that the numbers rest on."""
    from drmc.suv import wording

    print((f"{whose}: " if whose else "") + wording.one_line(decision, units))
    for text in wording.warning_lines(decision, whose):
        print(f"warning: {text}")


def _print_bias(bias: dict[str, Any]) -> None:
    for stage, found in bias["patient"].items():
        values = ", ".join(
            f"B_{key} {_percent(found[f'B_{key}'])} (n {found[f'n_{key}']})"
            for key in ("mean", "max", "peak")
        )
        print(f"bias against the reference, {stage}: {values}")


def _print_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    print("\n".join(table_lines(titles, cells)))


def _change(before: dict[str, Any], after: dict[str, Any], change: dict[str, Any], key: str) -> str:
    percent = change.get(key)
    said = "" if percent is None else f" ({percent:+.1f} %{_mark(change, key)})"
    return f"{_number(before.get(key))} -> {_number(after.get(key))}{said}"


def _mark(row: dict[str, Any], key: str) -> str:
    """The mark of a change whose threshold has changed with it."""
    from drmc.measures import mtv

    changed = row.get("stage") == "change_percent" and key in mtv.RELATIVE and row.get(key)
    return f" {mtv.MARK}" if changed else ""


def _print_volumes(rows: Sequence[dict[str, Any]]) -> None:
    """What the mark means, once, and the PERCIST threshold where there is one."""
    from drmc.measures import mtv

    if any(_mark(row, key) for row in rows for key in mtv.RELATIVE):
        print(f"{mtv.MARK} {mtv.EXPLANATION}")
    percist = next(
        (row["percist_threshold"] for row in rows if row.get("percist_threshold") is not None), None
    )
    if percist is not None:
        print(f"PERCIST threshold by the liver of the original, 1.5 x mean + 2 SD: SUV {_number(percist)}")
        for row in rows:
            if row.get("mtv_percist_ml") is not None and row["stage"] != "change_percent":
                volume, glycolysis = _number(row["mtv_percist_ml"]), _number(row["tlg_percist"])
                print(f"  {row['segment']}, {row['stage']}: MTV {volume} ml, TLG {glycolysis}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def _model(entry: Any) -> dict[str, Any]:
    card = entry.card or {}
    keys = (
        "title",
        "parameters",
        "tile",
        "kind",
        "config",
        "training",
        "evaluation",
        "license",
        "intended_use",
        "command",
        "problem",
    )
    found = {key: card.get(key) for key in keys}
    return {
        "name": entry.name,
        "path": str(entry.path),
        "sha256": entry.sha256,
        "default": bool(card.get("default")),
        **found,
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def _printed(options: argparse.Namespace, reporter: Reporter, found: dict[str, Any]) -> bool:
    """Prints what a command has found where a program asked for it, as its --progress or --json says."""
    from drmc.files import jsonable

    reporter.result(**jsonable(found))
    if options.json and options.progress != "json":
        _print_json(found)
    return options.json or options.progress == "json"


def _print_json(value: Any) -> None:
    from drmc.files import jsonable

    print(json.dumps(jsonable(value), indent=2, allow_nan=False))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps the libraries' warnings off standard error, where one line must say it all."""
    silence = logging.NullHandler()
    logging.getLogger().addHandler(silence)  # else Python prints warnings that no handler takes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(silence)


@contextlib.contextmanager
def _without_native_text() -> Iterator[None]:
    """Keeps what libraries in C and C++ (ITK on a damaged file) print past Python off standard error.

    File descriptor 2 goes nowhere meanwhile, and sys.stderr to a copy of it.
    """
    python_stderr = sys.stderr
    try:
        python_stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):  # no standard error at all
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        if _descriptor(python_stderr) == 2:
            sys.stderr = open(
                os.dup(kept), "w", encoding=python_stderr.encoding, errors="backslashreplace", buffering=1
            )
        yield
    finally:
        if sys.stderr is not python_stderr:
            with contextlib.suppress(OSError):
                sys.stderr.close()
            sys.stderr = python_stderr
        os.dup2(kept, 2)
        os.close(kept)


def _descriptor(stream: Any) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
