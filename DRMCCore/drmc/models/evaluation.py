"""What `drmc evaluate` measured of a model: NAME.evaluation.json beside its weight file.

The file has the content of the evaluation.json that `drmc evaluate` writes. Its `model.sha256` is the
checksum of the weights that were measured. The file is large, so finding and listing models does not read it;
the model's card contains a short summary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import read_json_object, write_json
from drmc.models.card import ORGANS, ModelEntry, add_to_card

SUMMARY_KEY = "evaluation_summary"
_RERUN = "evaluate the model again"
_SPOT = {"diameter_mm": 10.0, "peak_suv": 1.0}  # of the card


def evaluation_path(path: Path) -> Path:
    """The path of a weight file's evaluation."""
    return path.with_suffix(".evaluation.json")


def read_evaluation(entry: ModelEntry) -> dict[str, Any]:
    """The evaluation of a model, as `drmc evaluate` wrote it.

    Raises:
        InputError: there is none, it cannot be read, or it was measured with other weights.
    """
    path = evaluation_path(entry.path)
    if not path.is_file():
        raise InputError(f"model {entry.name}: has no evaluation ({path}): drmc evaluate writes one")
    result = read_json_object(path)
    measured = _measured_weights(result)
    if measured is None:
        raise InputError(f"{path}: does not name the weights that were measured: {_RERUN}")
    if measured != entry.sha256:
        raise InputError(
            f"{path}: was measured with other weights (SHA-256 {measured}) than those of {entry.path.name} "
            f"({entry.sha256}): {_RERUN}"
        )
    return result


def write_evaluation(entry: ModelEntry, result: Mapping[str, Any]) -> Path:
    """Writes an evaluation beside the weight file and its summary into the card, each atomically.

    Args:
        entry: the model that was measured.
        result: what `drmc.evaluation.run.evaluate` returned.

    Returns:
        The path of the evaluation.

    Raises:
        InputError: the weight file changed since it was measured, its card does not belong to it, or the name
            is that of another model's card.
    """
    path = evaluation_path(entry.path)
    if _measured_weights(result) != entry.sha256:
        raise InputError(f"{entry.path}: has changed since it was measured: {_RERUN}")
    if path.with_suffix(".pt").exists():
        raise InputError(f"{path}: is the card of the model {path.stem}: rename one of the two models")
    write_json(path, result)
    add_to_card(entry, {SUMMARY_KEY: summary(result)})
    return path


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The short form for the card: mean figures over groups of centers, and how many aims were reached.

    `groups` contains by group (known, unknown centers, or all) the centers, the number of patients, the mean
    gain in PSNR over the low dose [dB] and its share of the attainable one. `spots`, where they were
    measured: what is kept of the 1 ml mean of virtual spots of 10 mm and +1 SUV, over all centers.

    Of a model of organs `groups` contains by anatomy and condition the scans and their mean Dice.
    """
    if result.get("task") == ORGANS:
        return _summary_of_organs(result)
    own = [record for record in result["pooled"] if record["method"] == result["reference"]]
    keys = ("centers", "patients", "psnr_gain", "psnr_share")
    assessed = [aim["passed"] for aim in result["aims"] if aim["passed"] is not None]
    short = {
        "data": result["data"],
        "version": result["version"],
        "psnr": result["psnr"],
        "groups": {record["group"]: {key: record[key] for key in keys} for record in own},
        "aims_reached": sum(assessed),
        "aims_assessed": len(assessed),
    }
    spots = _spots(result)
    return short if spots is None else {**short, "spots": spots}


def _summary_of_organs(result: Mapping[str, Any]) -> dict[str, Any]:
    assessed = [aim["passed"] for aim in result["aims"] if aim["passed"] is not None]
    groups = [one for one in result["groups"] if one["by"] == "all" and one["method"] == "network"]
    return {
        "task": ORGANS,
        "data": result["data"],
        "version": result["version"],
        "groups": {
            f"{one['anatomy']}, {one['condition']}": {"scans": one["scans"], "dice": one["dice"]["mean"]}
            for one in groups
        },
        "gap": result["gap"],
        "aims_reached": sum(assessed),
        "aims_assessed": len(assessed),
    }


def _spots(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the model keeps of the spots of `_SPOT`, at all centers together; None without any."""
    groups = {record["group"] for record in result["pooled"]}
    rows = [
        row
        for record in result.get("spots", ())
        if record["method"] == result["reference"] and record["group"] in groups
        for row in record["rows"]
        if {key: row[key] for key in _SPOT} == _SPOT
    ]
    if not rows:
        return None
    count = sum(row["spots"] for row in rows)
    kept = sum(row["spots"] * row["mean_kept"] for row in rows) / count
    return {**_SPOT, "spots": count, "mean_kept": kept}


def _measured_weights(result: Mapping[str, Any]) -> str | None:
    model = result.get("model")
    found = model.get("sha256") if isinstance(model, Mapping) else None
    return found if isinstance(found, str) else None
