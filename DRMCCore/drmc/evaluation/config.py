"""Configuration of an evaluation: JSON, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import read_json_object

FILTERS = ("gaussian", "nlm")
RESERVED = ("low", "full")
UNKNOWN = ("mean", "leave out")


@dataclass(frozen=True)
class Method:
    """One row of the table: a filter by its name, a network (`model`), or one network per center (`models`).

    A specialist serves its own center. At a center that none was trained for, `unknown` says what stands in the table:
    "mean", every specialist is applied and the mean of their results is given, what a hospital may expect that picks one
    blindly; or "leave out".
    """

    name: str
    model: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    unknown: str = "mean"

    @property
    def is_filter(self) -> bool:
        """Whether it is a classical filter, whose parameters are chosen on other patients."""
        return self.name in FILTERS


@dataclass(frozen=True)
class RealScan:
    """A real full-dose scan (`scan`: any form that drmc denoise takes) and a segmentation of its tumours."""

    scan: str
    lesions: str | None = None
    name: str = ""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is compared, on what.

    `dataset` holds the test patients (split `split`). `methods` are the rows beside the low dose, in order; `reference`
    is the one that the others are tested against (default: "drmc", else the first network). The short form `model` is
    the Gaussian filter and that model, named "drmc". Filters are tuned per center and dose on the patients of the split
    `tuning_split` of `tuning_dataset`, by mean PSNR: the Gaussian over the widths `gaussian_fwhm_mm`; non-local means over
    all combinations of `nlm_strength` (multiples of the noise level), `nlm_patch` and `nlm_reach` (voxels), on at most
    `nlm_patients` patients, in slabs of `nlm_slab_mm` at a quarter, a half and three quarters of the body's height.
    Centers without tuning patients get no filter row.

    `known_centers`: those that the reference was trained on; default: the patients that its card names. `real_scans` are
    full-dose scans that the networks should leave as they are, but for the noise.
    """

    dataset: str | None
    output: str
    model: str | None = None
    methods: tuple[Method, ...] = ()
    reference: str | None = None
    split: str = "test"
    centers: tuple[str, ...] | None = None
    known_centers: tuple[str, ...] | None = None
    tuning_dataset: str | None = None
    tuning_split: str = "train"
    gaussian_fwhm_mm: tuple[float, ...] = (
        *(1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0),
        *(6.5, 7.0, 7.5, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0),
    )
    nlm_strength: tuple[float, ...] = (1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0)
    nlm_patch: tuple[int, ...] = (3, 5, 7)
    nlm_reach: tuple[int, ...] = (3,)
    nlm_slab_mm: float = 16.0
    nlm_patients: int = 2
    real_scans: tuple[RealScan, ...] = ()
    device: str = "auto"
    precision: str = "auto"

    @classmethod
    def read(cls, path: Path) -> EvaluationConfig:
        """Reads a JSON file; relative folders and model files are taken from the file's folder."""
        values = read_json_object(path)
        _refuse_unknown(values, cls, str(path))
        if missing := [k for k in ("dataset", "output") if k not in values and not _real_only(k, values)]:
            raise InputError(f"{path}: key '{missing[0]}' is missing")
        folder = Path(path).resolve().parent
        try:
            return cls(**{"dataset": None, **_converted(values, folder)})
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def rows(self) -> tuple[Method, ...]:
        """The methods, the short form written out; InputError where they do not go together."""
        if not self.methods:
            return (
                *[Method("gaussian")] * (self.tuning_dataset is not None),
                Method("drmc", self.model or ""),
            )
        if self.model is not None:
            raise InputError("'model' is the short form of 'methods': give one of them")
        names = [method.name for method in self.methods]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"two methods are named '{twice[0]}': choose another name")
        filters = [method.name for method in self.methods if method.is_filter]
        if filters and self.dataset and self.tuning_dataset is None:
            raise InputError(
                f"method '{filters[0]}' is tuned on other patients: give 'tuning_dataset', or leave it out"
            )
        return self.methods

    def reference_name(self) -> str:
        """Name of the method that the others are tested against."""
        names = [method.name for method in self.rows() if not method.is_filter]
        if self.reference is not None and self.reference not in [m.name for m in self.rows()]:
            raise InputError(f"reference '{self.reference}' is none of the methods")
        if self.reference or "drmc" in names:
            return self.reference or "drmc"
        if not names:
            raise InputError("the methods hold no network: give one with a 'model'")
        return names[0]


def _real_only(key: str, values: Mapping[str, Any]) -> bool:
    return key == "dataset" and bool(values.get("real_scans"))


def _refuse_unknown(values: Mapping[str, Any], form: type, where: str) -> None:
    known = {f.name for f in fields(form)}
    if unknown := sorted(set(values) - known):
        raise InputError(f"{where}: unknown key '{unknown[0]}'; known are {', '.join(sorted(known))}")


def _converted(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values of a JSON object with their types checked, paths made absolute and lists made tuples."""
    for key in ("dataset", "output", "tuning_dataset"):
        if values.get(key) is not None:
            values[key] = str(folder / _text(values[key], key))
    for key in ("model", "reference", "split", "tuning_split", "device", "precision"):
        if values.get(key) is not None:
            _text(values[key], key)
    if values.get("model"):
        values["model"] = _model_file(values["model"], folder)
    for key, kind in (
        *(("centers", str), ("known_centers", str), ("gaussian_fwhm_mm", float)),
        *(("nlm_strength", float), ("nlm_patch", int), ("nlm_reach", int)),
    ):
        if values.get(key) is not None:
            values[key] = _several(values[key], key, kind)
    for key, kind in (("nlm_slab_mm", float), ("nlm_patients", int)):
        if key in values:
            _number(values[key], key, kind)
    if even := [n for n in values.get("nlm_patch", ()) if n % 2 == 0]:
        raise InputError(f"nlm_patch {even[0]}: a patch has a middle voxel, so its size is odd")
    values["methods"] = tuple(_method(entry, folder) for entry in _list(values, "methods"))
    values["real_scans"] = tuple(_real_scan(entry, folder) for entry in _list(values, "real_scans"))
    names = [scan.name for scan in values["real_scans"]]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two real scans are named '{twice[0]}': give each a 'name' of its own")
    return values


def _method(entry: Any, folder: Path) -> Method:
    name = entry.get("name") if isinstance(entry, dict) else None
    where = f"method {name!r}"
    if not isinstance(name, str) or not name.strip() or name in RESERVED:
        raise InputError(
            f"{where}: each method is an object with a 'name', which is not {' or '.join(RESERVED)}"
        )
    _refuse_unknown(entry, Method, where)
    if name in FILTERS:
        if len(entry) > 1:
            raise InputError(f"{where}: this is the name of a filter, which has no other keys")
        return Method(name)
    if ("model" in entry) == ("models" in entry):
        raise InputError(f"{where}: give either 'model' or 'models' (a model per center)")
    method = Method(**entry)
    if method.unknown not in UNKNOWN or ("unknown" in entry and "models" not in entry):
        raise InputError(
            f"{where}: 'unknown' goes with 'models' and is one of {', '.join(map(repr, UNKNOWN))}"
        )
    if method.model is not None:
        return replace(method, model=_model_file(_text(method.model, f"{where}: 'model'"), folder))
    if not isinstance(method.models, dict) or not method.models:
        raise InputError(f"{where}: 'models' is an object with a model per center")
    named = {c: _model_file(_text(m, f"{where}: model of {c}"), folder) for c, m in method.models.items()}
    return replace(method, models=named)


def _real_scan(entry: Any, folder: Path) -> RealScan:
    if not isinstance(entry, dict) or not isinstance(entry.get("scan"), str):
        raise InputError("real_scans: each is an object with a 'scan', and maybe 'lesions' and 'name'")
    _refuse_unknown(entry, RealScan, "real_scans")
    scan = RealScan(**entry)
    path = folder / scan.scan
    lesions = str(folder / _text(scan.lesions, "lesions")) if scan.lesions else None
    for place in (path, *([Path(lesions)] if lesions else [])):
        if not place.exists():
            raise InputError(f"real_scans: {place} is not there")
    return RealScan(str(path), lesions, _text(scan.name, "name") if scan.name else path.name)


def _model_file(model: str, folder: Path) -> str:
    return str(folder / model) if model and (folder / model).is_file() else model


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    found = values.get(key) or []
    if not isinstance(found, list):
        raise InputError(f"'{key}' is a list of objects")
    return found


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{key}: {value!r} is no text")
    return value


def _number(value: Any, key: str, kind: type) -> float | int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int if kind is int else (int, float))
        or not value > 0
    ):
        raise InputError(f"{key}: {value!r} is no {'whole ' if kind is int else ''}number above 0")
    return kind(value)


def _several(value: Any, key: str, kind: type) -> tuple:
    if not isinstance(value, list) or not value:
        raise InputError(f"'{key}' is a list with at least one value")
    return tuple(_text(v, key) if kind is str else _number(v, key, kind) for v in value)
