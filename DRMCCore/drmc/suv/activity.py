"""The SUV factor of an activity concentration, decay-corrected or not."""

from __future__ import annotations

import math
import re
from typing import Any

from drmc.errors import InputError
from drmc.suv.clocks import Administration, Clocks
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import exp2, in_frame_term, suv_change_percent, usable_factor
from drmc.suv.header import Header
from drmc.suv.limits import (
    CONFIRM_PERCENT,
    DECAY_FACTOR_TOLERANCE,
    FDG_UPTAKE_MINUTES,
    PLAUSIBLE_WINDOW_S,
    SAME_TIME_S,
    WARN_PERCENT,
)
from drmc.suv.patient import read_dose, read_half_life
from drmc.suv.reference_time import ReferenceTime
from drmc.suv.tags import TAGS, refused, with_tag
from drmc.suv.values import number_of, quoted

NOT_CONVERTIBLE_UNITS = ("CPS", "PROPCNTS", "PROPCPS", "1CM", "NONE")


def _check_decay_factor(header: Header, clocks: Clocks, half_life: float) -> None:
    """Warns of a DecayFactor that is neither 2^(FRT/T) (Siemens) nor that times the in-frame term (GE)."""
    for s, frame, duration in zip(header.slices, clocks.reference, clocks.duration, strict=True):
        factor = number_of(s.get("DecayFactor"))
        expected = exp2(frame / half_life) if frame is not None else 0.0
        if factor is None or not 0.0 < expected < math.inf:
            continue
        in_frame = expected * in_frame_term(half_life, max(duration or 0.0, 0.0))
        if min(abs(factor / expected - 1.0), abs(factor / in_frame - 1.0)) > DECAY_FACTOR_TOLERANCE:
            header.warnings.append(
                f"{with_tag('DecayFactor')} {factor:g} fits {with_tag('FrameReferenceTime')} neither as "
                f"{expected:.5f} nor as {in_frame:.5f}: it is not used here"
            )
            return


def bq_per_stored(header: Header, units: str) -> float:
    """Bq/ml per stored unit of a series.

    Raises:
        InputError: the units are neither BQML nor CNTS, or the private factor of CNTS is missing.
    """
    if units == "BQML":
        return 1.0
    if units == "CNTS":
        factor = header.positive("PhilipsActivityConcentrationScaleFactor")
        if factor is None:
            problem = (
                f"is CNTS and both Philips factors {TAGS['PhilipsSUVScaleFactor']} and "
                f"{TAGS['PhilipsActivityConcentrationScaleFactor']} are missing or 0"
            )
            raise refused("Units", problem, "export the series with its private tags, or in Bq/ml")
        header.notices.append(f"counts become Bq/ml by {with_tag('PhilipsActivityConcentrationScaleFactor')}")
        return factor
    why = "which cannot become SUV" if units in NOT_CONVERTIBLE_UNITS else "which is not known"
    raise refused("Units", f"is {quoted(units)}, {why}", "reconstruct or export the series in Bq/ml (BQML)")


def from_activity(header: Header, norm: float, accept: str | None, facts: dict[str, Any]) -> SUVDecision:
    """The SUV decision for an activity concentration.

    Args:
        header: the series.
        norm: the body norm, g (cm2 for SUVbsa), times Bq/ml per stored unit.
        accept: the reference-time rule that the caller accepts, if any.
        facts: the facts of the series so far; dose, half-life and times are added.

    Raises:
        InputError: a fact is missing, contradicts another, or is impossible.
        SUVRefusedError: the header leaves the reference time open.
    """
    decay = facts["decay_correction"]
    dose = facts["dose_bq"] = read_dose(header)
    if decay == "ADMIN":
        optional_facts(header, facts)
        return SUVDecision(norm / dose, rule="ADMIN", reference_time=facts["administration_time"])
    if decay == "NONE" and "DECY" in facts["corrected_image"]:
        problem = f"is NONE though {with_tag('CorrectedImage')} has DECY"
        raise refused("DecayCorrection", problem, "correct the one that is wrong")
    half_life, facts["nuclide"] = read_half_life(header)
    facts["half_life_s"] = half_life
    clocks = Clocks(header)
    administration = Administration(header, clocks, half_life)
    if decay == "NONE":
        return _not_decay_corrected(header, norm / dose, clocks, administration, accept, facts)
    times = ReferenceTime(header, clocks, administration)
    times.add_philips_ratio(dose, facts["weight_kg"])
    chosen = times.choose(accept)
    uptake = _uptake(header, administration, chosen.time, clocks, facts)
    _check_decay_factor(header, clocks, half_life)
    return SUVDecision(
        norm / dose * exp2(uptake / half_life),
        rule=chosen.rule,
        reference_time=clocks.iso(chosen.time),
        candidates=times.candidates(chosen),
    )


def _not_decay_corrected(
    header: Header,
    per_dose: float,
    clocks: Clocks,
    administration: Administration,
    accept: str | None,
    facts: dict[str, Any],
) -> SUVDecision:
    """Corrects decay inside each frame and from the injection to its start, slice by slice."""
    half_life = administration.half_life
    acquisitions = [t for t in clocks.acquisitions if t is not None]
    durations = [d for d in clocks.duration if d is not None and d > 0]
    if len(durations) < len(clocks.duration):
        problem = f"is missing though {with_tag('DecayCorrection')} is NONE"
        raise refused("ActualFrameDuration", problem, "restore it in the header")
    if clocks.earliest is None or clocks.span > PLAUSIBLE_WINDOW_S:
        problem = f"is missing or spans 12 h though {with_tag('DecayCorrection')} is NONE"
        raise refused("AcquisitionTime", problem, "restore it in the header")
    frames = [r for r in clocks.reference if r is not None]
    if frames and clocks.span <= SAME_TIME_S:
        # Several beds but one acquisition time: that is the time of the series, not of the frames.
        effect = suv_change_percent(max(frames) - min(frames), half_life)
        problem = (
            f"is the same on all slices though {with_tag('FrameReferenceTime')} varies by "
            f"{max(frames) - min(frames):.0f} s ({effect:.1f} % of the SUV) and "
            f"{with_tag('DecayCorrection')} is NONE"
        )
        if effect > CONFIRM_PERCENT and accept != "NONE":
            raise refused(
                "AcquisitionTime", problem, "correct the times, or take them so with --accept-suv NONE"
            )
        if effect > WARN_PERCENT:
            header.warnings.append(f"{with_tag('AcquisitionTime')} {problem}")
    uptake = _uptake(header, administration, clocks.earliest, clocks, facts)
    factors = [
        usable_factor(
            per_dose * in_frame_term(half_life, d) * exp2((uptake + t - clocks.earliest) / half_life)
        )
        for t, d in zip(acquisitions, durations, strict=True)
    ]
    same = max(factors) - min(factors) <= 1e-12 * max(factors)
    mean = factors[0] if same else math.fsum(factors) / len(factors)
    return SUVDecision(mean, rule="NONE", factor_per_slice=None if same else tuple(factors))


def _uptake(
    header: Header, administration: Administration, reference: float, clocks: Clocks, facts: dict[str, Any]
) -> float:
    """Seconds from the injection to the reference time; notices and warnings on them go into the header."""
    administered, notices = administration.before(reference)
    header.notices += notices
    facts["administration_time"] = clocks.iso(administered)
    uptake = reference - administered
    minutes = facts["uptake_minutes"] = round(uptake / 60.0, 4)
    tracer = (facts["tracer"] or "").lower()
    if minutes < 0:
        header.warnings.append(
            f"the reference time lies {-minutes:.1f} min before the injection: check the clocks"
        )
    elif re.search("fdg|deoxyglucose", tracer) and not (
        FDG_UPTAKE_MINUTES[0] <= minutes <= FDG_UPTAKE_MINUTES[1]
    ):
        header.warnings.append(f"uptake time {minutes:.1f} min is unusual for FDG (30 to 120 min)")
    if "SIEMENS" in (facts["manufacturer"] or "").upper():
        header.notices.append(
            "Siemens: the start time is that of the dose measurement, shortly before the injection"
        )
    return uptake


def optional_facts(header: Header, facts: dict[str, Any]) -> None:
    """Adds dose, half-life and uptake for an SUV that does not need them; what is missing stays None."""
    messages = list(header.notices), list(header.warnings)
    try:
        facts["dose_bq"] = facts["dose_bq"] or read_dose(header)
        facts["half_life_s"], facts["nuclide"] = read_half_life(header)
        clocks = Clocks(header)
        administration = Administration(header, clocks, facts["half_life_s"])
        near = clocks.near()
        if near is not None:
            _uptake(header, administration, near, clocks, facts)
    except InputError:
        pass
    header.notices, header.warnings = messages
