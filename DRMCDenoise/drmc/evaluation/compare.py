"""The comparison on unseen patients: low dose, the best Gaussian filter, and DRMC, against the full-dose image."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from drmc import hardware
from drmc.body import body_mask
from drmc.dataset import Case, is_simulated, read_manifest
from drmc.denoiser import Denoiser, resample_to_grid
from drmc.errors import InputError
from drmc.evaluation.config import EvaluationConfig
from drmc.files import write_json, write_text
from drmc.metrics import SUV_RANGE, attainable_gain_db, psnr, share_of_attainable
from drmc.models import find_model, load_network
from drmc.quantify import lesion_bias, lesion_table, read_segments
from drmc.simulation.projector import FWHM_PER_SIGMA
from drmc.volume import Geometry

METHODS = ("low", "gaussian", "drmc")


@dataclass(frozen=True)
class Row:
    """One result in long form; `value` in dB for PSNR, a fraction for biases."""

    center: str
    case: str
    dose_reduction_factor: float
    method: str
    metric: str
    value: float


def gaussian_filter(suv_zyx: np.ndarray, geometry: Geometry, fwhm_mm: float) -> np.ndarray:
    """Isotropic Gaussian of the given width in mm; axes of a few voxels are filtered as far as they reach."""
    image = sitk.GetImageFromArray(suv_zyx)
    image.SetSpacing(geometry.spacing)
    sigma = fwhm_mm / FWHM_PER_SIGMA
    smooth = sitk.DiscreteGaussian(image, [sigma**2] * 3, 64, 0.001, True)
    return sitk.GetArrayFromImage(smooth)


def evaluate(config: EvaluationConfig, report: Callable[[str], None] = lambda text: None) -> dict:
    """Runs the comparison; writes results.csv, table.md and evaluation.json into the output folder.

    PSNR is taken inside the body (mask from the full-dose image), on SUV with range 20, unclipped, on the scan's own grid;
    `psnr_2mm` is the same on the 2 mm grid of the paper. Returns what evaluation.json holds.
    """
    entry = find_model(config.model)
    network, tile = load_network(entry)
    denoiser = Denoiser(network, tile, device=config.device, precision=config.precision)
    cases = [c for c in read_manifest(Path(config.dataset)) if c.split == config.split]
    if config.centers is not None:
        cases = [c for c in cases if c.center in config.centers]
    if not cases:
        raise InputError(
            f"{config.dataset}: no patient in the split '{config.split}' of the centers asked for"
        )
    widths = _tune(config, sorted({(c.center, factor) for c in cases for factor in c.low}), report)
    rows: list[Row] = []
    for number, case in enumerate(cases, 1):
        for factor in sorted(case.low):
            report(f"{case.case_id} DRF {factor:g} ({number}/{len(cases)})")
            rows += _compare(case, factor, denoiser, widths.get((case.center, factor)))
    summary = summarize(rows, widths)
    result = {
        "model": {"name": entry.name, "sha256": entry.sha256},
        "data": "simulated" if is_simulated(Path(config.dataset)) else "as given",
        "patients": {c: sum(case.center == c for case in cases) for c in sorted({c.center for c in cases})},
        "gaussian": f"isotropic, width chosen per center and dose on other patients (split '{config.tuning_split}')",
        "psnr": "inside the body, SUV, range 20, unclipped, scan's own grid (psnr_2mm: on the 2 mm grid)",
        "device": denoiser.device_name,
        "hardware": hardware.describe(),
        "precision": denoiser.precision,
        "table": summary,
    }
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "results.csv", _csv_text(rows))
    write_text(output / "table.md", markdown_table(result))
    write_json(output / "evaluation.json", result)
    return result


def _read_pair(case: Case, factor: float) -> tuple[np.ndarray, np.ndarray, Geometry]:
    low = case.read(case.low[factor])
    full = case.read(case.full)
    if not low.geometry.matches(full.geometry):
        raise InputError(f"case {case.case_id}: low and full dose lie on different grids")
    return low.suv_array(), full.suv_array(), low.geometry


def _tune(
    config: EvaluationConfig, wanted: list[tuple[str, float]], report: Callable[[str], None]
) -> dict[tuple[str, float], float]:
    """Width [mm] of the Gaussian with the highest mean PSNR over the tuning patients, per center and dose."""
    if config.tuning_dataset is None:
        return {}
    cases = [c for c in read_manifest(Path(config.tuning_dataset)) if c.split == config.tuning_split]
    widths = {}
    for center, factor in wanted:
        found = [c for c in cases if c.center == center and factor in c.low]
        if not found:
            continue
        report(f"choosing the Gaussian filter of {center} DRF {factor:g} on {len(found)} patient(s)")
        scores = np.zeros(len(config.gaussian_fwhm_mm))
        for case in found:
            low, full, geometry = _read_pair(case, factor)
            body = body_mask(full, geometry.spacing_zyx)
            scores += [
                psnr(gaussian_filter(low, geometry, w), full, data_range=SUV_RANGE, mask=body)
                for w in config.gaussian_fwhm_mm
            ]
        widths[center, factor] = float(config.gaussian_fwhm_mm[int(np.argmax(scores))])
    return widths


def _compare(case: Case, factor: float, denoiser: Denoiser, fwhm_mm: float | None) -> list[Row]:
    low, full, geometry = _read_pair(case, factor)
    estimates = {"low": low, "drmc": low + denoiser.denoise(low, geometry).residual}
    if fwhm_mm is not None:
        estimates["gaussian"] = gaussian_filter(low, geometry, fwhm_mm)
    body = body_mask(full, geometry.spacing_zyx)
    full_2mm, grid = resample_to_grid(full, geometry)
    body_2mm = body_mask(full_2mm, grid.spacing_zyx)
    rows = []
    for method in [m for m in METHODS if m in estimates]:
        add = lambda metric, value, method=method: rows.append(
            Row(case.center, case.case_id, factor, method, metric, float(value))
        )
        add("psnr", psnr(estimates[method], full, data_range=SUV_RANGE, mask=body))
        on_grid, _ = resample_to_grid(estimates[method], geometry)
        add("psnr_2mm", psnr(on_grid, full_2mm, data_range=SUV_RANGE, mask=body_2mm))
        for metric, value in _lesion_metrics(case, estimates[method], full, geometry).items():
            add(metric, value)
    return rows


def _lesion_metrics(
    case: Case, estimate: np.ndarray, full: np.ndarray, geometry: Geometry
) -> dict[str, float]:
    if case.lesions is None:
        return {}
    try:
        segments, _ = read_segments(case.lesions, geometry)
    except InputError:  # a patient without a lesion in the field of view
        return {}
    table = lesion_table(case.case_id, segments, {"original": estimate, "reference": full}, geometry)
    bias = lesion_bias(table)["patient"]["original"]
    return {k: bias[k] for k in ("B_mean", "B_max", "B_peak") if bias.get(k) is not None}


def summarize(rows: list[Row], widths: dict[tuple[str, float], float] | None = None) -> list[dict]:
    """One record per center, dose reduction factor and method: means over patients, PSNR gain and its attainable share.

    A full dose is noisy too: with the low dose a subset of its events no estimator gains more than 10 log10(DRF) dB.
    """
    records = []
    for center, factor in sorted({(r.center, r.dose_reduction_factor) for r in rows}):
        mine = [r for r in rows if (r.center, r.dose_reduction_factor) == (center, factor)]
        mean = lambda method, metric, mine=mine: _mean(
            [r.value for r in mine if r.method == method and r.metric == metric]
        )
        for method in METHODS:
            if mean(method, "psnr") is None:
                continue
            record = {
                "center": center,
                "dose_reduction_factor": factor,
                "method": method,
                "fwhm_mm": (widths or {}).get((center, factor)) if method == "gaussian" else None,
                "patients": len({r.case for r in mine}),
                "attainable_db": attainable_gain_db(factor),
            }
            for grid in ("psnr", "psnr_2mm"):
                gain = mean(method, grid) - mean("low", grid)
                record |= {
                    grid: mean(method, grid),
                    f"{grid}_gain": gain,
                    f"{grid}_share": share_of_attainable(gain, factor),
                }
            record |= {k: mean(method, k) for k in ("B_mean", "B_max", "B_peak")}
            records.append(record)
    return records


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def average(records: list[dict], method: str, key: str) -> float | None:
    """Mean over patients of a record's value, e.g. psnr_share; a patient at several doses counts once."""
    mine = [r for r in records if r["method"] == method]
    if not mine:
        return None
    doses = Counter(r["center"] for r in mine)
    weights = [r["patients"] / doses[r["center"]] for r in mine]
    return float(np.average([r[key] for r in mine], weights=weights))


def markdown_table(result: dict) -> str:
    """The table for people: model card, README and terminal."""
    head = "| center | DRF | method | n | PSNR [dB] | gain [dB] | share of attainable | share, 2 mm grid | B_mean | B_max | B_peak |"
    lines = [head, "|" + "---|" * 11]
    number = lambda value, form: "" if value is None else format(value, form)
    for r in result["table"]:
        method = f"gaussian {r['fwhm_mm']:g} mm" if r["fwhm_mm"] else r["method"]
        lines.append(
            f"| {r['center']} | {r['dose_reduction_factor']:g} | {method} | {r['patients']} | {r['psnr']:.2f} "
            f"| {r['psnr_gain']:+.2f} | {100 * r['psnr_share']:.0f} % | {100 * r['psnr_2mm_share']:.0f} % "
            f"| {number(r['B_mean'], '.3f')} | {number(r['B_max'], '.3f')} | {number(r['B_peak'], '.3f')} |"
        )
    for method in METHODS[1:]:
        gain, share, share_2mm = (
            average(result["table"], method, key) for key in ("psnr_gain", "psnr_share", "psnr_2mm_share")
        )
        if gain is not None:
            lines.append(
                f"| all | | {method} | {sum(result['patients'].values())} | | {gain:+.2f} | {100 * share:.0f} % "
                f"| {100 * share_2mm:.0f} % | | | |"
            )
    return "\n".join(lines) + "\n"


def _csv_text(rows: list[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["center", "case", "dose_reduction_factor", "method", "metric", "value"])
    writer.writerows(
        [r.center, r.case, f"{r.dose_reduction_factor:g}", r.method, r.metric, f"{r.value:.6f}"] for r in rows
    )
    return buffer.getvalue()
