"""Configuration of an evaluation: JSON, unknown keys refused."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from drmc.errors import InputError
from drmc.files import read_json_object


@dataclass(frozen=True)
class EvaluationConfig:
    """What is compared, on what.

    `dataset` holds the test patients (split `split`); the width of the Gaussian filter is chosen per center and dose on the patients
    of the split `tuning_split` of `tuning_dataset`, by mean PSNR. Centers without tuning patients get no filter row.
    """

    dataset: str
    output: str
    model: str | None = None
    split: str = "test"
    centers: tuple[str, ...] | None = None
    tuning_dataset: str | None = None
    tuning_split: str = "train"
    gaussian_fwhm_mm: tuple[float, ...] = (
        2.0,
        3.0,
        3.5,
        4.0,
        4.5,
        5.0,
        5.5,
        6.0,
        6.5,
        7.0,
        7.5,
        8.0,
        9.0,
        10.0,
        12.0,
    )
    device: str = "auto"
    precision: str = "auto"

    @classmethod
    def read(cls, path: Path) -> EvaluationConfig:
        """Reads a JSON file; relative folders and model files are taken from the file's folder."""
        values = read_json_object(path)
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"{path}: unknown key '{unknown[0]}'; known are {', '.join(sorted(known))}")
        if missing := [k for k in ("dataset", "output") if k not in values]:
            raise InputError(f"{path}: key '{missing[0]}' is missing")
        folder = Path(path).resolve().parent
        for key in ("dataset", "output", "tuning_dataset"):
            if values.get(key):
                values[key] = str(folder / values[key])
        if values.get("model") and (folder / values["model"]).is_file():
            values["model"] = str(folder / values["model"])
        for key in ("centers", "gaussian_fwhm_mm"):
            if values.get(key) is not None:
                values[key] = tuple(values[key])
        return cls(**values)
