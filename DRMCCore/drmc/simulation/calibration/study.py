"""How noisy the simulated scans are: the pieces that are simulated, and what is measured in each.

A piece is one axial window of one patient at one center, or the real scan. Its measures are a JSON file in
the folder's `pieces`; a piece that is there, made from the same center, patient and window, is not made
again.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmc.errors import InputError
from drmc.files import jsonable, write_json
from drmc.models.card import sha256_of
from drmc.pages.colors import inverted_gray
from drmc.pages.png import data_uri
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from drmc.simulation import noise
from drmc.simulation.anatomy import WholeBody
from drmc.simulation.calibration.public_noise import FACTORS, SCANNERS
from drmc.simulation.centers import Center, load_centers
from drmc.simulation.liver import inside_liver
from drmc.simulation.organs import ORGANS, organ_mask
from drmc.simulation.projector import GaussianPSF, from_block, to_block
from drmc.simulation.scan import END_SLICES, Patient, Scan, scan_range, simulate_patient
from drmc.simulation.semireal import RealScan, patient_of
from drmc.simulation.window import Window

MEASURES = 1  # raise it when a measure changes: cached pieces are then made again
MARGIN_MM = 8.0  # the liver less this margin is what is measured
SLAB_END_MM = 10.0  # what the high-pass filter of the noise metric sees beyond a slab's share
LEAST_ORGAN_ML = 20.0
DISCOVERY_ST = Path(__file__).with_name("discovery_st.json")
GE_SCAN = Path("ge_wb_sts001") / "image"
NOISE_TABLE = Path("udpet_noise_stats") / "data_stats.csv"
_LIVER_GRID_MM = 8.0
_OF_REAL_SCAN = ("real", "semi-real", "twin")
_PICTURE_SUV = 6.0


@dataclass(frozen=True)
class Plan:
    """What is simulated: centers, patients per center, and how much of each."""

    centers: tuple[Center, ...]
    seed: int = 1
    patients: int = 4  # liver windows per center
    liver_mm: float = 120.0
    law_patients: int = 2  # patients of the low-dose law per center
    slab_mm: float = 64.0
    every: int = 3  # of the slabs of a patient, one in so many
    law_factors: tuple[float, ...] = FACTORS
    sheet_mm: float = 300.0  # of the patient that is shown of each center
    twins: int = 3  # simulated patients of the real scan's weight and liver uptake
    tof: bool = False
    device: str = "cpu"
    data: Path | None = None
    organs: Path | None = None  # segmentation of the real scan, whose liver and lungs are taken

    def quick(self) -> Plan:
        """The same with a few small windows: a smoke test, no evidence."""
        return replace(
            self, patients=1, liver_mm=48.0, law_patients=1, slab_mm=16.0, every=48, twins=1, sheet_mm=30.0
        )


@dataclass(frozen=True)
class Piece:
    """One window to simulate and measure; `name` is its file, `key` all that its result depends on."""

    name: str
    kind: str  # "liver", "law", "real", "semi-real" or "twin"
    center: Center
    patient: int
    window: tuple[float, float] | None  # of a "law" piece, mm
    key: str


def pieces(plan: Plan) -> Iterator[Piece]:
    """The pieces of a plan in the order of their simulation: those of a patient follow each other."""
    for center in plan.centers:
        if center.region != "wholebody":
            continue
        for patient in range(1, plan.patients + 1):
            yield _piece(plan, f"{center.name}-liver-{patient:02d}", "liver", center, patient)
        if center.name in SCANNERS:
            for patient in range(1, plan.law_patients + 1):
                for slab, window in enumerate(law_windows(plan, center, patient), 1):
                    name = f"{center.name}-law-{patient:02d}-{slab:02d}"
                    yield _piece(plan, name, "law", center, patient, window)
    if ge_scan(plan) is not None:
        scanner = load_centers(DISCOVERY_ST)["DST"]
        yield _piece(plan, "DST-real", "real", scanner, 0)
        yield _piece(plan, "DST-semi-real", "semi-real", scanner, 0)
        for patient in range(1, plan.twins + 1):
            yield _piece(plan, f"DST-twin-{patient:02d}", "twin", scanner, patient)


def _piece(
    plan: Plan,
    name: str,
    kind: str,
    center: Center,
    patient: int,
    window: tuple[float, float] | None = None,
) -> Piece:
    says = [MEASURES, name, center.to_dict(), plan.seed, window, plan.liver_mm, plan.law_factors, plan.tof]
    if plan.organs is not None and kind in _OF_REAL_SCAN:
        says.append(sha256_of(plan.organs))
    key = hashlib.sha256(json.dumps(says).encode()).hexdigest()[:16]
    return Piece(name, kind, center, patient, window, key)


def law_windows(plan: Plan, center: Center, patient: int) -> list[tuple[float, float]]:
    """One slab in `plan.every` of the range (mm) that a center scans of a patient; the first one differs."""
    lower, upper = scan_range(center, *procedural_patient(plan.seed, patient).axial_range())
    count = max(1, math.floor((upper - lower) / plan.slab_mm))
    first = (patient - 1) % min(plan.every, count)
    return [
        (lower + i * plan.slab_mm, lower + (i + 1) * plan.slab_mm) for i in range(first, count, plan.every)
    ]


def ge_scan(plan: Plan) -> Path | None:
    """Folder of the real scan, None where the data is not there."""
    path = plan.data / GE_SCAN if plan.data else None
    return path if path is not None and path.is_dir() else None


def noise_table(plan: Plan) -> Path | None:
    """The public table of noise metrics, None where the data is not there."""
    path = plan.data / NOISE_TABLE if plan.data else None
    return path if path is not None and path.is_file() else None


# ---- patients
@lru_cache(maxsize=4)
def procedural_patient(seed: int, index: int) -> WholeBody:
    """Patient `index` (from 1) of a calibration; the same at every center."""
    return WholeBody(np.random.SeedSequence([seed, 41, index]))


def twin_patient(seed: int, index: int, weight_kg: float, liver_suv: float) -> WholeBody:
    """The `index`-th procedural patient within 3 kg and 15 % of a scan's weight and liver uptake.

    Raises:
        InputError: there are not so many among the first 600.
    """
    return _twin(seed, index, weight_kg, liver_suv)[1]


@lru_cache(maxsize=4)
def _twin(seed: int, index: int, weight_kg: float, liver_suv: float) -> tuple[int, WholeBody]:
    """Draw and patient of a twin; the search goes on where that of the twin before ended."""
    first = 0 if index == 1 else _twin(seed, index - 1, weight_kg, liver_suv)[0] + 1
    for draw in range(first, 600):
        patient = WholeBody(np.random.SeedSequence([seed, 42, draw]))
        close = abs(patient.weight_kg - weight_kg) <= 3.0
        if close and abs(patient.uptake["liver"] / liver_suv - 1) <= 0.15:
            return draw, patient
    raise InputError(f"seed {seed}: no {index} simulated patients of {weight_kg:g} kg; take another --seed")


@lru_cache(maxsize=1)
def _real_scan(folder: Path, organs: Path | None) -> tuple[PETVolume, RealScan]:
    volume = read_volume(folder)
    return volume, patient_of(volume, organs=organs)


def liver_window(patient: Patient, length_mm: float) -> tuple[float, float]:
    """Window (mm) around the middle of a patient's liver. Raises InputError where there is no liver."""
    lower, upper = patient.axial_range()
    step = _LIVER_GRID_MM
    shape = (math.ceil((upper - lower) / step), 70, 70)
    phantom = patient.rasterize(shape, (step,) * 3, (lower, -34.5 * step, -34.5 * step))
    slices = organ_mask(phantom.organs, "liver").sum((1, 2)).double()
    if not slices.any():
        raise InputError("the patient has no liver in the scan range: nothing to measure")
    middle = lower + float((slices * torch.arange(len(slices))).sum() / slices.sum()) * step
    return max(lower, middle - length_mm / 2), min(upper, middle + length_mm / 2)


# ---- measuring
def run_piece(plan: Plan, piece: Piece, progress: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Simulates (or reads) one piece and measures it; JSON-able."""
    if piece.kind == "real":
        return _measure_real(plan)
    if piece.window is not None:
        lower, upper = piece.window
        slab = Window(procedural_patient(plan.seed, piece.patient), lower - SLAB_END_MM, upper + SLAB_END_MM)
        return _measure_law(_simulated(plan, piece, slab, plan.law_factors, progress))
    patient = _patient_with_liver(plan, piece)
    window = Window(patient, *liver_window(patient, plan.liver_mm))
    scan = _simulated(plan, piece, window, piece.center.dose_reduction_factors[:1], progress)
    return _measure_liver(scan, piece.center, MARGIN_MM if piece.kind != "semi-real" else 0.0)


def _patient_with_liver(plan: Plan, piece: Piece) -> Patient:
    if piece.kind == "liver":
        return procedural_patient(plan.seed, piece.patient)
    volume, real = _ge_patient(plan)
    if piece.kind == "semi-real":
        return real
    spheres = noise.sphere_statistics(real.lps_suv, real.liver, real.spacing)
    if spheres is None:
        raise InputError(f"{volume.source}: no 3 cm sphere fits into its liver, nothing to compare with")
    return twin_patient(plan.seed, piece.patient, real.weight_kg, spheres.mean_suv)


def _ge_patient(plan: Plan) -> tuple[PETVolume, RealScan]:
    folder = ge_scan(plan)
    if folder is None:
        raise InputError(f"--data {plan.data}: holds no scan {GE_SCAN.as_posix()}")
    return _real_scan(folder, plan.organs)


def _simulated(
    plan: Plan,
    piece: Piece,
    patient: Patient,
    factors: Sequence[float],
    progress: Callable[[float], None] | None,
) -> Scan:
    seed = np.random.SeedSequence([plan.seed, 43, zlib.crc32(piece.name.encode())])
    return simulate_patient(
        piece.center,
        seed,
        patient=patient,
        dose_reduction_factors=factors,
        tof=plan.tof and piece.center.tof_fwhm_ps > 0,
        device=plan.device,
        progress=progress,
    )


def _measure_law(scan: Scan) -> dict[str, Any]:
    spacing = scan.spacing_xyz[::-1]
    terms = lambda image: noise.udpet_terms(image, spacing, end_mm=SLAB_END_MM)
    return {
        "full": terms(scan.full),
        "low": {f"{factor:g}": terms(image) for factor, image in scan.low.items()},
        "pictures": _pictures(scan),
    }


def _measure_liver(scan: Scan, center: Center, margin_mm: float) -> dict[str, Any]:
    spacing = scan.spacing_xyz[::-1]
    (factor, low), *_ = scan.low.items()
    mask = liver_inside(scan, margin_mm)
    if noise.sphere_statistics(scan.full, mask, spacing) is None:
        raise InputError(
            f"center {center.name}: no 3 cm sphere fits into the liver of this window; give a longer window"
        )
    added = low - scan.full
    power = noise.noise_power(added, mask, spacing)
    inside = low[mask]
    blurred = from_block(
        GaussianPSF(center.post_filter_mm, center.voxel_mm)(
            GaussianPSF(center.system_psf_mm, center.voxel_mm)(to_block(scan.phantom.activity[None]))
        )
    )[0].numpy()
    return {
        "dose_reduction_factor": factor,
        "prompts_per_slice": scan.facts["simulated_prompts"] / (scan.full.shape[0] + 2 * END_SLICES),
        "weight_kg": scan.facts["weight_kg"],
        "full": _texture(scan.full, mask, spacing),
        "low": _texture(low, mask, spacing),
        "truth": _texture(blurred, mask, spacing),
        "noise_width_mm": noise.correlation_width(added, mask, spacing),
        "half_power": power.half_power() if power else None,
        "power_at_0.1": power.at(0.1) if power else None,
        "skewness": noise.skewness(inside),
        "log_skewness": noise.skewness(np.log(inside[inside > 0])),
        "organs": _organ_means(scan, low),
        "pictures": _pictures(scan, low),
    }


def liver_inside(scan: Scan, margin_mm: float) -> np.ndarray:
    """The liver `margin_mm` inside its surface and away from lesions, bool (z, y, x)."""
    phantom = scan.phantom
    return inside_liver(phantom.organs, phantom.lesions.numpy() > 0, scan.spacing_xyz[::-1], margin_mm)


def _texture(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> dict[str, Any]:
    correlation = noise.lag_autocorrelation(image, mask, spacing)
    spheres = noise.sphere_statistics(image, mask, spacing)
    if spheres is None or correlation is None:
        raise InputError("no 3 cm sphere fits into the liver: nothing to measure")
    return {"spheres": spheres.to_dict(), "correlation": correlation.to_dict()}


def _organ_means(scan: Scan, low: np.ndarray) -> dict[str, list[float]]:
    """Organ -> ml, true, full-dose and low-dose mean, of what lies in the window."""
    labels = scan.phantom.organs
    truth, ml = scan.phantom.activity.numpy(), math.prod(scan.spacing_xyz) / 1000
    means = {}
    for name in ORGANS:
        inside = organ_mask(labels, name).numpy()
        if inside.sum() * ml > LEAST_ORGAN_ML:
            values = (float(image[inside].mean()) for image in (truth, scan.full, low))
            means[name] = [float(inside.sum() * ml), *values]
    return means


def _measure_real(plan: Plan) -> dict[str, Any]:
    volume, patient = _ge_patient(plan)
    suv, spacing = patient.lps_suv, patient.spacing
    liver = patient.liver
    if not liver.any():
        raise InputError(f"{volume.source}: no liver was found in it, nothing to compare with")
    slices = np.nonzero(liver.any((1, 2)))[0]
    part = slice(max(0, slices[0] - 8), slices[-1] + 9)
    return {
        "full": _texture(suv[part], liver[part], spacing),
        "liver_ml": float(liver.sum() * np.prod(spacing) / 1000),
        "weight_kg": patient.weight_kg,
        "prompts_per_slice": _header_prompts(volume, slices),
        "pictures": {"full": _coronal(suv[part], spacing)},
    }


def _header_prompts(volume: PETVolume, slices: np.ndarray) -> float | None:
    """Mean Primary (Prompts) Counts Accumulated (0054,1310) of these slices; None where they are missing."""
    import pydicom

    counts = []
    for index in slices:
        header = pydicom.dcmread(volume.dicom_files[index], stop_before_pixels=True)
        counts.append(header.get("PrimaryPromptsCountsAccumulated"))
    return None if None in counts or not counts else float(np.mean([float(c) for c in counts]))


def _pictures(scan: Scan, low: np.ndarray | None = None) -> dict[str, str]:
    spacing = scan.spacing_xyz[::-1]
    shown = {"truth": scan.phantom.activity.numpy(), "full": scan.full}
    if low is None:
        low = list(scan.low.values())[-1]
    return {name: _coronal(image, spacing) for name, image in {**shown, "low": low}.items()}


def _coronal(volume: np.ndarray, spacing: Sequence[float]) -> str:
    """Coronal slice through the middle, head up, square pixels, as a data address."""
    plane = volume[::-1, volume.shape[1] // 2]
    pixels = inverted_gray(plane, _PICTURE_SUV)
    step = min(spacing[0], spacing[2])
    rows, columns = (
        np.minimum((np.arange(round(n * s / step)) * step / s).astype(int), n - 1)
        for n, s in ((plane.shape[0], spacing[0]), (plane.shape[1], spacing[2]))
    )
    return data_uri(pixels[np.ix_(rows, columns)])


# ---- running
def calibrate(
    plan: Plan,
    folder: Path,
    report: Callable[[int, int, str, float], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Makes what is missing of a plan's pieces in `folder` and returns all measures by piece name.

    `report(done, total, piece, share)` is called as a piece proceeds; it may raise to cancel. Pieces that are
    done stay.
    """
    store = folder / "pieces"
    store.mkdir(parents=True, exist_ok=True)
    todo = list(pieces(plan))
    results: dict[str, dict[str, Any]] = {}
    for done, piece in enumerate(todo):
        path = store / f"{piece.name}.json"
        found = _cached(path, piece)
        if found is None:
            say = None
            if report is not None:
                # 1 is reported once, when the piece is on disk
                say = lambda share, n=done, name=piece.name: report(n, len(todo), name, min(share, 0.999))
                say(0.0)
            found = run_piece(plan, piece, say)
            found = jsonable({"key": piece.key, "kind": piece.kind, "center": piece.center.name, **found})
            write_json(path, found)
        results[piece.name] = found
        if report:
            report(done + 1, len(todo), piece.name, 1.0)
    return results


def _cached(path: Path, piece: Piece) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("key") == piece.key else None
