"""Configuration of an evaluation: JSON, unknown keys refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import read_json_object
from drmc.settings import SettingError, check, check_values, from_json, located, setting

STABILIZED = "nlm_stabilized"
NONLOCAL_MEANS = ("nlm", STABILIZED)
FILTERS = ("gaussian", *NONLOCAL_MEANS)
RESERVED = ("low", "full")
UNKNOWN = ("mean", "leave out")
_POSITIVE = {"not_empty": True, "above": 0}


@dataclass(frozen=True)
class Method:
    """One row of the table: a filter by its name, a network (`model`), or one network per center (`models`).

    A specialist serves its own center; `model` beside `models` serves all other centers. Without it `unknown`
    is what stands in the table at a center without a specialist: "mean", the mean over the results of all
    specialists, which a hospital may expect that picks one at random; or "leave out".
    """

    name: str
    model: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    unknown: str = setting("mean", choices=UNKNOWN)

    @property
    def is_filter(self) -> bool:
        """Whether it is a classical filter, whose parameters are chosen on other patients."""
        return self.name in FILTERS


@dataclass(frozen=True)
class RealScan:
    """A real full-dose scan (`scan`: any form that drmc denoise takes) and a segmentation of its tumors.

    `organs`: one of its organs, whose liver is taken; without it the liver is guessed.
    """

    scan: str
    lesions: str | None = None
    name: str = ""
    organs: str | None = None


@dataclass(frozen=True)
class EvaluationConfig:
    """What is compared, on what.

    `dataset` holds the test patients (split `split`). `methods` are the rows beside the low dose, in order;
    `reference` is the one that the others are tested against (default: "drmc", else the first network). The
    short form `model` is the Gaussian filter and that model, named "drmc". Filters are tuned per center and
    dose on the patients of the split `tuning_split` of `tuning_dataset`, by mean PSNR: the Gaussian over the
    widths `gaussian_fwhm_mm`; non-local means over all combinations of `nlm_strength` (multiples of the noise
    level), `nlm_patch` and `nlm_reach` (voxels), on at most `nlm_patients` patients, in slabs of
    `nlm_slab_mm` at a quarter, a half and three quarters of the body's height. Centers without tuning
    patients get no filter row.

    `spots`: in how many patients of each center virtual spots are measured (`drmc spots`), at the largest
    dose reduction factor; 0 measures none. Each takes two runs of every network that serves the center, so
    the default is one patient: tens of spots in a body.

    `known_centers`: those that the reference was trained on; default: the patients that its card names.
    `keep_means`: whether networks are applied as `drmc denoise` does, which holds the scan's local means;
    without it their residuals are taken as they are. `real_scans` are full-dose scans that the networks
    should leave as they are, but for the noise.
    """

    dataset: str | None
    output: str
    model: str | None = None
    methods: tuple[Method, ...] = setting((), what="a list of objects")
    reference: str | None = None
    split: str = "test"
    centers: tuple[str, ...] | None = setting(None, not_empty=True)
    known_centers: tuple[str, ...] | None = setting(None, not_empty=True)
    tuning_dataset: str | None = None
    tuning_split: str = "train"
    gaussian_fwhm_mm: tuple[float, ...] = setting(
        (
            *(1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0),
            *(6.5, 7.0, 7.5, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0),
        ),
        **_POSITIVE,
    )
    nlm_strength: tuple[float, ...] = setting((1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0), **_POSITIVE)
    nlm_patch: tuple[int, ...] = setting((3, 5, 7), **_POSITIVE)
    nlm_reach: tuple[int, ...] = setting((3,), **_POSITIVE)
    nlm_slab_mm: float = setting(16.0, above=0)
    nlm_patients: int = setting(2, at_least=1)
    spots: int = setting(1, at_least=0)
    keep_means: bool = True
    real_scans: tuple[RealScan, ...] = setting((), what="a list of objects")
    device: str = "auto"
    precision: str = "auto"

    @classmethod
    def read(cls, path: Path) -> EvaluationConfig:
        """Reads a JSON file.

        Relative folders and model files are taken from the file's folder; null counts as left out.

        Raises:
            InputError: a key or value is wrong; one line says which.
        """
        values = read_json_object(path)
        if values.get("real_scans"):  # which may be all that is evaluated
            values.setdefault("dataset", None)
        with _located(str(path)):
            return cls(**_resolved(from_json(cls, values, skip_null=True), Path(path).resolve().parent))

    def __post_init__(self) -> None:
        check(self)
        for key in (
            "gaussian_fwhm_mm",
            "nlm_strength",
        ):  # results name them as float, however they are written
            object.__setattr__(self, key, tuple(map(float, getattr(self, key))))
        if even := [n for n in self.nlm_patch if n % 2 == 0]:
            raise InputError(f"nlm_patch {even[0]}: a patch has a middle voxel, so its size is odd")
        names = [scan.name for scan in self.real_scans]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"two real scans are named '{twice[0]}': give each a 'name' of its own")

    def rows(self) -> tuple[Method, ...]:
        """The methods, the short form written out. Raises InputError where they contradict each other."""
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


def _resolved(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values with paths made absolute, and methods and real scans as they are."""
    for key in ("dataset", "output", "tuning_dataset"):
        if isinstance(values.get(key), str):
            values[key] = str(folder / values[key])
    if isinstance(values.get("model"), str):
        values["model"] = _model_file(values["model"], folder)
    for key, read in (("methods", _method), ("real_scans", _real_scan)):
        if isinstance(values.get(key), tuple):
            values[key] = tuple(read(entry, folder) for entry in values[key])
    return values


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Adds the place to the message of an InputError."""
    with located(where):
        try:
            yield
        except SettingError as error:
            allowed = error.allowed.removesuffix(", or null")
            if allowed.startswith(("a list", "an object")):
                raise InputError(f"'{error.key}' is {allowed}, not {error.value!r}") from None
            none = f"n{allowed}" if allowed.startswith("one of") else f"no {allowed.removeprefix('a ')}"
            raise InputError(f"{error.key}: {error.value!r} is {none}") from None


def _method(entry: Any, folder: Path) -> Method:
    name = entry.get("name") if isinstance(entry, dict) else None
    with _located(f"method {name!r}"):
        if not isinstance(name, str) or not name.strip() or name in RESERVED:
            raise InputError(f"each method is an object with a 'name', which is not {' or '.join(RESERVED)}")
        values = from_json(Method, entry, skip_null=True)
        if name in FILTERS and len(entry) > 1:
            raise InputError("this is the name of a filter, which has no other keys")
        if name not in FILTERS and values.get("model") is None and "models" not in values:
            raise InputError("give either 'model' or 'models' (a model per center), or both")
        if "unknown" in values and values.get("model") is not None:
            raise InputError("'unknown' has no effect: 'model' serves centers without a specialist")
        if "unknown" in values and "models" not in values:
            raise InputError("'unknown' goes with 'models'")
        check_values(Method, values)
        if not values.get("models", True):
            raise InputError("'models' is an object with a model per center")
        method = Method(**values)
        model = None if method.model is None else _model_file(method.model, folder)
        named = {center: _model_file(one, folder) for center, one in method.models.items()}
        return replace(method, model=model, models=named)


def _real_scan(entry: Any, folder: Path) -> RealScan:
    with _located("real_scans"):
        if not isinstance(entry, dict):
            raise InputError("each is an object with a 'scan', and maybe 'lesions', 'organs' and 'name'")
        values = from_json(RealScan, entry, skip_null=True)
        check_values(RealScan, values)
        scan = RealScan(**values)
        path = folder / scan.scan
        lesions, organs = (folder / one if one else None for one in (scan.lesions, scan.organs))
        for place in filter(None, (path, lesions, organs)):
            if not place.exists():
                raise InputError(f"{place} is not there")
        named = {"lesions": str(lesions) if lesions else None, "organs": str(organs) if organs else None}
        return RealScan(str(path), name=scan.name or path.name, **named)


def _model_file(model: str, folder: Path) -> str:
    return str(folder / model) if model and (folder / model).is_file() else model
