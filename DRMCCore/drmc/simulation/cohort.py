"""Simulated patients: from a seed and a center to full-dose and low-dose scans on disk, with their truth.

The layout is that of `drmc.datasets.manifest`: float32 SUV on the center's own grid, never clipped; uint8
labels; the truth is the activity in SUV before the scanner.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

import drmc
from drmc.datasets.manifest import (
    MANIFEST,
    NOISE_FREE,
    SCHEMA,
    SIDECAR,
    SPLITS,
    case_entry,
    is_folder_name,
    is_simulated,
    low_name,
    uncorrected_name,
)
from drmc.denoising.staging import check_output_folder
from drmc.errors import DRMCError, InputError
from drmc.files import plain_path, read_json_object, write_json
from drmc.imaging.geometry import triple
from drmc.imaging.integrity import check_written
from drmc.runtime.workers import run_in_processes
from drmc.simulation.centers import CENTERS, Center
from drmc.simulation.imperfections import Imperfections
from drmc.simulation.patients import PatientSource
from drmc.simulation.scan import PERFECT, Scan, anatomy_seed, simulate_patient

SCAN_MM = {"wholebody": 1150.0, "brain": 180.0}
"""Usual height of a scan by region, to foresee the room that it takes."""
COMPACT_MARGIN_MM = 16.0  # of air around the body in compact images
MOST_PATIENTS = 100_000  # of a cohort: more would not fit into memory, nor any disk
_NOT_OF_SCANS = ("source", "compact")  # options that are no matter of the scanner
_STORED_SHARE = 0.85  # of the raw size of an image on disk, measured: 0.75 (C1) to 0.92 (C5)

_COMPACT_SHARE = 0.3  # of the same images that are not compact, measured


def patient_seed(seed: int, center: str, split: str, index: int) -> np.random.SeedSequence:
    """Seed of one patient; different splits, centers and indices never share one."""
    return np.random.SeedSequence(_seed_key(seed, center, split, index))


def _seed_key(seed: int, center: str, split: str, index: int) -> list[int]:
    return [seed, _center_key(center), SPLITS.index(split), index]


def _center_key(name: str) -> int:
    """0 to 5 for the centers of Table 1; for any other a hash of its name, 32 bits, never one of the six."""
    known = list(CENTERS)
    if name in known:
        return known.index(name)
    found = zlib.crc32(name.encode("utf-8"))
    return found if found >= len(known) else found + len(known)


def check_centers(centers: Iterable[Center]) -> list[Center]:
    """The centers, each once.

    Two names that differ in upper and lower case only would share a folder on some systems.

    Raises:
        InputError: a name cannot be that of a folder, or two centers share one.
    """
    found: dict[str, Center] = {name.casefold(): CENTERS[name] for name in CENTERS}
    chosen: dict[str, Center] = {}
    for center in centers:
        name = center.name
        if not is_folder_name(name):
            raise InputError(
                f"center name {name!r} is no safe name of a folder: use letters, digits, '_' and '-'"
            )
        if found.setdefault(name.casefold(), center) != center:
            raise InputError(f"center name '{name}' is taken by another center: choose another name")
        chosen[name] = center
    keys = [_center_key(name) for name in chosen]
    if len(set(keys)) < len(keys):
        raise InputError(f"the names {', '.join(chosen)} would share their seeds: rename a center")
    return list(chosen.values())


@dataclass(frozen=True)
class ScanOptions:
    """How patients are scanned: the options of `simulate_patient`, alike for all patients of a run."""

    dose_reduction_factors: tuple[float, ...] | None = None
    axial_mm: float | None = None
    device: str = "cpu"
    tof: bool = False
    imperfections: Imperfections = PERFECT
    uncorrected: bool = False
    noise_free: bool = False
    compact: bool = False
    """Whether images are stored as `_compact` makes them, cropped to the body and without the truth."""
    source: PatientSource = field(default_factory=PatientSource)

    def doses(self, center: Center) -> list[float]:
        """Dose reduction factors in ascending order."""
        return sorted(float(f) for f in self.dose_reduction_factors or center.dose_reduction_factors)

    def scan(
        self, center: Center, seed: np.random.SeedSequence, progress: Callable[[float], None] | None
    ) -> Scan:
        """The patient of a seed scanned this way at a center."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _NOT_OF_SCANS}
        patient = self.source.patient(center, anatomy_seed(seed), self.axial_mm)
        return simulate_patient(center, seed, patient=patient, progress=progress, **own)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what pet.json says of the run, the doses apart."""
        return {
            "axial_mm": self.axial_mm,
            "device": self.device,
            "tof": self.tof,
            "imperfections": asdict(self.imperfections),
            "uncorrected": self.uncorrected,
            "noise_free": self.noise_free,
            "compact": self.compact,
            "source": self.source.to_dict(),
        }


def write_case(
    scan: Scan, center: Center, folder: Path, *, seed: Sequence[int], options: ScanOptions | None = None
) -> None:
    """Writes one patient into a new folder, atomically: the folder appears whole or not at all."""
    options = options or ScanOptions()
    cut: tuple[slice, ...] = (slice(None),) * 3
    origin_xyz = scan.origin_xyz
    if options.compact:
        cut, origin_xyz = _body_box(scan)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=_part_prefix(folder), dir=folder.parent))
    try:

        def write(name: str, array: np.ndarray, dtype: type[np.generic]) -> None:
            array = np.ascontiguousarray(array[cut], dtype=dtype)
            if options.compact and array.dtype == np.float32:
                array = _rounded(array)
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(scan.spacing_xyz)
            image.SetOrigin(origin_xyz)
            with plain_path(temporary / name) as plain:
                sitk.WriteImage(image, str(plain), useCompression=True, compressionLevel=1)
            check_written(temporary / name)

        write("full.nii.gz", scan.full, np.float32)
        for factor, image in scan.low.items():
            write(low_name(factor), image, np.float32)
        for factor, image in scan.uncorrected.items():
            write(uncorrected_name(factor), image, np.float32)
        if scan.noise_free is not None:
            write(f"{NOISE_FREE}.nii.gz", scan.noise_free, np.float32)
        if not options.compact:
            write("truth.nii.gz", scan.phantom.activity.cpu().numpy(), np.float32)
        write("organs.nii.gz", scan.phantom.organs.cpu().numpy(), np.uint8)
        write("lesions.nii.gz", scan.phantom.lesions.cpu().numpy(), np.uint8)
        write_json(temporary / SIDECAR, _sidecar(scan, center, seed, options))
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _body_box(scan: Scan) -> tuple[tuple[slice, ...], tuple[float, float, float]]:
    """The part of a scan around its body, all slices, and the position (x, y, z) of its first voxel in mm."""
    body = scan.phantom.organs.cpu().numpy() > 0
    margins = [math.ceil(COMPACT_MARGIN_MM / step) for step in scan.spacing_xyz[1::-1]]
    cut, origin = [slice(0, len(body))], list(scan.origin_xyz)
    for axis, margin in zip((1, 2), margins, strict=True):
        inside = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = (inside[0], inside[-1]) if inside.size else (0, body.shape[axis] - 1)
        cut.append(slice(max(0, first - margin), min(body.shape[axis], last + 1 + margin)))
        origin[2 - axis] += cut[axis].start * scan.spacing_xyz[2 - axis]
    return tuple(cut), triple(origin)


def _rounded(image: np.ndarray) -> np.ndarray:
    """A float32 image to the 11 significant bits of float16, which compress to a half."""
    bits = image.view(np.uint32) + np.uint32(1 << 12)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def _part_prefix(folder: Path) -> str:
    return f".part-{folder.name}-"


def _sidecar(scan: Scan, center: Center, seed: Sequence[int], options: ScanOptions) -> dict[str, Any]:
    """Key names of BIDS-PET where it has them."""
    return {
        "Simulated": True,
        "Units": "SUV",
        "Manufacturer": "DRMC simulation",
        "ManufacturersModelName": f"{center.scanner} (simulated)",
        "TracerName": scan.facts.get("tracer", options.source.tracer),
        "TracerRadionuclide": "F18",  # whatever the tracer: its uptake is modelled, its label is not
        "InjectedRadioactivity": center.injected(scan.facts["weight_kg"]),
        "InjectedRadioactivityUnits": "MBq",
        "BodyWeight": scan.facts["weight_kg"],
        "ReconMethodName": "OSEM"
        + (" with PSF" if any(center.modelled_psf_mm) else "")
        + (" and TOF" if options.tof else ""),
        "ReconMethodParameterLabels": ["iterations", "subsets"],
        "ReconMethodParameterValues": [
            center.tof_iterations if options.tof else center.iterations,
            center.subsets,
        ],
        "ReconFilterType": "Gaussian" if any(center.post_filter_mm) else "none",
        "ReconFilterSize": list(center.post_filter_mm),
        "FrameDuration": [center.seconds],
        "DoseReductionFactors": sorted(scan.low),
        "Seed": list(seed),
        "AttenuationCorrection": "the attenuation map of the phantom",
        **({"Uncorrected": _uncorrected(scan)} if scan.uncorrected else {}),
        **({"PatientID": options.source.patient_id} if options.source.patient_id else {}),
        "Options": options.to_dict(),
        "Center": center.to_dict(),
        "Facts": scan.facts,
        "SoftwareVersion": drmc.__version__,
    }


def _uncorrected(scan: Scan) -> dict[str, Any]:
    """What the images without correction for attenuation are: the same events, reconstructed again."""
    return {
        "Files": [uncorrected_name(factor) for factor in sorted(scan.uncorrected)],
        "AttenuationCorrection": "none",
        "ScatterCorrectionMethod": "none",
        "Units": "arbitrary",
    }


# ---------------------------------------------------------------------------------------------------- cohorts
@dataclass(frozen=True)
class CaseTask:
    """One patient to simulate."""

    center: Center
    split: str
    index: int
    seed: int
    folder: Path
    threads: int
    options: ScanOptions = field(default_factory=ScanOptions)

    @property
    def case_id(self) -> str:
        """E.g. C1-train-0001."""
        return f"{self.center.name}-{self.split}-{self.index:04d}"


def _run_task(task: CaseTask, progress: Callable[[float], None] | None = None) -> float:
    """Simulates and writes one patient; returns the seconds that it took."""
    torch.set_num_threads(task.threads)
    start = time.monotonic()
    key = _seed_key(task.seed, task.center.name, task.split, task.index)
    try:
        scan = task.options.scan(task.center, np.random.SeedSequence(key), progress)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise DRMCError(
            f"{task.case_id}: out of memory; use fewer --workers, --axial-mm or a computer with more"
        ) from error
    write_case(scan, task.center, task.folder, seed=key, options=task.options)
    return time.monotonic() - start


def write_cohort(
    dataset: Path,
    centers: Sequence[Center],
    patients: int | Mapping[str, int],
    *,
    seed: int,
    split: str = "train",
    options: ScanOptions | None = None,
    workers: int = 1,
    threads: int | None = None,
    report: Callable[[int, int, str, float], None] | None = None,
    progress: Callable[[float, int, float | None], None] | None = None,
) -> Path:
    """Simulates patients of several centers into a dataset.

    Existing cases are kept. A signal or an exception ends all workers and leaves no half-written case.

    Args:
        dataset: folder of the manifest.
        centers: whose patients are simulated.
        patients: number per center, or these numbers by split.
        seed: the same seed gives the same patients.
        split: one of `SPLITS`, of a number of patients.
        options: doses, source of the patients and so on.
        workers: patients that are simulated at the same time.
        threads: of each worker; None: its share of the cores.
        report: called with (done, total, case, seconds) after every case.
        progress: called with (done, total, seconds left); `done` includes the shares of unfinished cases.

    Returns:
        The path of the manifest.

    Raises:
        InputError: the options contradict each other or the dataset, or the disk is too full.
    """
    options = options or ScanOptions()
    numbers = _numbers(patients, split, len(centers))
    check_output_folder(dataset)
    _check_simulated(dataset)
    threads = threads or max(1, (torch.get_num_threads() // workers))
    tasks = [
        CaseTask(center, split, index, seed, folder / f"{folder.name}-{split}-{index:04d}", threads, options)
        for split, number in numbers.items()
        for center, index in product(centers, range(1, number + 1))
        for folder in [dataset / center.name]
    ]
    _check_same_study(tasks)
    waiting = [t for t in tasks if not (t.folder / SIDECAR).is_file()]
    _check_disk_space(dataset, waiting)
    dataset.mkdir(parents=True, exist_ok=True)
    state = _Progress([_bytes_of(t.center, options) for t in waiting], len(tasks), progress)

    def finished(index: int, seconds: float) -> None:
        state.finish(index)
        write_manifest(dataset)
        if report is not None:
            report(state.count, len(tasks), waiting[index].case_id, seconds)

    _remove_parts(waiting)  # of a run that was killed
    state.report()
    try:
        if workers == 1:
            for index, task in enumerate(waiting):
                finished(index, _run_task(task, partial(state.share, index)))
        elif waiting:
            run_in_processes(_run_task, waiting, workers, progress=state.share, finished=finished)
    except BaseException:
        _remove_parts(waiting)  # of workers that were killed
        raise
    return write_manifest(dataset)


def _numbers(patients: int | Mapping[str, int], split: str, centers: int) -> Mapping[str, int]:
    """Patients of a center by split. Raises InputError for an unknown split, and for none or too many."""
    numbers = patients if isinstance(patients, Mapping) else {split: patients}
    for split, number in numbers.items():
        if split not in SPLITS:
            raise InputError(f"unknown split '{split}': choose from {', '.join(SPLITS)}")
        if number < 1:
            raise InputError(f"--patients {number}: at least one patient per center is needed")
    if (cases := sum(numbers.values()) * centers) > MOST_PATIENTS:
        raise InputError(f"{cases} patients of all centers: simulate at most {MOST_PATIENTS} at once")
    return numbers


class _Progress:
    """Share of the cohort that is done and the time that is left, from the shares of its patients."""

    def __init__(
        self, work: Sequence[float], total: int, report: Callable[[float, int, float | None], None] | None
    ):
        self._work, self._total, self._report = work, total, report
        self._shares = [0.0] * len(work)
        self._start = time.monotonic()

    @property
    def count(self) -> int:
        """Patients that are done, those of earlier runs too."""
        return self._total - len(self._shares) + sum(share >= 1 for share in self._shares)

    def share(self, index: int, share: float) -> None:
        """Patient `index` of this run is simulated by `share`; it still has to be written."""
        self._shares[index] = min(share, 0.99)
        self.report()

    def finish(self, index: int) -> None:
        """Patient `index` of this run is written."""
        self._shares[index] = 1.0
        self.report()

    def report(self) -> None:
        """Reports the progress of the cohort."""
        if self._report is None:
            return
        done = sum(share * work for share, work in zip(self._shares, self._work, strict=True))
        whole, seconds = sum(self._work), time.monotonic() - self._start
        left = seconds * (whole - done) / done if done > 0.01 * whole else None
        patients = self._total - len(self._shares) + math.fsum(self._shares)
        self._report(patients if patients < self._total else self._total, self._total, left)


def _bytes_of(center: Center, options: ScanOptions) -> float:
    """Approximate size of a case on disk, bytes; its computing time grows in proportion."""
    height = min(options.axial_mm or math.inf, SCAN_MM.get(center.region, SCAN_MM["wholebody"]))
    voxels = center.matrix**2 * height / center.voxel_mm[0]
    doses = 1 + len(options.doses(center))
    images = 1 + (2 if options.uncorrected else 1) * doses + options.noise_free
    return voxels * 4 * _STORED_SHARE * images * (_COMPACT_SHARE if options.compact else 1)


def _check_disk_space(dataset: Path, waiting: Sequence[CaseTask]) -> None:
    """Raises InputError where the disk is too full for the cohort."""
    if not waiting:
        return
    folder = next(path for path in (dataset.absolute(), *dataset.absolute().parents) if path.exists())
    needed, free = sum(_bytes_of(t.center, t.options) for t in waiting), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{dataset}: {len(waiting)} patients take about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
            "are free: choose another disk or fewer patients"
        )


def _remove_parts(tasks: Sequence[CaseTask]) -> None:
    for task in tasks:
        for part in task.folder.parent.glob(f"{_part_prefix(task.folder)}*"):
            shutil.rmtree(part, ignore_errors=True)


def _check_simulated(dataset: Path) -> None:
    """Refuses a dataset of others, whose manifest would be lost: ours is written from our side-cars alone."""
    if (dataset / MANIFEST).exists() and not is_simulated(dataset):
        raise InputError(f"{dataset / MANIFEST}: is no simulated dataset: choose another folder with -o")
    for sidecar in dataset.glob(f"*/[!.]*/{SIDECAR}"):
        if read_json_object(sidecar).get("Simulated") is not True:
            raise InputError(f"{sidecar}: is of no simulated patient: choose another folder with -o")


def _check_same_study(tasks: Sequence[CaseTask]) -> None:
    """A case made with another seed, center or option must not pass for one of this study."""
    for task in tasks:
        sidecar = task.folder / SIDECAR
        if not sidecar.is_file():
            continue
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        if facts["Seed"][0] != task.seed:
            raise InputError(
                f"{sidecar}: made with seed {facts['Seed'][0]}, not {task.seed}; choose another folder or "
                "that seed"
            )
        if facts["DoseReductionFactors"] != (wanted := task.options.doses(task.center)):
            raise InputError(
                f"{sidecar}: made with dose reduction factors {facts['DoseReductionFactors']}, not {wanted}; "
                "choose another folder or those factors"
            )
        made = {"Center": task.center.to_dict(), "Options": task.options.to_dict()}
        for group, values in json.loads(json.dumps(made)).items():
            before = facts.get(group, {})  # a key that one of the two does not know decides nothing
            if group == "Options":
                before = {"uncorrected": False, "noise_free": False, "compact": False, **before}
            for key in sorted((values.keys() & before.keys()) - {"device"}):
                if _differ(values[key], before[key]):
                    raise InputError(
                        f"{sidecar}: made with {key} {before[key]}, not {values[key]}; choose another folder"
                    )


def _differ(made: object, before: object) -> bool:
    """Whether two settings differ in anything that both say."""
    if isinstance(made, dict) and isinstance(before, dict):
        return any(_differ(made[key], before[key]) for key in made.keys() & before.keys())
    return made != before


def write_manifest(dataset: Path) -> Path:
    """Writes dataset.json from the cases that are there; returns its path."""
    cases, centers = [], {}
    for sidecar in sorted(dataset.glob(f"*/[!.]*/{SIDECAR}")):  # a hidden folder is a case being written
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        center = facts["Center"]["name"]
        centers[center] = facts["Center"]
        entry = case_entry(dataset, sidecar.parent, center=center, split=SPLITS[facts["Seed"][2]])
        if "PatientID" in facts:
            entry["patient"] = facts["PatientID"]
        cases.append(entry)
    path = dataset / MANIFEST
    write_json(
        path, {"schema": SCHEMA, "simulated": True, "units": "SUV", "centers": centers, "cases": cases}
    )
    return path
