"""The anatomy of simulated patients against references: position, size and volume of organs over N patients.

Positions are in a frame that any label map has: x and y from the centroid of the spinal cord, z below the
top of the brain, all z scaled to a height of 1.74 m. A reference anatomy lies well within the simulated ones
where each of its organs is within LIMIT_SD of their standard deviations in x, y, z and in the logarithm of
the volume.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import drmc
from drmc.errors import InputError
from drmc.runtime.workers import run_in_processes
from drmc.simulation.anatomy import WholeBody
from drmc.simulation.cohort import MOST_PATIENTS, patient_seed
from drmc.simulation.organs import organ_label, organ_labels
from drmc.simulation.scan import anatomy_seed

GRID_MM = 4.0
REFERENCE_HEIGHT_M = 1.74
LIMIT_SD = 2.5
QUANTITIES = ("x", "y", "z", "log_volume")
REFERENCES = Path(__file__).with_name("anatomy_references.json")
LEAST_PATIENTS = 8  # fewer say nothing of a standard deviation


def audited_organs() -> dict[str, list[int]]:
    """Label values of every organ that is audited, by its name; pairs count by side."""
    organs = {
        "brain": organ_labels("gray_matter", "white_matter", "csf", "deep_gray", "cerebellum", "brainstem"),
        "thyroid": organ_labels("thyroid"),
        "heart": organ_labels("heart", "myocardium"),
        "liver": organ_labels("liver"),
        "gallbladder": organ_labels("gallbladder"),
        "spleen": organ_labels("spleen"),
        "stomach": organ_labels("stomach_wall", "stomach_content"),
        "pancreas": organ_labels("pancreas"),
        "small bowel": organ_labels("small_bowel"),
        "colon": organ_labels("colon"),
        "bladder": organ_labels("bladder"),
    }
    for side, sign in (("left", 1), ("right", -1)):
        organs[f"lung {side}"] = [organ_label("lung", sign)]
        organs[f"kidney {side}"] = [organ_label("kidney_cortex", sign), organ_label("renal_pelvis", sign)]
        organs[f"adrenal {side}"] = [organ_label("adrenal", sign)]
    return organs


@dataclass(frozen=True)
class Measured:
    """One organ of one patient, in the frame above."""

    x: float
    """Centroid, mm."""
    y: float
    z: float
    top: float
    """Below the top of the brain, mm."""
    bottom: float
    volume_ml: float


def measure(labels_zyx: np.ndarray, spacing_zyx: Sequence[float], height_m: float) -> dict[str, Measured]:
    """Every audited organ of a label map; organs that it does not contain are left out.

    Args:
        labels_zyx: x to the patient's left, y backward, z upward.
        spacing_zyx: mm.
        height_m: body height.

    Raises:
        InputError: the map has no brain or no spinal cord, which the frame needs.
    """
    organs = audited_organs()
    z, y, x = (np.arange(n) * s for n, s in zip(labels_zyx.shape, spacing_zyx, strict=True))
    found = {}
    masks = {name: np.isin(labels_zyx, values) for name, values in organs.items()}
    cord = np.isin(labels_zyx, organ_labels("spinal_cord"))
    if not masks["brain"].any() or not cord.any():
        raise InputError("the label map holds no brain or no spinal cord: an audit needs both")
    vertex = z[masks["brain"].any((1, 2))].max() + spacing_zyx[0] / 2
    middle = [float(cord.sum((0, 1)) @ x) / cord.sum(), float(cord.sum((0, 2)) @ y) / cord.sum()]
    scale = REFERENCE_HEIGHT_M / height_m
    for name, mask in masks.items():
        count = int(mask.sum())
        if not count:
            continue
        along = [mask.sum(tuple(a for a in range(3) if a != axis)) for axis in range(3)]
        heights = z[along[0] > 0]
        found[name] = Measured(
            x=float(along[2] @ x / count) - middle[0],
            y=float(along[1] @ y / count) - middle[1],
            z=(vertex - float(along[0] @ z / count)) * scale,
            top=(vertex - heights.max() - spacing_zyx[0] / 2) * scale,
            bottom=(vertex - heights.min() + spacing_zyx[0] / 2) * scale,
            volume_ml=count * math.prod(spacing_zyx) / 1000,
        )
    return found


@dataclass(frozen=True)
class _Task:
    index: int
    seed: int
    tracer: str


def _measure_one(task: _Task, progress: Callable[[float], None]) -> dict[str, Any]:
    torch.set_num_threads(1)
    seed = anatomy_seed(patient_seed(task.seed, "C1", "train", task.index))
    patient = WholeBody(seed, max_lesions=0, tracer=task.tracer)
    organs = measure(patient.labels(GRID_MM), (GRID_MM,) * 3, patient.height_m)
    return {"height_m": patient.height_m, "sex": patient.sex, "organs": organs}


def audit(
    patients: int,
    *,
    seed: int,
    tracer: str = "FDG",
    workers: int = 1,
    progress: Callable[[float, int], None] | None = None,
) -> dict[str, Any]:
    """Measures whole bodies (the first ones of center C1 for that seed) and compares references with them.

    Args:
        patients: number of bodies.
        seed: of the patients.
        tracer: a name of `tracers.TRACERS`.
        workers: processes that share the patients.
        progress: called with (done, total).

    Returns:
        JSON-able: `organs` (per organ the number of patients that have it, mean and standard deviation of
        every quantity), `anatomies` (per reference and organ the offsets from the mean in standard
        deviations), `ranges` (per organ and quantity the simulated mean, the range and whether it contains
        the mean) and `passes`.

    Raises:
        InputError: there are too few or too many patients.
    """
    if not LEAST_PATIENTS <= patients <= MOST_PATIENTS:
        wanted = f"at least {LEAST_PATIENTS}, and {MOST_PATIENTS} at most"
        raise InputError(f"--patients {patients}: an audit needs {wanted}")
    rows: list[dict[str, Any]] = []

    def finished(_index: int, row: dict[str, Any]) -> None:
        rows.append(row)
        if progress is not None:
            progress(len(rows), patients)

    tasks = [_Task(index, seed, tracer) for index in range(1, patients + 1)]
    run_in_processes(_measure_one, tasks, workers, progress=lambda *_: None, finished=finished)
    return judged([row["organs"] for row in rows]) | {
        "patients": patients,
        "seed": seed,
        "tracer": tracer,
        "female_share": sum(row["sex"] == "F" for row in rows) / patients,
        "drmc": drmc.__version__,
    }


def judged(patients: Sequence[dict[str, Measured]]) -> dict[str, Any]:
    """The distribution over measured patients, and the references compared with it (see `audit`)."""
    references = json.loads(REFERENCES.read_text(encoding="utf-8"))
    organs = {name: _distribution([p[name] for p in patients if name in p]) for name in audited_organs()}
    anatomies = {
        anatomy: {
            "source": described["source"],
            "offsets": {
                organ: _offsets(values, organs[organ]) for organ, values in described["organs"].items()
            },
        }
        for anatomy, described in references["anatomies"].items()
    }
    ranges = [
        _within(organ, quantity, limits, patients)
        for organ, quantities in references["ranges"].items()
        for quantity, limits in quantities.items()
    ]
    worst = max(
        (
            abs(v)
            for one in anatomies.values()
            for offsets in one["offsets"].values()
            for v in offsets.values()
        ),
        default=math.inf,
    )
    return {
        "frame": references["frame"],
        "ranges_source": references["ranges_source"],
        "organs": organs,
        "anatomies": anatomies,
        "ranges": ranges,
        "limit_sd": LIMIT_SD,
        "worst_sd": worst,
        "passes": worst <= LIMIT_SD and all(one["holds"] for one in ranges),
    }


def _distribution(found: Sequence[Measured]) -> dict[str, Any]:
    """Number, and mean and standard deviation of every quantity; the latter None below two patients."""
    table = [{**asdict(one), "log_volume": math.log(one.volume_ml)} for one in found]
    keys = list(table[0]) if table else []
    mean = {key: float(np.mean([row[key] for row in table])) for key in keys}
    sd = {key: float(np.std([row[key] for row in table], ddof=1)) if len(table) > 1 else None for key in keys}
    return {"n": len(table), "mean": mean, "sd": sd}


def _offsets(reference: dict[str, float], simulated: dict[str, Any]) -> dict[str, float]:
    """Reference minus simulated mean in standard deviations, by quantity."""
    values = {**reference, "log_volume": math.log(reference["volume_ml"])}
    return {
        key: (values[key] - simulated["mean"][key]) / simulated["sd"][key]
        for key in QUANTITIES
        if simulated["n"] > 1
    }


def _within(
    organ: str, quantity: str, limits: Sequence[float], patients: Sequence[dict[str, Measured]]
) -> dict[str, Any]:
    """Whether the simulated mean lies within a range; `lungs` are both, `height_mm` is from top to bottom."""
    parts = [f"lung {side}" for side in ("left", "right")] if organ == "lungs" else [organ]
    values = []
    for patient in patients:
        found = [patient[part] for part in parts if part in patient]
        if len(found) == len(parts):
            volume = sum(one.volume_ml for one in found)
            values.append(volume if quantity == "volume_ml" else max(one.bottom - one.top for one in found))
    mean = float(np.mean(values)) if values else math.nan
    return {
        "organ": organ,
        "quantity": quantity,
        "range": list(limits),
        "mean": mean,
        "holds": limits[0] <= mean <= limits[1],
    }
