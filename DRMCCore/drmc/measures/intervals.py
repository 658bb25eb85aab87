"""What full dose would have shown of a lesion: a calibrated 90 % interval of SUVmean, SUVpeak and SUVmax.

For each metric r = log(full dose / denoised) is predicted from what is known at inference
(`drmc.measures.lesion_features`), with a scale, and the interval is denoised * exp(location -+ q * scale). q
is conformal (`drmc.measures.conformal`): calibrated on lesions whose full dose is known, none of which the
model was trained on, so that 90 % of the lesions of a new center lie in their intervals. "Full dose" is the
full-dose image as the scanner shows it, with its noise.

The interval is a statement of the scan and the model at full strength. It does not depend on the strength of
the result. Where nothing like a lesion was seen in calibration, none is stated.

A model's card contains the calibration (`lesion_intervals`); `drmc intervals` makes and checks it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from drmc.errors import InputError
from drmc.measures.conformal import LocationScale, cluster_quantile, fit_location_scale
from drmc.measures.lesion_features import (
    FEATURES,
    METRICS,
    KnownLesion,
    Metric,
    UndefinedError,
    known_lesion,
    lesion_values,
)
from drmc.measures.rows import INTERVAL_OF, LesionRow
from drmc.models.card import card_numbers

if TYPE_CHECKING:
    from drmc.segments.segment import Segment

CARD_KEY = "lesion_intervals"
FORMAT = 1
LEVEL = 0.9
FEWEST_CLUSTERS = 20
SUV_TYPE = "SUVbw"
SIZE_CLASSES_MM = ((0.0, 8.0), (8.0, 15.0), (15.0, math.inf))
_FOLDS = 10
_ONE_SD = (0.1587, 0.8413)  # shares of a normal law below -1 and 1 SD
_BEYOND = 0.0025  # share of the lesions of calibration beyond either end of a feature's range
_WORDS = {
    "diameter": "diameter [mm]",
    "voxel": "voxel size [mm]",
    "contrast": "contrast to the surroundings",
    "noise_around": "noise around it",
    "noise_inside": "noise inside it",
    "roughness": "texture of the noise",
    "max_over_mean": "SUVmax over SUVmean",
    "max_over_peak": "SUVmax over SUVpeak",
    "change_mean": "change of SUVmean",
    "change_peak": "change of SUVpeak",
    "change_max": "change of SUVmax",
}


@dataclass(frozen=True)
class CalibrationLesion:
    """A lesion whose full dose is known, in one low-dose image of a patient of a center."""

    center: str
    patient: str
    image: str
    segment: str
    features: tuple[float, ...]
    denoised: dict[Metric, float]
    full: dict[Metric, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CalibrationLesion:
        """The lesion that `to_dict` gave."""
        return cls(**{**values, "features": tuple(values["features"])})

    @property
    def diameter_mm(self) -> float:
        """Of the sphere of its volume."""
        return math.exp(self.features[0])


def calibration_lesions(
    original: np.ndarray,
    denoised: np.ndarray,
    full: np.ndarray,
    segments: Iterable[Segment],
    spacing_zyx: Sequence[float],
    **names: str,
) -> list[CalibrationLesion]:
    """The lesions of an image whose values are defined and above 0.

    Args:
        original: low dose, SUV (z, y, x).
        denoised: at full strength, SUV.
        full: full dose, SUV.
        segments: the lesions.
        spacing_zyx: voxel spacing [mm].
        names: `center`, `patient` and `image`.
    """
    found = []
    for segment in segments:
        try:
            known = known_lesion(original, denoised, segment, spacing_zyx)
        except UndefinedError:
            continue
        values = lesion_values(full, segment, spacing_zyx)
        if all(value is not None and value > 0 for value in values.values()):
            shown = cast("dict[Metric, float]", values)
            found.append(
                CalibrationLesion(
                    **names,
                    segment=segment.name,
                    features=tuple(known.features.tolist()),
                    denoised=known.denoised,
                    full=shown,
                )
            )
    return found


@dataclass(frozen=True)
class MetricCalibration:
    """The regression of one metric, and how many scales the interval reaches to either side."""

    regression: LocationScale
    quantile: float


@dataclass(frozen=True)
class Calibration:
    """A calibration of intervals.

    Attributes:
        center, scale: (F,), which standardize the features.
        low, high: (F,), the range of the features in calibration, without the most extreme ones.
        metrics: by metric.
        made_from: what it was made from, JSON values: `unit` ("center" or "patient": what may be new),
            `centers`, `patients`, `images`, `lesions`, and what the command adds.
        check: how it was checked on other patients, as `coverage` gives it; None if it was not.
    """

    center: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    metrics: dict[Metric, MetricCalibration]
    made_from: dict[str, Any]
    check: dict[str, Any] | None = None

    @classmethod
    def read(cls, values: Any, where: object) -> Calibration:
        """The calibration in a card, as of `to_dict`.

        Args:
            values: what the file contains.
            where: the file, for the message.

        Raises:
            InputError: it is damaged, or of another version.
        """
        try:
            if values["format"] != FORMAT or tuple(values["features"]) != FEATURES:
                raise InputError(
                    f"{where}: its lesion intervals ({CARD_KEY}) are of another version: update drmc, or "
                    "calibrate again with drmc intervals calibrate"
                )
            if values["level"] != LEVEL:
                raise ValueError(f"level {values['level']!r} is not {LEVEL}")
            center, scale, low, high = (
                _numbers(values[key], len(FEATURES)) for key in ("center", "scale", "low", "high")
            )
            metrics: dict[Metric, MetricCalibration] = {}
            for metric in METRICS:
                one = values["metrics"][metric]
                terms = [_numbers(one[key], 1 + len(FEATURES)) for key in ("location", "log_scale")]
                quantile = float(_numbers([one["quantile"]], 1)[0])
                metrics[metric] = MetricCalibration(LocationScale(*terms), quantile)
            if (scale <= 0).any() or (low > high).any() or any(one.quantile <= 0 for one in metrics.values()):
                raise ValueError("a width is not above 0")
            made_from, check = dict(values["made_from"]), values.get("check")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise InputError(
                f"{where}: its lesion intervals ({CARD_KEY}) are damaged ({reason}): get the card again, or "
                "calibrate again with drmc intervals calibrate"
            ) from None
        return cls(center, scale, low, high, metrics, made_from, check)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "format": FORMAT,
            "level": LEVEL,
            "features": list(FEATURES),
            **{key: getattr(self, key).tolist() for key in ("center", "scale", "low", "high")},
            "metrics": {
                metric: {
                    "location": one.regression.location.tolist(),
                    "log_scale": one.regression.log_scale.tolist(),
                    "quantile": one.quantile,
                }
                for metric, one in self.metrics.items()
            },
            "made_from": self.made_from,
            "check": self.check,
        }

    def beyond(self, features: np.ndarray) -> str | None:
        """Which feature (F,) is outside the range of calibration, for people; None if none is."""
        for name, value, low, high in zip(FEATURES, features, self.low, self.high, strict=True):
            if not low <= value <= high:
                numbers = (f"{math.exp(number):.3g}" for number in (value, low, high))
                return "{}: {} is outside calibration, {} to {}".format(_WORDS[name], *numbers)
        return None

    def interval(self, lesion: KnownLesion, metric: Metric) -> tuple[float, float]:
        """Bounds [SUV] of what full dose would have shown."""
        found = self.metrics[metric]
        location, scale = found.regression.predict((lesion.features[None] - self.center) / self.scale)
        reach = found.quantile * scale[0]
        value = lesion.denoised[metric]
        return value * math.exp(location[0] - reach), value * math.exp(location[0] + reach)


def _numbers(values: Any, count: int) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError(f"{count} finite numbers are needed")
    return array


# ---- calibration


def calibrate(lesions: Iterable[CalibrationLesion], facts: Mapping[str, Any] | None = None) -> Calibration:
    """Calibrates on lesions that the model was not trained on; their order does not matter.

    The clusters are the centers, so that the intervals hold for a new center; with fewer than 20 centers
    they are the patients, and the intervals hold for new patients of these centers. Scores are of lesions
    that the regression has not seen: the clusters are split into folds, each predicted from the others. The
    final regression is of all lesions. The quantile is that of lesions within the range in which intervals
    are stated.

    Args:
        lesions: at least of 20 patients.
        facts: what `made_from` says beside the numbers.

    Raises:
        InputError: there are too few clusters.
    """
    lesions = sorted(lesions, key=lambda one: (one.center, one.patient, one.image, one.segment))
    centers = {lesion.center for lesion in lesions}
    unit = "center" if len(centers) >= FEWEST_CLUSTERS else "patient"
    clusters = clusters_of(lesions, unit)
    names = sorted(set(clusters))
    if len(names) < FEWEST_CLUSTERS:
        raise InputError(
            f"lesion intervals need lesions of at least {FEWEST_CLUSTERS} centers or patients, here are "
            f"{len(names)}: simulate or add some"
        )
    features = np.array([lesion.features for lesion in lesions])
    # Robust: the change of a value near 0 has no bound.
    center, first, last = np.quantile(features, (0.5, *_ONE_SD), axis=0)
    center, spread = card_numbers(center), card_numbers(np.maximum((last - first) / 2, 1e-6))
    standard = (features - center) / spread
    low = np.floor(1e4 * np.quantile(features, _BEYOND, axis=0, method="lower")) / 1e4
    high = np.ceil(1e4 * np.quantile(features, 1 - _BEYOND, axis=0, method="higher")) / 1e4
    within = ((features >= low) & (features <= high)).all(axis=1)
    judged = [name for name, is_within in zip(clusters, within, strict=True) if is_within]
    fold_of = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % _FOLDS, strict=True))
    folds = np.array([fold_of[name] for name in clusters])
    metrics: dict[Metric, MetricCalibration] = {}
    for metric in METRICS:
        r = np.array([math.log(lesion.full[metric] / lesion.denoised[metric]) for lesion in lesions])
        scores = np.empty(len(r))
        for fold in range(_FOLDS):
            own = folds == fold
            others = [name for name, is_own in zip(clusters, own, strict=True) if not is_own]
            location, scale = fit_location_scale(standard[~own], r[~own], others).predict(standard[own])
            scores[own] = np.abs(r[own] - location) / scale
        regression = fit_location_scale(standard, r, clusters)
        rounded = LocationScale(card_numbers(regression.location), card_numbers(regression.log_scale))
        quantile = float(card_numbers(cluster_quantile(scores[within], judged, LEVEL)))
        metrics[metric] = MetricCalibration(rounded, quantile)
    made_from = {
        "unit": unit,
        "centers": len(centers),
        "patients": len({(lesion.center, lesion.patient) for lesion in lesions}),
        "images": len({(lesion.center, lesion.patient, lesion.image) for lesion in lesions}),
        "lesions": len(lesions),
        **(facts or {}),
    }
    return Calibration(center, spread, low, high, metrics, made_from)


def clusters_of(lesions: Iterable[CalibrationLesion], unit: str) -> list[str]:
    """The cluster of each lesion: its center, or its patient."""
    return [lesion.center if unit == "center" else f"{lesion.center}/{lesion.patient}" for lesion in lesions]


# ---- check


def coverage(calibration: Calibration, lesions: Sequence[CalibrationLesion]) -> dict[str, Any]:
    """How many full-dose values lie in their intervals, on lesions that calibration did not see.

    Returns:
        JSON values. `lesions`, `stated` (with an interval), `centers` (how many), and by metric `coverage`
        (mean over the centers), `of_lesions` (of all lesions), `below` and `above` (shares of the lesions
        whose full dose lies outside on either side), `width` (median of high - low over the denoised value),
        `sizes` (by class of diameter `mm`: lesions, coverage of them, width) and `by_center` (lesions,
        coverage).
    """
    stated = [lesion for lesion in lesions if calibration.beyond(np.array(lesion.features)) is None]
    found: dict[str, Any] = {
        "lesions": len(lesions),
        "stated": len(stated),
        "centers": len({lesion.center for lesion in stated}),
        "patients": len({(lesion.center, lesion.patient) for lesion in stated}),
    }
    if not stated:
        return found
    centers = np.array([lesion.center for lesion in stated])
    diameters = np.array([lesion.diameter_mm for lesion in stated])
    for metric in METRICS:
        bounds = np.array(
            [
                calibration.interval(KnownLesion(np.array(one.features), one.denoised), metric)
                for one in stated
            ]
        )
        full = np.array([one.full[metric] for one in stated])
        denoised = np.array([one.denoised[metric] for one in stated])
        below, above = full < bounds[:, 0], full > bounds[:, 1]
        inside = ~(below | above)
        width = (bounds[:, 1] - bounds[:, 0]) / denoised
        by_center = {
            str(name): {
                "lesions": int((centers == name).sum()),
                "coverage": float(inside[centers == name].mean()),
            }
            for name in np.unique(centers)
        }
        sizes = []
        for low, high in SIZE_CLASSES_MM:
            own = (diameters >= low) & (diameters < high)
            if own.any():
                sizes.append(
                    {
                        "mm": [low, None if math.isinf(high) else high],
                        "lesions": int(own.sum()),
                        "coverage": float(inside[own].mean()),
                        "width": float(np.median(width[own])),
                    }
                )
        found[metric] = {
            "coverage": float(np.mean([one["coverage"] for one in by_center.values()])),
            "of_lesions": float(inside.mean()),
            "below": float(below.mean()),
            "above": float(above.mean()),
            "width": float(np.median(width)),
            "sizes": sizes,
            "by_center": by_center,
        }
    return found


# ---- inference


def state_intervals(
    rows: Iterable[LesionRow],
    calibration: Calibration | None,
    suv: Mapping[str, Any],
    original: np.ndarray,
    denoised: np.ndarray,
    segments: Iterable[Segment],
    spacing_zyx: Sequence[float],
) -> None:
    """Sets the intervals in the rows of the stage "denoised", or the note why there is none.

    Without a calibration nothing is set.

    Args:
        rows: the lesion table.
        calibration: that of the model.
        suv: the SUV decision (`SUVDecision.to_dict`).
        original: SUV (z, y, x).
        denoised: SUV at full strength, whatever the strength of the rows.
        segments: the segments of the rows.
        spacing_zyx: voxel spacing [mm].
    """
    if calibration is None:
        return
    refusal = _refusal(suv)
    by_name = {segment.name: segment for segment in segments}
    for row in rows:
        if row["stage"] != "denoised":
            continue
        note = refusal
        if note is None:
            try:
                lesion = known_lesion(original, denoised, by_name[row["segment"]], spacing_zyx)
                note = calibration.beyond(lesion.features)
            except UndefinedError as error:
                note = str(error)
        row["interval_note"] = note
        if note is None:
            for metric in METRICS:
                low, high = INTERVAL_OF[metric]
                row[low], row[high] = calibration.interval(lesion, metric)


def _refusal(suv: Mapping[str, Any]) -> str | None:
    """Why intervals cannot be stated for a scan with this SUV; None if they can."""
    if suv.get("type") != SUV_TYPE:
        return f"calibrated for {SUV_TYPE}, not for {suv.get('type')}"
    if accepted := (suv.get("facts") or {}).get("accepted"):
        return f"the SUV is implausible (accepted: {', '.join(map(str, accepted))})"
    return None
