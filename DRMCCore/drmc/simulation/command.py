"""The command `drmc simulate`."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drmc.errors import InputError
from drmc.runtime.arguments import add_cpu_or_cuda_argument, cpu_or_cuda
from drmc.runtime.progress import Reporter, add_progress_argument, counting, duration, table_lines
from drmc.simulation.fields import FIELD_NAMES, WHOLE

if TYPE_CHECKING:
    from drmc.simulation.centers import Center
    from drmc.simulation.cohort import ScanOptions
    from drmc.simulation.patients import PatientSource


TINY_PATIENTS = {"train": 2, "validation": 1, "test": 1}
"""Of each center, by split."""
TINY_AXIAL_MM = 160.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc simulate`."""
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="a dataset to try the commands with, in a minute: a window of eight patients of two coarse "
        "scanners, for training, validation and test; goes with --seed, --workers and --device only",
    )
    _add_centers(parser.add_argument_group("centers and their fields"))
    _add_patients(parser.add_argument_group("patients"))
    _add_given_patient(parser.add_argument_group("a given patient in the place of procedural ones"))
    _add_images(parser.add_argument_group("imperfections and further images"))
    parser.add_argument(
        "--workers", type=int, default=1, help="patients simulated at the same time (default 1)"
    )
    add_cpu_or_cuda_argument(parser, "; the patients are the same, their noise is drawn on the device")
    parser.add_argument("-o", "--output", type=Path, metavar="DATASET", help="dataset folder")
    add_progress_argument(parser)
    parser.add_argument(
        "--benchmark",
        action="store_true",
        help="write nothing: measure the seconds and the memory of one patient of each center (default C1)",
    )
    parser.add_argument(
        "--audit",
        action="store_true",
        help="simulate no scan: hold the anatomy of --patients whole bodies against references; -o FOLDER "
        "keeps the page",
    )
    parser.add_argument("--json", action="store_true", help="print the benchmark or the audit as JSON")


def _add_centers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--centers",
        metavar="C1,C2",
        help="centers of the paper's Table 1, C1 to C6, or files of one's own centers (JSON)",
    )
    group.add_argument(
        "--random-centers",
        type=int,
        metavar="N",
        help="N centers drawn from wide ranges, by --seed, in the place of --centers; with --tof all have "
        "time of flight",
    )
    group.add_argument(
        "--tof", action="store_true", help="sort counts by time of flight; three to four times as long"
    )
    group.add_argument("--drf", metavar="3,4,6", help="dose reduction factors (default: the center's own)")
    group.add_argument("--axial-mm", type=float, help="scan only a random axial window of this length")
    group.add_argument(
        "--field",
        choices=FIELD_NAMES,
        default=WHOLE,
        help="what of procedural bodies is scanned (default whole); mixed: most of them skull base to thigh",
    )
    group.add_argument(
        "--calibration-error",
        type=float,
        default=0.0,
        metavar="SD",
        help="standard deviation of the scanners' calibration, 0.05 = 5 %%",
    )


def _add_patients(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--patients", type=int, default=4, help="patients per center (default 4)")
    group.add_argument(
        "--seed", type=int, default=7, help="the same seed gives the same patients (default 7)"
    )
    group.add_argument(
        "--split", default="train", choices=("train", "validation", "test"), help="default train"
    )
    group.add_argument(
        "--tracer", default="FDG", help="uptake table: FDG (default), PSMA-11, DOTATATE, FAPI, or mixed"
    )
    group.add_argument(
        "--brain-maps",
        type=Path,
        metavar="FOLDER",
        help="ICBM152 gray and white matter maps for heads (default: procedural brains)",
    )
    group.add_argument(
        "--wide-uptake",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the patients (0 to 1) whose organs take up far more or less than the tracer's table "
        "says",
    )
    group.add_argument(
        "--wide-build",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the procedural patients whose height and weight are drawn far beyond the usual",
    )
    group.add_argument(
        "--many-lesions",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the patients with tens of lesions of every size and contrast in what is scanned of "
        "them",
    )


def _add_given_patient(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--semi-real",
        type=Path,
        metavar="SCAN",
        help="scan this real PET scan again (DICOM, NIfTI, NRRD, MHA) in the place of procedural patients",
    )
    group.add_argument(
        "--lesions", type=Path, metavar="SEGMENTATION", help="with --semi-real: the scan's lesions"
    )
    group.add_argument(
        "--organs",
        type=Path,
        metavar="SEGMENTATION",
        help="with --semi-real: the scan's organs, such as those of drmc segment, whose liver and lungs are "
        "taken (default: both are guessed)",
    )
    group.add_argument(
        "--units",
        metavar="UNITS",
        help="with --semi-real: what a scan without a side-car JSON holds, e.g. suv, bqml",
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="MAP",
        help="scan the body of this organ label map (NIfTI, NRRD, MHA) in the place of procedural patients",
    )
    group.add_argument(
        "--label-names",
        type=Path,
        metavar="NAMES",
        help='with --labels: JSON of its values, {"5": "liver", "13": "kidney_left"}; names as here or in '
        "TotalSegmentator",
    )
    group.add_argument(
        "--weight",
        type=float,
        metavar="KG",
        help="with --labels: the patient's weight (default: the mass of the map's tissues)",
    )


def _add_images(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--breathing", type=float, default=0.0, metavar="MM", help="excursion of the diaphragm while counting"
    )
    group.add_argument(
        "--attenuation-mismatch",
        type=float,
        default=0.0,
        metavar="MM",
        help="how much lower the diaphragm stood in the attenuation map",
    )
    group.add_argument(
        "--uncorrected",
        action="store_true",
        help="images without correction for attenuation too, of the same events; about twice as long",
    )
    group.add_argument(
        "--noise-free",
        action="store_true",
        help="the full-dose image without noise too, of the expected counts: a target for training",
    )
    group.add_argument(
        "--compact",
        action="store_true",
        help="store images cropped to the body, with the precision of 16-bit numbers, and no truth: about a "
        "third of the size",
    )


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Simulates a cohort; returns the exit code."""
    if arguments.axial_mm is not None and not 20 <= arguments.axial_mm < math.inf:
        raise InputError(
            f"--axial-mm {arguments.axial_mm:g}: a window shorter than 20 mm holds no patient; give a length "
            "in mm"
        )
    if arguments.seed < 0 or arguments.workers < 1:
        raise InputError("--seed must be at least 0 and --workers at least 1")
    if arguments.tiny:
        _make_tiny(arguments)
    factors = _factors(arguments.drf)
    if arguments.audit:
        return _audit(arguments, reporter)
    if arguments.benchmark:
        return _benchmark(arguments, factors, reporter)
    if arguments.output is None or (arguments.centers is None and arguments.random_centers is None):
        raise InputError(
            "-o and --centers or --random-centers are needed, or --benchmark or --audit; see drmc simulate "
            "--help"
        )
    if arguments.json:
        raise InputError("--json belongs to --benchmark and --audit; the progress as JSON is --progress json")
    centers = _centers(arguments)
    patients = TINY_PATIENTS if arguments.tiny else arguments.patients

    from drmc.simulation.cohort import write_cohort

    manifest = write_cohort(
        arguments.output,
        centers,
        patients,
        seed=arguments.seed,
        split=arguments.split,
        options=_options(arguments, centers, factors, cpu_or_cuda(arguments.device)[-1]),
        workers=arguments.workers,
        report=lambda done, total, case, seconds: reporter.outcome(
            case, "done", f"{duration(seconds)} ({done}/{total})"
        ),
        progress=counting(reporter, "patient"),
    )
    reporter.result(output=str(manifest))
    if arguments.progress != "json":
        print(f"simulated dataset: {manifest}")
    return 0


def _refuse_others(arguments: argparse.Namespace, free: Sequence[str], why: str) -> None:
    """InputError where an argument is given that would have no effect beside those that are `free`."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for name in vars(parser.parse_args([])):
        if name not in free and getattr(arguments, name) != parser.get_default(name):
            raise InputError(f"{why}: leave --{name.replace('_', '-')} out")


def _make_tiny(arguments: argparse.Namespace) -> None:
    """Sets the arguments to those of `--tiny`; refuses those that it does not go with."""
    free = ("tiny", "seed", "workers", "device", "output", "progress")
    _refuse_others(arguments, free, "--tiny has its own centers, patients and images")
    arguments.centers = str(Path(__file__).with_name("tiny.json"))
    arguments.axial_mm, arguments.field = TINY_AXIAL_MM, "thorax"


def _audit(arguments: argparse.Namespace, reporter: Reporter) -> int:
    from drmc import files
    from drmc.denoising.staging import check_output_folder
    from drmc.simulation import audit_page
    from drmc.simulation.audit import audit
    from drmc.simulation.tracers import find_tracer

    free = ("audit", "patients", "seed", "tracer", "workers", "output", "progress", "json")
    _refuse_others(arguments, free, "--audit looks at the anatomy of whole bodies alone")
    find_tracer(arguments.tracer)
    if arguments.output is not None:
        check_output_folder(arguments.output)
    found = audit(
        arguments.patients,
        seed=arguments.seed,
        tracer=arguments.tracer,
        workers=arguments.workers,
        progress=lambda done, total: reporter.progress(done, total, None, "patient"),
    )
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        files.write_json(arguments.output / "audit.json", found)
        files.write_text(arguments.output / "audit.html", audit_page.page(found))
    reporter.result(**found)
    if arguments.progress != "json":
        print(json.dumps(found, indent=2, allow_nan=False) if arguments.json else audit_page.text(found))
    return 0


def _benchmark(arguments: argparse.Namespace, factors: tuple[float, ...] | None, reporter: Reporter) -> int:
    from drmc.simulation.benchmark import benchmark

    centers = _centers(arguments)
    found = benchmark(
        centers,
        [
            _options(arguments, centers, factors, device)
            for device in cpu_or_cuda(arguments.device, every=arguments.device == "auto")
        ],
        seed=arguments.seed,
        progress=counting(reporter, "patient"),
    )
    reporter.result(**found)
    if arguments.progress == "json":
        return 0
    if arguments.json:
        print(json.dumps(found, indent=2, allow_nan=False))
        return 0
    hardware = found["hardware"]
    memory = hardware["memory_bytes"]
    print(
        f"{hardware['processor']}, {hardware['physical_cores']} cores"
        + (f", {memory / 2**30:.0f} GiB" if memory else "")
        + (f"; {hardware['gpu']}" if "gpu" in hardware else "")
    )
    titles = [
        "center",
        "device",
        "window [mm]",
        "slices",
        "doses",
        "prepare [s]",
        "reconstruct [s]",
        "total [s]",
    ]
    cells = [
        [
            row["center"],
            row["device"],
            "whole" if row["whole_patient"] else f"{row['axial_mm']:g}",
            str(row["slices"]),
            "full, " + ", ".join(f"1/{factor:g}" for factor in row["dose_reduction_factors"]),
            f"{row['seconds']['prepare']:.1f}",
            f"{row['seconds']['reconstruct']:.1f}",
            f"{row['seconds']['total']:.1f}",
            f"{row['peak_memory_bytes'] / 2**30:.1f}",
            "-" if row["gpu_peak_memory_bytes"] is None else f"{row['gpu_peak_memory_bytes'] / 2**30:.1f}",
        ]
        for row in found["simulation"]
    ]
    print("\n".join(table_lines([*titles, "memory [GiB]", "GPU [GiB]"], cells)))
    if arguments.axial_mm is not None:
        print(
            f"an axial window of {arguments.axial_mm:g} mm only: a whole patient takes longer, in proportion"
        )
    return 0


def _options(
    arguments: argparse.Namespace,
    centers: list[Center],
    factors: tuple[float, ...] | None,
    device: str,
) -> ScanOptions:
    from drmc.simulation.cohort import ScanOptions
    from drmc.simulation.imperfections import Imperfections

    imperfections = Imperfections(
        arguments.breathing, arguments.attenuation_mismatch, arguments.calibration_error
    )
    return ScanOptions(
        factors,
        arguments.axial_mm,
        device,
        arguments.tof,
        imperfections,
        arguments.uncorrected,
        arguments.noise_free,
        arguments.compact,
        _source(arguments, centers),
    )


def _source(arguments: argparse.Namespace, centers: list[Center]) -> PatientSource:
    """Refuses a real scan here, in one line, before any worker starts."""
    from drmc.simulation.brain_maps import read_maps
    from drmc.simulation.patients import PatientSource

    for option in ("wide_uptake", "wide_build", "many_lesions"):
        if not 0 <= (share := getattr(arguments, option)) <= 1:
            raise InputError(f"--{option.replace('_', '-')} {share:g}: give a share from 0 to 1")
    if arguments.labels is not None:
        return _label_source(arguments, centers)
    if arguments.label_names is not None or arguments.weight is not None:
        raise InputError("--label-names and --weight belong to --labels")
    if arguments.semi_real is None:
        if arguments.lesions is not None:
            raise InputError("--lesions belongs to --semi-real: procedural patients bring their own")
        if arguments.organs is not None:
            raise InputError("--organs belongs to --semi-real: procedural patients bring their own")
        if arguments.units is not None:
            raise InputError("--units belongs to --semi-real: what is simulated is SUV")
        _check_tracer(arguments.tracer)
        source = PatientSource(
            tracer=arguments.tracer,
            brain_maps=arguments.brain_maps,
            wide_uptake=arguments.wide_uptake,
            wide_build=arguments.wide_build,
            many_lesions=arguments.many_lesions,
            field=arguments.field,
        )
        if arguments.brain_maps is not None:
            read_maps(arguments.brain_maps)
        return source
    _refuse_heads("--semi-real", centers)
    if arguments.field != WHOLE:
        raise InputError("--semi-real: a real scan has its field already; leave --field out")
    for option in ("tracer", "brain_maps", "wide_uptake", "wide_build", "many_lesions"):
        if getattr(arguments, option) not in (None, 0.0, "FDG"):
            raise InputError(f"--semi-real: a real scan is as it is; leave --{option.replace('_', '-')} out")
    if arguments.breathing or arguments.attenuation_mismatch:
        raise InputError(
            "--semi-real: a real scan has breathed already; leave --breathing and the mismatch out"
        )
    source = PatientSource(
        scan=arguments.semi_real,
        lesions=arguments.lesions,
        organs=arguments.organs,
        units=arguments.units,
    )
    source.check()
    return source


def _label_source(arguments: argparse.Namespace, centers: list[Center]) -> PatientSource:
    from drmc.simulation.labelmap import read_label_map
    from drmc.simulation.patients import PatientSource

    if arguments.label_names is None:
        raise InputError("--labels: give --label-names NAMES.json too, which says what the map's values are")
    if any(getattr(arguments, name) is not None for name in ("semi_real", "lesions", "organs", "brain_maps")):
        raise InputError(
            "--labels: leave --semi-real, --lesions, --organs and --brain-maps out; lesions are drawn"
        )
    if arguments.field != WHOLE:
        raise InputError("--labels: a map has its field already; leave --field out")
    if arguments.wide_build:
        raise InputError("--labels: a map has its build already; leave --wide-build out")
    if arguments.weight is not None and not 2 <= arguments.weight <= 400:
        raise InputError(f"--weight {arguments.weight:g}: give a body weight from 2 to 400 kg")
    _refuse_heads("--labels", centers)
    _check_tracer(arguments.tracer)
    read_label_map(arguments.labels, arguments.label_names)
    return PatientSource(
        tracer=arguments.tracer,
        label_map=arguments.labels,
        label_names=arguments.label_names,
        weight_kg=arguments.weight,
        wide_uptake=arguments.wide_uptake,
        many_lesions=arguments.many_lesions,
    )


def _check_tracer(name: str) -> None:
    from drmc.simulation.tracers import MIXED, find_tracer

    if name != MIXED:
        find_tracer(name)


def _refuse_heads(option: str, centers: list[Center]) -> None:
    brains = [center.name for center in centers if center.region == "brain"]
    if brains:
        raise InputError(f"{option}: center {brains[0]} scans heads; choose centers of the whole body")


def _centers(arguments: argparse.Namespace) -> list[Center]:
    """Those that are named or drawn; C1 where none is, for the benchmark."""
    from drmc.simulation.centers import find_centers
    from drmc.simulation.cohort import check_centers
    from drmc.simulation.random_centers import random_centers

    if arguments.random_centers is None:
        return check_centers(find_centers(arguments.centers or "C1"))
    if arguments.centers is not None:
        raise InputError("--random-centers draws its own centers: leave --centers out")
    return check_centers(random_centers(arguments.seed, arguments.random_centers, tof=arguments.tof))


def _factors(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        factors = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--drf '{text}': give numbers like 3,4,6") from None
    if not all(1 < factor < math.inf for factor in factors):
        raise InputError(f"--drf '{text}': a dose reduction factor is greater than 1")
    return factors
