"""Simulated patients: from a seed and a center to full-dose and low-dose scans on disk, with their truth.

Layout of a dataset (the manifest is the contract; training reads nothing else):

    DATASET/dataset.json
    DATASET/C1/C1-train-0001/full.nii.gz  low_drf012.nii.gz  lesions.nii.gz  organs.nii.gz  pet.json

float32 SUV on the center's own grid, never clipped; uint8 labels.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

import drmc
from drmc.errors import CancelledError, InputError
from drmc.files import write_json
from drmc.simulation.centers import CENTERS, Center
from drmc.simulation.scan import Scan, simulate_patient

SPLITS = ("train", "validation", "test")
SCHEMA = 1


def patient_seed(seed: int, center: str, split: str, index: int) -> np.random.SeedSequence:
    """Seed of one patient; different splits, centers and indices never share one."""
    return np.random.SeedSequence(_seed_key(seed, center, split, index))


def _seed_key(seed: int, center: str, split: str, index: int) -> list[int]:
    return [seed, list(CENTERS).index(center), SPLITS.index(split), index]


def low_name(dose_reduction_factor: float) -> str:
    """File name of a low-dose image, e.g. low_drf012.nii.gz."""
    return f"low_drf{dose_reduction_factor:03g}.nii.gz"


def write_case(scan: Scan, center: Center, folder: Path, *, seed: Sequence[int]) -> None:
    """Writes one patient into a new folder, atomically: the folder appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:

        def write(name: str, array: np.ndarray, dtype) -> None:
            image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=dtype))
            image.SetSpacing(scan.spacing_xyz)
            image.SetOrigin(scan.origin_xyz)
            sitk.WriteImage(image, str(temporary / name), useCompression=True, compressionLevel=1)

        write("full.nii.gz", scan.full, np.float32)
        for factor, image in scan.low.items():
            write(low_name(factor), image, np.float32)
        write("organs.nii.gz", scan.phantom.organs.numpy(), np.uint8)
        write("lesions.nii.gz", scan.phantom.lesions.numpy(), np.uint8)
        write_json(temporary / "pet.json", _sidecar(scan, center, seed))
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sidecar(scan: Scan, center: Center, seed: Sequence[int]) -> dict:
    """Key names of BIDS-PET where it has them."""
    return {
        "Simulated": True,
        "Units": "SUV",
        "Manufacturer": "DRMC simulation",
        "ManufacturersModelName": f"{center.scanner} (simulated)",
        "TracerName": "FDG",
        "TracerRadionuclide": "F18",
        "InjectedRadioactivity": center.injected_mbq,
        "InjectedRadioactivityUnits": "MBq",
        "BodyWeight": scan.facts["weight_kg"],
        "ReconMethodName": "OSEM" + (" with PSF" if any(center.modelled_psf_mm) else ""),
        "ReconMethodParameterLabels": ["iterations", "subsets"],
        "ReconMethodParameterValues": [center.iterations, center.subsets],
        "ReconFilterType": "Gaussian" if any(center.post_filter_mm) else "none",
        "ReconFilterSize": list(center.post_filter_mm),
        "FrameDuration": [center.seconds],
        "DoseReductionFactors": sorted(scan.low),
        "Seed": list(seed),
        "Center": center.to_dict(),
        "Facts": scan.facts,
        "SoftwareVersion": drmc.__version__,
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
    axial_mm: float | None
    dose_reduction_factors: tuple[float, ...] | None
    threads: int

    @property
    def case_id(self) -> str:
        """E.g. C1-train-0001."""
        return f"{self.center.name}-{self.split}-{self.index:04d}"


def _run_task(task: CaseTask) -> tuple[CaseTask, float]:
    torch.set_num_threads(task.threads)
    start = time.monotonic()
    scan = simulate_patient(
        task.center,
        patient_seed(task.seed, task.center.name, task.split, task.index),
        dose_reduction_factors=task.dose_reduction_factors,
        axial_mm=task.axial_mm,
    )
    key = _seed_key(task.seed, task.center.name, task.split, task.index)
    write_case(scan, task.center, task.folder, seed=key)
    return task, time.monotonic() - start


def write_cohort(
    dataset: Path,
    centers: Sequence[Center],
    patients: int,
    *,
    seed: int,
    split: str = "train",
    axial_mm: float | None = None,
    dose_reduction_factors: tuple[float, ...] | None = None,
    workers: int = 1,
    threads: int | None = None,
    report: Callable[[int, int, str, float], None] | None = None,
) -> Path:
    """Simulates `patients` per center into `dataset` and returns the manifest's path.

    Resumable: cases already there are kept; the same seed gives the same patients. `report(done, total, case, seconds)`.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split '{split}': choose from {', '.join(SPLITS)}")
    if patients < 1:
        raise InputError(f"--patients {patients}: at least one patient per center is needed")
    dataset.mkdir(parents=True, exist_ok=True)
    threads = threads or max(1, (torch.get_num_threads() // workers))
    tasks = [
        CaseTask(
            center,
            split,
            index,
            seed,
            dataset / center.name / f"{center.name}-{split}-{index:04d}",
            axial_mm,
            dose_reduction_factors,
            threads,
        )
        for center in centers
        for index in range(1, patients + 1)
    ]
    _check_same_study(dataset, tasks)
    waiting = [t for t in tasks if not (t.folder / "pet.json").is_file()]
    done = len(tasks) - len(waiting)

    def finished(task: CaseTask, seconds: float) -> None:
        nonlocal done
        done += 1
        write_manifest(dataset)
        if report is not None:
            report(done, len(tasks), task.case_id, seconds)

    if workers == 1:
        for task in waiting:
            finished(*_run_task(task))
    elif waiting:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_run_task, task) for task in waiting]
            try:
                for future in as_completed(futures):
                    finished(*future.result())
            except (KeyboardInterrupt, CancelledError):
                pool.shutdown(cancel_futures=True)
                raise
    return write_manifest(dataset)


def _check_same_study(dataset: Path, tasks: Sequence[CaseTask]) -> None:
    """A case made with another seed must not pass for one of this study."""
    for task in tasks:
        sidecar = task.folder / "pet.json"
        if sidecar.is_file():
            facts = json.loads(sidecar.read_text())
            if facts["Seed"][0] != task.seed:
                raise InputError(
                    f"{sidecar}: made with seed {facts['Seed'][0]}, not {task.seed}; choose another folder or that seed"
                )
            wanted = sorted(task.dose_reduction_factors or task.center.dose_reduction_factors)
            if facts["DoseReductionFactors"] != wanted:
                raise InputError(
                    f"{sidecar}: made with dose reduction factors {facts['DoseReductionFactors']}, not {wanted}; "
                    "choose another folder or those factors"
                )


def write_manifest(dataset: Path) -> Path:
    """Writes dataset.json from the cases that are there; returns its path."""
    cases, centers = [], {}
    for sidecar in sorted(dataset.glob("*/[!.]*/pet.json")):  # a hidden folder is a case being written
        facts = json.loads(sidecar.read_text())
        folder, name = sidecar.parent, sidecar.parent.name
        center = facts["Center"]["name"]
        centers[center] = facts["Center"]
        relative = folder.relative_to(dataset)
        low = {f"{f:g}": str(relative / low_name(f)) for f in facts["DoseReductionFactors"]}
        cases.append(
            {
                "id": name,
                "center": center,
                "split": SPLITS[facts["Seed"][2]],
                "full": str(relative / "full.nii.gz"),
                "low": low,
                "lesions": str(relative / "lesions.nii.gz"),
                "organs": str(relative / "organs.nii.gz"),
                "facts": str(relative / "pet.json"),
            }
        )
    path = dataset / "dataset.json"
    write_json(
        path, {"schema": SCHEMA, "simulated": True, "units": "SUV", "centers": centers, "cases": cases}
    )
    return path
