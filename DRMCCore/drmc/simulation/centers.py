"""Centers as simulation parameters. The six of the paper's Table 1 are in centers.json, each value with its source.

A hospital describes its own scanner in the same form:

    {"schema": 1, "centers": {"MyHospital": {"like": "C1", "seconds": {"value": 120, "source": "our protocol"}}}}

`like` takes every parameter that is not given from a known center.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import read_json_object

F18_HALF_LIFE_MINUTES = 109.77
MM_PER_PS = 0.15  # position along the line per time difference: half the speed of light
SCHEMA = 1
LONG_FIELD_MM = 700.0  # length of the NEMA sensitivity line source
LEAST_SENSITIVITY = 0.02  # of a bed's peak, at the ends of its axial field
REGIONS = ("wholebody", "brain")


@dataclass(frozen=True)
class Center:
    """One center: scanner, protocol and reconstruction. Tuples of three are (z, y, x)."""

    name: str
    scanner: str
    region: str  # "wholebody" or "brain"
    voxel_mm: tuple[float, float, float]
    matrix: int  # stored matrix
    reconstruction_matrix: int  # larger than `matrix` where that would cut off arms at the side
    dose_reduction_factors: tuple[float, ...]  # the first is the center's own
    injected_mbq: float
    dosed_weight_kg: (
        float  # who gets `injected_mbq`; others in proportion to their weight; 0 = everybody gets the same
    )
    uptake_minutes: float  # injection to scan
    seconds: float  # effective time per slice = bed time / (1 - overlap)
    bed_step_mm: float  # 0 = single bed
    axial_field_mm: float
    acceptance_mm: float  # largest axial distance between the two ends of an accepted line
    sensitivity: float  # counts per decay, mean over the axial field (its inner 700 mm if it is longer), no attenuation
    scatter_fraction: float  # S / (T + S)
    randoms_fraction: float  # R / (T + S + R)
    system_psf_mm: tuple[float, float, float]  # FWHM of the true resolution
    tof_fwhm_ps: float  # timing resolution, 0 = none
    tof_bins: int
    tof_bin_mm: float
    views: int  # over 180 degrees
    subsets: int
    iterations: int  # without time of flight
    tof_iterations: int
    modelled_psf_mm: tuple[float, float, float]  # FWHM that OSEM models, 0 = none
    post_filter_mm: tuple[float, float, float]  # FWHM of the Gaussian post-filter, 0 = none
    count_multiplier: (
        float  # on the physical counts, so that the liver varies by `liver_cv`; without time of flight
    )
    tof_count_multiplier: float  # the same with time of flight
    liver_cv: float  # standard deviation over mean in the liver at full dose; 0 = not calibrated

    @property
    def dose_reduction_factor(self) -> float:
        """The center's own dose reduction factor (Table 1)."""
        return self.dose_reduction_factors[0]

    def injected(self, weight_kg: float) -> float:
        """What a patient of that weight is injected with (MBq)."""
        return self.injected_mbq * (weight_kg / self.dosed_weight_kg if self.dosed_weight_kg else 1.0)

    def counts_per_suv_mm(self, weight_kg: float) -> float:
        """Expected trues per bin for a line integral of 1 SUV mm, without attenuation and multiplier.

        K = S * c * dz/1000 * T * dx / views with c = A * 2^(-t/T_half) / weight, the Bq/ml of one SUV.
        """
        decay = 2.0 ** (-self.uptake_minutes / F18_HALF_LIFE_MINUTES)
        bq_per_ml = self.injected(weight_kg) * 1e6 * decay / (weight_kg * 1000.0)
        volume = self.voxel_mm[0] / 1000.0 * self.voxel_mm[2] / self.views
        return self.sensitivity * bq_per_ml * volume * self.seconds

    def to_dict(self) -> dict:
        """Every parameter, JSON-able, without sources."""
        return asdict(self)


# ------------------------------------------------------------------------------------------------------ files
def load_centers(path: str | Path, known: Mapping[str, Center] | None = None) -> dict[str, Center]:
    """The centers of a file by name; InputError says which parameter is wrong. `known` are those for `like`."""
    content = read_json_object(path)
    described = content.get("centers")
    if content.get("schema") != SCHEMA or not isinstance(described, dict) or not described:
        raise InputError(
            f'{path}: is no file of centers; it starts with {{"schema": {SCHEMA}, "centers": {{...'
        )
    found: dict[str, Center] = {}
    for name, parameters in described.items():
        if not isinstance(parameters, dict):
            raise InputError(f"{path}: center {name} is not an object of parameters")
        found[name] = _center(f"{path}: center {name}", name, parameters, {**(known or {}), **found})
    return found


def find_centers(names: str) -> list[Center]:
    """Centers by comma-separated names of Table 1 or files of centers (every center of a file), each once."""
    found: dict[str, Center] = {}
    for name in (part.strip() for part in names.split(",")):
        if not name:
            continue
        if name.lower().endswith(".json"):
            own = load_centers(name, CENTERS)
            taken = own.keys() & (found.keys() | CENTERS.keys())
            if taken:
                raise InputError(f"{name}: the name {min(taken)} is taken; give the center another one")
            found.update(own)
        else:
            found[name] = find_center(name)
    if not found:
        raise InputError("no center is named: give for example C1,C2")
    return list(found.values())


def find_center(name: str) -> Center:
    """The center of Table 1 of that name; InputError lists the known ones."""
    if name not in CENTERS:
        raise InputError(
            f"unknown center '{name}': choose from {', '.join(CENTERS)}, or name a file of centers (.json)"
        )
    return CENTERS[name]


def _center(where: str, name: str, parameters: dict[str, Any], known: Mapping[str, Center]) -> Center:
    wanted = {field.name for field in fields(Center)} - {"name"}
    unknown = parameters.keys() - wanted - {"like"}
    if unknown:
        raise InputError(
            f"{where}: unknown parameter '{min(unknown)}'; there are {', '.join(sorted(wanted))}"
        )
    values: dict[str, Any] = {}
    if "like" in parameters:
        if parameters["like"] not in known:
            raise InputError(f"{where}: is like '{parameters['like']}', which is none of {', '.join(known)}")
        values = asdict(known[parameters["like"]])
    for key, entry in parameters.items():
        if key == "like":
            continue
        if (
            not isinstance(entry, dict)
            or set(entry) != {"value", "source"}
            or not isinstance(entry["source"], str)
        ):
            raise InputError(f'{where}: \'{key}\' must be {{"value": ..., "source": "where it is from"}}')
        values[key] = entry["value"]
    missing = wanted - values.keys()
    if missing:
        raise InputError(f"{where}: '{min(missing)}' is missing; give it, or a known center as \"like\"")
    center = Center(
        name, **{key: _typed(where, key, value) for key, value in values.items() if key != "name"}
    )
    _check(where, center)
    return center


_INTEGERS = (
    "matrix",
    "reconstruction_matrix",
    "tof_bins",
    "views",
    "subsets",
    "iterations",
    "tof_iterations",
)
_TRIPLES = ("voxel_mm", "system_psf_mm", "modelled_psf_mm", "post_filter_mm")
_MAY_BE_ZERO = (
    "bed_step_mm", "scatter_fraction", "randoms_fraction", "system_psf_mm", "tof_fwhm_ps", "tof_bins", "tof_bin_mm",
    "modelled_psf_mm", "post_filter_mm", "liver_cv", "uptake_minutes", "dosed_weight_kg",
)  # fmt: skip


def _typed(where: str, key: str, value: Any) -> Any:
    if key in ("scanner", "region"):
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: '{key}' must be a text, not {value!r}")
        return value
    several = key in _TRIPLES or key == "dose_reduction_factors"
    numbers = list(value) if several and isinstance(value, (list, tuple)) else [value]
    least = 0.0 if key in _MAY_BE_ZERO else math.ulp(0.0)
    for number in numbers:
        good = (
            isinstance(number, (int, float)) and not isinstance(number, bool) and least <= number < math.inf
        )
        if not good or (key in _INTEGERS and number != int(number)):
            kind = "a whole number" if key in _INTEGERS else "a number"
            raise InputError(
                f"{where}: '{key}' must be {kind} {'at least' if not least else 'above'} 0, not {value!r}"
            )
    if key in _TRIPLES:
        if len(numbers) not in (1, 3):
            raise InputError(f"{where}: '{key}' must be one number or three (z, y, x), not {value!r}")
        return tuple(float(n) for n in (numbers if len(numbers) == 3 else numbers * 3))
    if key == "dose_reduction_factors":
        if not numbers or min(numbers) <= 1:
            raise InputError(f"{where}: '{key}' must be numbers above 1, not {value!r}")
        return tuple(float(n) for n in numbers)
    return int(value) if key in _INTEGERS else float(value)


def _check(where: str, center: Center) -> None:
    """What no single parameter shows."""
    checks = (
        (center.region in REGIONS, f"'region' must be {' or '.join(REGIONS)}"),
        (center.voxel_mm[1] == center.voxel_mm[2], "'voxel_mm' must be square in plane"),
        (center.views % center.subsets == 0, "'views' must be a multiple of 'subsets'"),
        (
            center.reconstruction_matrix >= center.matrix
            and (center.reconstruction_matrix - center.matrix) % 2 == 0,
            "'reconstruction_matrix' must exceed 'matrix' by an even number, or by none",
        ),
        (max(center.scatter_fraction, center.randoms_fraction) < 0.9, "scatter and randoms are below 0.9"),
        (center.bed_step_mm <= center.axial_field_mm, "'bed_step_mm' must not exceed 'axial_field_mm'"),
        (
            not center.tof_fwhm_ps or (center.tof_bins > 1 and center.tof_bin_mm > 0),
            "'tof_fwhm_ps' needs 'tof_bins' and 'tof_bin_mm'",
        ),
        (
            not center.name.startswith(".")
            and not set(center.name) & set('/\\:*?"<>|, \t\n')
            and center.name,
            "the name must be one that a folder can have, without spaces and commas",
        ),
    )
    for good, message in checks:
        if not good:
            raise InputError(f"{where}: {message}")


TABLE = Path(__file__).with_name("centers.json")
CENTERS: dict[str, Center] = load_centers(TABLE)


def parameter_sources(path: str | Path = TABLE) -> dict[str, dict[str, str]]:
    """Center -> parameter -> where its value is from."""
    described = json.loads(Path(path).read_text(encoding="utf-8"))["centers"]
    return {
        name: {key: entry["source"] for key, entry in parameters.items() if key != "like"}
        for name, parameters in described.items()
    }


# ------------------------------------------------------------------------------------------------ sensitivity
def axial_profile(center: Center, z_mm):
    """Relative sensitivity at axial positions `z_mm` (tensor), mean 1 over what `Center.sensitivity` is a mean of.

    Several beds: mm from the center of the first bed; single bed: mm from the lower end of the axial field. A slice at
    distance e from the nearer end of the field sees lines up to an axial distance of min(2 e, acceptance) between their
    ends, hence a triangle for short scanners and a trapezoid for long ones.
    """
    import torch

    length, step = center.axial_field_mm, center.bed_step_mm
    plateau = min(center.acceptance_mm, length) / 2

    def bed(position):
        """Sensitivity at mm from the lower end of a bed."""
        edge = torch.minimum(position, length - position)
        inside = (edge.clamp(max=plateau) / plateau).clamp(min=LEAST_SENSITIVITY)
        return torch.where(edge >= 0, inside, torch.zeros_like(position))

    def beds(position):
        reach = math.ceil(length / 2 / step) + 1
        offset = position.remainder(step) + length / 2
        return sum(bed(offset - k * step) for k in range(-reach, reach + 1))

    fraction = (torch.arange(512, dtype=z_mm.dtype) + 0.5) / 512
    if step > 0:
        return beds(z_mm) / beds(fraction * step).mean()
    inner = min(length, LONG_FIELD_MM)
    # beyond the field nothing is seen; the floor keeps the slices there harmless
    return (bed(z_mm) / bed((length - inner) / 2 + fraction * inner).mean()).clamp(min=LEAST_SENSITIVITY)
