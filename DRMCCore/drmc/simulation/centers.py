"""Centers as simulation parameters; those of the paper's Table 1 are in centers.json, with their sources.

A hospital describes its own scanner in the same form:

    {"schema": 1,
     "centers": {"MyHospital": {"like": "C1", "seconds": {"value": 120, "source": "our protocol"}}}}

`like` takes all other parameters from a known center.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from drmc.errors import InputError
from drmc.files import read_json_object
from drmc.settings import SettingError, check_values, from_json, located, refuse_unknown, setting

if TYPE_CHECKING:
    import torch

F18_HALF_LIFE_MINUTES = 109.77
MM_PER_PS = 0.15  # position along the line per time difference: half the speed of light
SCHEMA = 1
LONG_FIELD_MM = 700.0  # length of the NEMA sensitivity line source
LEAST_SENSITIVITY = 0.02  # of a bed's peak, at the ends of its axial field
REGIONS = ("wholebody", "brain")
_TRIPLE = "one number or three (z, y, x) "


@dataclass(frozen=True)
class Center:
    """One center: scanner, protocol and reconstruction. Tuples of three are (z, y, x)."""

    name: str
    scanner: str = setting(pattern="(?s).+", what="a text")
    region: str = setting(choices=REGIONS, what=" or ".join(REGIONS))
    voxel_mm: tuple[float, float, float] = setting(above=0, what=_TRIPLE + "above 0")
    matrix: int = setting(above=0)  # stored matrix
    # Larger than `matrix` where that would cut off arms at the side.
    reconstruction_matrix: int = setting(above=0)
    # The first is the center's own.
    dose_reduction_factors: tuple[float, ...] = setting(above=1, not_empty=True, what="numbers above 1")
    injected_mbq: float = setting(above=0)
    # Who gets `injected_mbq`; others in proportion to their weight; 0 = everybody gets the same.
    dosed_weight_kg: float = setting(at_least=0)
    uptake_minutes: float = setting(at_least=0)  # injection to scan
    seconds: float = setting(above=0)  # effective time per slice = bed time / (1 - overlap)
    bed_step_mm: float = setting(at_least=0)  # 0 = single bed
    axial_field_mm: float = setting(above=0)
    acceptance_mm: float = setting(above=0)  # largest axial distance between the two ends of an accepted line
    # Counts per decay, mean over the axial field (its inner 700 mm if it is longer), no attenuation.
    sensitivity: float = setting(above=0)
    scatter_fraction: float = setting(at_least=0)  # S / (T + S)
    randoms_fraction: float = setting(at_least=0)  # R / (T + S + R)
    # FWHM of the true resolution.
    system_psf_mm: tuple[float, float, float] = setting(at_least=0, what=_TRIPLE + "of at least 0")
    tof_fwhm_ps: float = setting(at_least=0)  # timing resolution, 0 = none
    tof_bins: int = setting(at_least=0)
    tof_bin_mm: float = setting(at_least=0)
    views: int = setting(above=0)  # over 180 degrees
    subsets: int = setting(above=0)
    iterations: int = setting(above=0)  # without time of flight
    tof_iterations: int = setting(above=0)
    # FWHM that OSEM models, 0 = none.
    modelled_psf_mm: tuple[float, float, float] = setting(at_least=0, what=_TRIPLE + "of at least 0")
    # FWHM of the Gaussian post-filter, 0 = none.
    post_filter_mm: tuple[float, float, float] = setting(at_least=0, what=_TRIPLE + "of at least 0")
    # On the physical counts, so that the liver varies by `liver_cv`; without time of flight.
    count_multiplier: float = setting(above=0)
    tof_count_multiplier: float = setting(above=0)  # the same with time of flight
    # Standard deviation over mean in the liver at full dose; 0 = not calibrated.
    liver_cv: float = setting(at_least=0)

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

    def to_dict(self) -> dict[str, Any]:
        """Every parameter, JSON-able, without sources."""
        return asdict(self)


# ------------------------------------------------------------------------------------------------------ files
def load_centers(path: str | Path, known: Mapping[str, Center] | None = None) -> dict[str, Center]:
    """The centers of a file by name.

    Args:
        path: JSON file of centers.
        known: centers that `like` may name.

    Raises:
        InputError: the file does not describe centers, or a parameter is wrong.
    """
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
    """The center of Table 1 of that name. Raises InputError for any other name."""
    if name not in CENTERS:
        raise InputError(
            f"unknown center '{name}': choose from {', '.join(CENTERS)}, or name a file of centers (.json)"
        )
    return CENTERS[name]


def _center(where: str, name: str, parameters: dict[str, Any], known: Mapping[str, Center]) -> Center:
    wanted = sorted(f.name for f in fields(Center) if f.name != "name")
    with located(where):
        refuse_unknown(parameters, ["like", *wanted], "parameter")
    values: dict[str, Any] = {}
    if "like" in parameters:
        if not isinstance(parameters["like"], str) or parameters["like"] not in known:
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
    missing = set(wanted) - values.keys()
    if missing:
        raise InputError(f"{where}: '{min(missing)}' is missing; give it, or a known center as \"like\"")
    try:
        values = from_json(
            Center, {key: _shaped(key, value) for key, value in {**values, "name": name}.items()}
        )
        check_values(Center, values)
    except SettingError as error:
        raise InputError(f"{where}: '{error.key}' must be {error.allowed}, not {error.value!r}") from None
    center = Center(**{key: _as_float(key, value) for key, value in values.items()})
    _check(where, center)
    return center


def _shaped(key: str, value: Any) -> Any:
    """A parameter in its own type: one number stands for all three axes or for a list, 2.0 for an integer."""
    kind = _ANNOTATIONS[key]
    if get_origin(kind) is tuple:
        numbers = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        return numbers * 3 if len(numbers) == 1 and len(get_args(kind)) == 3 else numbers
    return int(value) if kind is int and isinstance(value, float) and value.is_integer() else value


def _as_float(key: str, value: Any) -> Any:
    """A parameter that was checked, its numbers as they are annotated."""
    if get_origin(_ANNOTATIONS[key]) is tuple:
        return tuple(map(float, value))
    return float(value) if _ANNOTATIONS[key] is float else value


_ANNOTATIONS = get_type_hints(Center)


def _check(where: str, center: Center) -> None:
    """What no single parameter shows."""
    checks = (
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


# ------------------------------------------------------------------------------------------------ sensitivity
def axial_profile(center: Center, z_mm: torch.Tensor) -> torch.Tensor:
    """Relative sensitivity at axial positions (mm), mean 1 over the range of `Center.sensitivity`.

    Several beds: mm from the center of the first bed; single bed: mm from the lower end of the axial field. A
    slice at distance e from the nearer end of the field sees lines up to an axial distance of min(2 e,
    acceptance) between their ends, hence a triangle for short scanners and a trapezoid for long ones.
    """
    import torch

    length, step = center.axial_field_mm, center.bed_step_mm
    plateau = min(center.acceptance_mm, length) / 2

    def bed(position: torch.Tensor) -> torch.Tensor:
        """Sensitivity at mm from the lower end of a bed."""
        edge = torch.minimum(position, length - position)
        inside = (edge.clamp(max=plateau) / plateau).clamp(min=LEAST_SENSITIVITY)
        return torch.where(edge >= 0, inside, torch.zeros_like(position))

    def beds(position: torch.Tensor) -> torch.Tensor:
        reach = math.ceil(length / 2 / step) + 1
        offset = position.remainder(step) + length / 2
        contributions = (bed(offset - k * step) for k in range(-reach, reach + 1))
        return sum(contributions, torch.zeros_like(position))

    fraction = (torch.arange(512, dtype=z_mm.dtype) + 0.5) / 512
    if step > 0:
        return beds(z_mm) / beds(fraction * step).mean()
    inner = min(length, LONG_FIELD_MM)
    # beyond the field nothing is seen; the floor keeps the slices there harmless
    return (bed(z_mm) / bed((length - inner) / 2 + fraction * inner).mean()).clamp(min=LEAST_SENSITIVITY)
