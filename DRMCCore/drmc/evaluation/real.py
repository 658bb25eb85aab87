"""A real full-dose scan through the networks: its numbers should stay, its noise should fall."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from drmc.errors import InputError
from drmc.evaluation.config import RealScan
from drmc.evaluation.estimators import Estimator
from drmc.evaluation.measures import variation
from drmc.evaluation.records import RealRecord
from drmc.imaging.body import LEAST_BODY_SUV, body_mask
from drmc.imaging.geometry import Geometry
from drmc.imaging.smoothing import smooth
from drmc.measures.lesions import lesion_table
from drmc.measures.rows import Quantity
from drmc.pages.views import anatomical_spacing, to_anatomical
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from drmc.simulation.liver import LESION_MARGIN_MM, MARGIN_MM, guessed_liver, liver_given
from drmc.simulation.noise import eroded

QUANTITIES: tuple[Quantity, ...] = ("suv_mean", "suv_max", "suv_peak")


def measure_real_scan(
    scan: RealScan, estimators: Sequence[Estimator], share: Callable[[float], None]
) -> list[RealRecord]:
    """What each network changes in a scan.

    Per network: change of the body's mean SUV, of SUVmean, SUVmax and SUVpeak of every segment [%];
    coefficient of variation in the liver before and after (None where no liver is found, e.g. in a scan of
    the brain); seconds and device.
    """
    volume = read_volume(scan.scan)
    suv, geometry = volume.suv_array(), volume.geometry
    segments: list[Segment] = []
    if scan.lesions is not None:
        segments, _ = read_segments(scan.lesions, geometry, volume.frame_of_reference, volume.series_uid)
    body = body_mask(suv, geometry.spacing_zyx)
    if not body.any():
        raise InputError(
            f"{scan.scan}: shows no body (no uptake above SUV {LEAST_BODY_SUV:g}): give a scan of a patient"
        )
    organs = None
    if scan.organs is not None:
        organs, _ = read_segments(scan.organs, geometry, volume.frame_of_reference, volume.series_uid)
    liver, liver_from = _liver(suv, geometry, [segment.mask for segment in segments], organs, scan.organs)
    before = None if liver is None else variation(_standing(suv, geometry), liver)
    records: list[RealRecord] = []
    for done, estimator in enumerate(estimators):
        start = time.monotonic()
        part = lambda inner, done=done: share((done + 0.9 * inner) / len(estimators))
        image, device = estimator.estimate(suv, suv, geometry, part)
        seconds = time.monotonic() - start
        rows = lesion_table(scan.name, segments, {"original": suv, "denoised": image}, geometry)
        means = [float(one[body].mean(dtype=np.float64)) for one in (suv, image)]
        records.append(
            {
                "body_mean_change_percent": 100 * (means[1] / means[0] - 1),
                "lesions": [
                    {"lesion": row["segment"], **{q: row[q] for q in QUANTITIES}}
                    for row in rows
                    if row["stage"] == "change_percent"
                ],
                "liver_cov_before": before,
                "liver_cov_after": None if liver is None else variation(_standing(image, geometry), liver),
                "liver_from": liver_from,
                "seconds": seconds,
                "device": device,
                "scan": _facts(volume),
            }
        )
    return records


def _standing(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The array with axes that run to the patient's head, back and left, as `find_liver` wants them."""
    return np.ascontiguousarray(to_anatomical(array, geometry.direction)[::-1])


def _liver(
    suv: np.ndarray,
    geometry: Geometry,
    lesions: Sequence[np.ndarray],
    organs: Sequence[Segment] | None,
    path: str | None,
) -> tuple[np.ndarray | None, str]:
    """The inside of the liver away from lesions, on the standing array, and where it is from, in words."""
    head, back, left = anatomical_spacing(geometry.spacing_zyx, geometry.direction)
    if organs is not None:
        given, words = liver_given(organs, str(path))
        liver = eroded(_standing(given, geometry), (head, back, left), MARGIN_MM)
    else:
        liver, words = guessed_liver(_standing(suv, geometry), (head, back, left))
    for lesion in lesions:
        near = smooth(_standing(lesion, geometry), [LESION_MARGIN_MM / 2 / s for s in (head, back, left)])
        liver &= near.numpy() < 0.02
    return (liver if liver.any() else None), words


def _facts(volume: PETVolume) -> dict[str, Any]:
    return {
        key: volume.header[key]
        for key in ("manufacturer", "model", "reconstruction", "tracer")
        if key in volume.header
    } | {"voxels": list(volume.geometry.shape), "voxel_mm": [float(s) for s in volume.geometry.spacing_zyx]}
