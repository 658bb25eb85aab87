"""The checks of `drmc validate`: every case by itself, then the cases against each other."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk

from drmc.datasets.manifest import NOISE_FREE, SIDECAR, SPLITS, Case, factor_of, load_manifest, parse_case
from drmc.datasets.validation.findings import Finding, Findings, Note
from drmc.datasets.validation.measures import PERCENTILES, coarse, content_hash, foreground_median, noise
from drmc.errors import InputError, NotFiniteError
from drmc.imaging.body import body_mask, body_mask_of_any_scale
from drmc.imaging.files import read_image
from drmc.imaging.geometry import Geometry
from drmc.pet import sidecars
from drmc.pet.image_suv import stated_units
from drmc.pet.volume import PETVolume

PLAUSIBLE_MEDIAN_SUV = (0.1, 20.0)
"""Of all that is no air: a leg has 0.3, a brain 5; Bq/ml are thousands."""
PLAUSIBLE_KG = (2.0, 300.0)
PLAUSIBLE_MBQ = (1.0, 2000.0)
NOISE_PER_SQRT_FACTOR = (0.5, 1.35)
"""Noise of low over full dose, in units of sqrt(DRF); simulated scans: 0.76 to 0.92, anatomy lowers it."""
_ACTIVITY = (0.05, 0.2)  # relative difference that is a warning, an error
_LEAST_BODY = 0.6  # Dice of the body with and without correction for attenuation; 0.75 to 0.9 is usual
_NEGATIVE = 0.01
# Of two coarse pictures of norm 1; measured: one patient at two doses 0.01 to 0.06, two patients from 0.2
_NEAR = 0.08
# As coarse pictures of low and full dose; measured: two patients 0.34 to 0.45, one patient up to 0.25 at a
# dose reduction of 25, up to 0.5 at 39.
_ANOTHER = 0.2
Key = TypeVar("Key", bound=Hashable)
_MBQ = {"bq": 1e-6, "kbq": 1e-3, "mbq": 1.0, "gbq": 1e3}


@dataclass
class Measured:
    """What was measured of one case, for the comparison with others and the fingerprint.

    `hashes` by the manifest's name of the image; `noise` and `activity` (SUV ml in the body) by dose;
    `negative` voxels over all doses of `voxels`.
    """

    case: Case
    hashes: dict[str, str] = field(default_factory=dict)
    geometry: Geometry | None = None
    percentiles: list[float] | None = None
    noise: dict[str, float | None] = field(default_factory=dict)
    activity: dict[str, float] = field(default_factory=dict)
    negative: int = 0
    voxels: int = 0
    picture: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    complete: bool = False

    @property
    def megabecquerel(self) -> float | None:
        """Injected activity of the side-car, MBq."""
        value = _number(self.facts.get("InjectedRadioactivity"))
        unit = str(self.facts.get("InjectedRadioactivityUnits", "MBq")).strip().casefold()
        return value * _MBQ[unit] if value is not None and unit in _MBQ else None

    @property
    def kilograms(self) -> float | None:
        """Body weight of the side-car, kg."""
        return _number(self.facts.get("BodyWeight", self.facts.get("PatientWeight")))


def examine(
    dataset: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[Finding], list[Measured]]:
    """Checks all cases of a dataset.

    Args:
        dataset: folder with the manifest.
        progress: called with (done, total) after each case.

    Returns:
        The findings, errors first, and what was measured of each case.

    Raises:
        InputError: the folder has no manifest, or one that is no JSON object.
    """
    path, manifest = load_manifest(dataset)
    findings = Findings()
    error, warning = findings.of("")
    cases = []
    for entry in manifest.get("cases", []):
        try:
            cases.append(parse_case(path, entry, manifest.get("units")))
        except InputError as refusal:
            error("manifest.entry", str(refusal))
    if not manifest.get("cases"):
        error("manifest.entry", f"{path} lists no cases")
    listed = {case.full.parent.resolve() for case in cases}
    for sidecar in sorted(path.parent.glob(f"*/[!.]*/{SIDECAR}")):
        if sidecar.parent.resolve() not in listed:
            warning("manifest.unlisted", f"{sidecar.parent} is a case that the manifest does not name")
    measured = []
    progress(0, len(cases))
    for number, case in enumerate(cases, 1):
        measured.append(_examine_case(case, findings))
        progress(number, len(cases))
    _compare_cases(measured, findings)
    return findings.sorted(), measured


# ---- one case


def _examine_case(case: Case, findings: Findings) -> Measured:
    error, warning = findings.of(case.case_id)
    measured = Measured(case)
    if case.split not in SPLITS:
        warning("manifest.split", f"split '{case.split}' is none of {', '.join(SPLITS)}: it is never used")
    missing = [(name, path) for name, path in case.files() if not path.is_file()]
    for name, path in missing:
        error("file.missing", f"{name}: {path} is not there")
    if case.facts is not None and case.facts.is_file():
        try:
            measured.facts = sidecars.read(case.facts)
        except InputError as refusal:
            error("facts.unreadable", str(refusal))
            return measured
    _check_facts(measured, error, warning)
    _check_units_stated(case, warning)
    gone = {path for _, path in missing}
    full = None if case.full in gone else _read(case, case.full, error)
    if full is not None:
        _examine_images(measured, full, gone, error, warning)
    measured.complete = not missing and set(measured.hashes) == {
        name for name, _ in case.files() if name != "facts"
    }
    return measured


def _check_facts(measured: Measured, error: Note, warning: Note) -> None:
    facts, case = measured.facts, measured.case
    for key, value, (low, high), unit, code in (
        ("weight", measured.kilograms, PLAUSIBLE_KG, "kg", "facts.weight"),
        ("injected activity", measured.megabecquerel, PLAUSIBLE_MBQ, "MBq", "facts.activity"),
    ):
        if value is not None and not low <= value <= high:
            warning(
                code, f"{key} {value:g} {unit} in {case.facts} is not between {low:g} and {high:g} {unit}"
            )
    if "InjectedRadioactivity" in facts and measured.megabecquerel is None:
        warning(
            "facts.activity",
            f"injected activity {facts['InjectedRadioactivity']!r} {facts.get('InjectedRadioactivityUnits')} "
            "cannot be read",
        )
    if case.facts is not None and (value := facts.get("DoseReductionFactors")):
        values = map(_number, value if isinstance(value, list) else [value])
        stated = sorted(factor for factor in values if factor is not None)
        if stated != sorted(case.low):
            error(
                "dose.factor",
                f"the manifest has dose reduction factors {_list(case.low)}, "
                f"{case.facts.name} {_list(stated)}",
            )
    for factor, path in sorted(case.low.items()):
        named = factor_of(path)
        if not 1 < factor < math.inf:
            error("dose.factor", f"dose reduction factor {factor:g} is not greater than 1")
        elif named is not None and named != factor:
            error("dose.factor", f"{path.name} is listed with dose reduction factor {factor:g}")


def _check_units_stated(case: Case, warning: Note) -> None:
    try:
        stated = all(stated_units(path, case.facts) or case.units for _, path in case.doses())
    except InputError:  # reported when the image is read
        return
    if not stated:
        warning("units.unstated", f'nothing says the units: taken as SUV; write "Units" into {SIDECAR}')


def _read(case: Case, path: Path, error: Note) -> PETVolume | None:
    try:
        return case.read(path)
    except InputError as refusal:
        try:
            read_image(path)
        except InputError as damage:
            _note_unreadable(damage, error)
        else:
            error("units.unknown", str(refusal))
    return None


def _note_unreadable(refusal: InputError, error: Note) -> None:
    error("voxels.not-finite" if isinstance(refusal, NotFiniteError) else "file.unreadable", str(refusal))


def _examine_images(measured: Measured, full: PETVolume, gone: set[Path], error: Note, warning: Note) -> None:
    case, geometry = measured.case, full.geometry
    suv = full.suv_array()
    measured.geometry = geometry
    measured.hashes["full"] = content_hash(full.array, geometry)
    if _is_constant(suv, "full", error):
        return
    median = foreground_median(suv)
    low, high = PLAUSIBLE_MEDIAN_SUV
    if not low <= median <= high:
        looks = "Bq/ml labeled as SUV" if median > high else "SUV labeled as Bq/ml"
        error(
            "units.implausible",
            f"full: the median of all but air is SUV {median:.4g}, not between {low:g} and {high:g}: "
            f"{looks}?",
        )
        return
    body = body_mask(suv, geometry.spacing_zyx)
    measured.percentiles = [float(v) for v in np.percentile(suv[body], PERCENTILES)]
    measured.picture = coarse(suv)
    _measure_dose(measured, "full", suv, body, geometry, warning)
    for factor in sorted(case.low):
        path, name = case.low[factor], f"low {factor:g}"
        volume = None if path in gone else _read(case, path, error)
        if volume is None:
            continue
        measured.hashes[name] = content_hash(volume.array, volume.geometry)
        if not volume.geometry.matches(geometry):
            error("geometry.differs", f"{name}: {volume.geometry}, full: {geometry}")
            continue
        low_suv = volume.suv_array()
        if _is_constant(low_suv, name, error):
            continue
        unlike = _difference(coarse(low_suv), measured.picture)
        if unlike > _ANOTHER:
            warning(
                "body.unlike",
                f"{name}: its uptake lies elsewhere than that of full (they differ by {100 * unlike:.0f} %): "
                "is it of another patient, or very noisy?",
            )
        _measure_dose(measured, name, low_suv, body, geometry, warning)
    _check_doses(measured, error, warning)
    if case.truth is not None and case.truth not in gone:
        _check_truth(measured, body, geometry, error, warning)
    for name, path in case.files():
        if (name.endswith(" uncorrected") or name == NOISE_FREE) and path not in gone:
            _check_same_body(measured, name, path, body, geometry, error)
    for name in ("lesions", "organs"):
        path = getattr(case, name)
        if path is not None and path not in gone:
            _check_labels(measured, name, path, geometry, error)


def _check_same_body(
    measured: Measured, name: str, path: Path, body: np.ndarray, grid: Geometry, error: Note
) -> None:
    """Grid and body of an image that may have no unit, for example one without attenuation correction."""
    try:
        image = read_image(path)
    except InputError as refusal:
        _note_unreadable(refusal, error)
        return
    array, geometry = sitk.GetArrayFromImage(image).astype(np.float32), Geometry.from_image(image)
    measured.hashes[name] = content_hash(array, geometry)
    if not geometry.matches(grid):
        error("geometry.differs", f"{name}: {geometry}, full: {grid}")
    elif not _is_constant(array, name, error):
        found = body_mask_of_any_scale(array, geometry.spacing_zyx)
        common, voxels = np.count_nonzero(found & body), np.count_nonzero(found) + np.count_nonzero(body)
        dice = 2 * common / max(1, int(voxels))
        if dice < _LEAST_BODY:
            error(
                "body.differs",
                f"{name}: its body is not that of full (Dice {dice:.2f}): another patient?",
            )


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """Of two coarse pictures: 0 for the same, sqrt(2) for nothing in common."""
    return float(np.linalg.norm(a - b))


def _is_constant(suv: np.ndarray, name: str, error: Note) -> bool:
    lowest = float(suv.min())
    if lowest != float(suv.max()):
        return False
    error("voxels.constant", f"{name}: every voxel is {lowest:g}")
    return True


def _measure_dose(
    measured: Measured, name: str, suv: np.ndarray, body: np.ndarray, geometry: Geometry, warning: Note
) -> None:
    measured.noise[name] = noise(suv, body)
    measured.activity[name] = float(suv[body].sum(dtype=np.float64)) * geometry.voxel_ml
    measured.negative += int(np.count_nonzero(suv < 0))
    measured.voxels += suv.size
    share = np.count_nonzero(suv[body] < 0) / max(1, int(np.count_nonzero(body)))
    if share > _NEGATIVE:
        warning("voxels.negative", f"{name}: {100 * share:.1f} % of the body is below 0")


def _check_doses(measured: Measured, error: Note, warning: Note) -> None:
    names = {f"low {factor:g}": factor for factor in sorted(measured.case.low)}
    seen: dict[str, str] = {}
    same = set()
    for name in ("full", *names):
        digest = measured.hashes.get(name)
        if digest is not None and (first := seen.setdefault(digest, name)) != name:
            error("dose.identical", f"{first} and {name} are the same image")
            same.add(name)
    reference = measured.noise.get("full")
    before: tuple[str, float] | None = None
    for name, factor in names.items():
        if name not in measured.activity or name in same:
            continue
        change = measured.activity[name] / measured.activity["full"] - 1
        if abs(change) > _ACTIVITY[0]:
            note = error if abs(change) > _ACTIVITY[1] else warning
            hint = ": is it scaled by the dose reduction factor?" if note is error else ""
            note("dose.activity", f"{name} holds {100 * change:+.1f} % of the activity of full{hint}")
        here = measured.noise.get(name)
        if here is None or not reference:
            continue
        ratio, expected = here / reference, math.sqrt(factor)
        if ratio < 1:
            error(
                "dose.noise",
                f"{name} has {ratio:.2f} times the noise of full, not about {expected:.1f} times: are they "
                "swapped?",
            )
        elif not NOISE_PER_SQRT_FACTOR[0] <= ratio / expected <= NOISE_PER_SQRT_FACTOR[1]:
            warning(
                "dose.noise", f"{name} has {ratio:.2f} times the noise of full; about {expected:.1f} is usual"
            )
        if before is not None and here <= before[1]:
            error(
                "dose.order", f"{name} has less noise than {before[0]}: are the factors in the wrong order?"
            )
        before = name, here


def _check_truth(measured: Measured, body: np.ndarray, grid: Geometry, error: Note, warning: Note) -> None:
    try:
        truth, geometry = measured.case.read_truth()
    except InputError as refusal:
        _note_unreadable(refusal, error)
        return
    measured.hashes["truth"] = content_hash(truth, geometry)
    if not geometry.matches(grid):
        error("geometry.differs", f"truth: {geometry}, full: {grid}")
        return
    total = float(truth[body].sum(dtype=np.float64)) * geometry.voxel_ml
    change = total / measured.activity["full"] - 1
    if abs(change) > _ACTIVITY[1]:
        warning("truth.activity", f"truth holds {100 * change:+.1f} % of the activity of full")


def _check_labels(measured: Measured, name: str, path: Path, grid: Geometry, error: Note) -> None:
    try:
        image = read_image(path)
    except InputError as refusal:
        _note_unreadable(refusal, error)
        return
    geometry = Geometry.from_image(image)
    labels = sitk.GetArrayViewFromImage(image)
    measured.hashes[name] = content_hash(labels, geometry)
    if not geometry.matches(grid):
        error("labels.grid", f"{name}: {geometry}, full: {grid}")
    whole = np.issubdtype(labels.dtype, np.integer) or bool(np.all(labels == np.round(labels)))
    if not whole or labels.min() < 0:
        error("labels.values", f"{name}: labels are whole numbers from 0 up, {path.name} holds others")


# ---- the cases against each other


def _compare_cases(measured: Sequence[Measured], findings: Findings) -> None:
    error, warning = findings.of("")
    for name, group in _groups(measured, lambda m: m.case.case_id):
        centers = ", ".join(sorted({m.case.center for m in group}))
        error(
            "duplicate.id",
            f"{len(group)} cases are called {name} (center {centers}): give each an id of its own, such as "
            f"{group[0].case.center}/{name}",
        )
    for person, group in _groups(measured, _person):
        splits = sorted({m.case.split for m in group})
        if len(splits) > 1:
            error(
                "duplicate.patient",
                f"patient {'/'.join(person)} is in the splits {', '.join(splits)}: {_ids(group)}",
            )
    for seed, group in _groups(measured, lambda m: _seed(m.facts)):
        error("duplicate.seed", f"seed {seed}: {_ids(group)} are the same simulated patient")
    by_hash: dict[str, list[tuple[Measured, str]]] = defaultdict(list)
    for one in measured:
        for name, digest in one.hashes.items():
            if name == "full" or name.startswith("low "):
                by_hash[digest].append((one, name))
    copied: set[tuple[int, int]] = set()
    for images in by_hash.values():
        if len({id(one) for one, _ in images}) > 1:
            copied.update((id(a), id(b)) for a, _ in images for b, _ in images)
            listed = ", ".join(f"{one.case.case_id} ({dose}, {one.case.split})" for one, dose in images)
            error("duplicate.image", f"the same image: {listed}")
    for a, b, difference in _alike(measured):
        if (id(a), id(b)) not in copied:
            note = warning if a.case.split == b.case.split else error
            note(
                "duplicate.near",
                f"full of {a.case.case_id} ({a.case.split}) and {b.case.case_id} ({b.case.split}) differ by "
                f"{100 * difference:.2f} % only: the same patient?",
            )


def _alike(measured: Sequence[Measured]) -> list[tuple[Measured, Measured, float]]:
    """Pairs whose coarse pictures nearly agree, whatever their scale and their number of voxels."""
    by_shape: dict[tuple[int, ...], list[tuple[Measured, np.ndarray]]] = defaultdict(list)
    for one in measured:
        if one.picture is not None:
            by_shape[one.picture.shape].append((one, one.picture))
    found = []
    for group in by_shape.values():
        pictures = np.stack([picture.ravel() for _, picture in group])
        for row, (one, _) in enumerate(group):
            differences = np.linalg.norm(pictures[row + 1 :] - pictures[row], axis=1)
            near = np.flatnonzero(differences < _NEAR)
            found += [(one, group[row + 1 + k][0], float(differences[k])) for k in near]
    return found


def _person(measured: Measured) -> tuple[str, ...]:
    """Who was scanned: names of patients count within their center, as two hospitals may both have a P000.

    The `PatientID` of a simulated case names the one person that several centers have scanned.
    """
    case = measured.case
    if measured.facts.get("Simulated") is True and "PatientID" in measured.facts:
        return (case.patient,)
    return case.center, case.patient


def _groups(
    measured: Sequence[Measured], key: Callable[[Measured], Key | None]
) -> list[tuple[Key, list[Measured]]]:
    """Cases that share a key, where it is not None; in order of their first."""
    found: dict[Key, list[Measured]] = defaultdict(list)
    for one in measured:
        if (value := key(one)) is not None:
            found[value].append(one)
    return [(value, group) for value, group in found.items() if len(group) > 1]


def _seed(facts: dict[str, Any]) -> tuple[str, ...] | None:
    seed = facts.get("Seed")
    return tuple(map(str, seed)) if isinstance(seed, list) else None


def _ids(group: Sequence[Measured]) -> str:
    return ", ".join(one.case.case_id for one in group)


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values)) or "none"


def _number(value: Any) -> float | None:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None
