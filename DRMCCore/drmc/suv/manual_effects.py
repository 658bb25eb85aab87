"""The effect of values on an SUV: manual values without any effect, and contradicting Philips factors.

A manual value that the SUV's rule does not use changes nothing (a dose if the scanner stored the SUV itself):
the user has to know that. Philips writes two factors; if they result in different SUVs, one of the facts
behind them is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drmc.errors import InputError
from drmc.suv import manual
from drmc.suv.decision import SUVDecision
from drmc.suv.limits import CONFIRM_PERCENT, WARN_PERCENT
from drmc.suv.plausibility import Finding
from drmc.suv.tags import TAGS
from drmc.suv.times import parse_time
from drmc.suv.values import number_of

Slices = Sequence[Mapping[str, Any]]
Decide = Callable[[Slices], SUVDecision]

_LATER_S = 120.0  # by which a time is shifted to see whether it has an effect
_OTHERS = {"PatientSex": ("F", "M"), "DecayCorrection": ("ADMIN", "START"), "SUVType": ("LBMJANMA", "BW")}
PHILIPS_SUV, PHILIPS_BQ = "PhilipsSUVScaleFactor", "PhilipsActivityConcentrationScaleFactor"


def without_effect(
    decision: SUVDecision, slices: Slices, given: Mapping[str, str], decide: Decide
) -> list[str]:
    """The keywords of the manual values that have no effect on the SUV.

    A value has an effect if the SUV changes without it, or with another value in its place.

    Args:
        decision: the decision with all manual values.
        slices: the header facts of the files.
        given: the manual values by keyword.
        decide: decides a header.
    """
    return [keyword for keyword in given if not _has_effect(keyword, decision, slices, given, decide)]


def _has_effect(
    keyword: str, decision: SUVDecision, slices: Slices, given: Mapping[str, str], decide: Decide
) -> bool:
    others = {key: text for key, text in given.items() if key != keyword}
    written = given[keyword] or str(slices[0].get(keyword) or "")
    variants = [others, *({**given, keyword: text} for text in _other_values(keyword, written))]
    for values in variants:
        try:
            found = decide(manual.override(slices, values))
        except InputError:
            return True
        if (found.factor, found.factor_per_slice, found.rule) != (
            decision.factor,
            decision.factor_per_slice,
            decision.rule,
        ):
            return True
    return False


def _other_values(keyword: str, text: str) -> list[str]:
    """Another value of the same kind, as a list; empty if there is nothing to change."""
    if keyword in _OTHERS:
        return [one for one in _OTHERS[keyword] if one != text][:1]
    number = number_of(text)
    if keyword in manual.NUMBERS:
        return [] if number is None else [f"{number * 1.02:.6g}"]
    try:
        if keyword.endswith("DateTime"):
            seconds = int(text[8:10]) * 3600 + int(text[10:12] or 0) * 60
            return [text[:8] + _clock(seconds)]
        if keyword.endswith("Time"):
            time = parse_time(text)
            return [] if time is None else [_clock(time)]
    except ValueError:
        return []
    return []


def _clock(seconds: float) -> str:
    seconds = int(seconds + _LATER_S) % 86_400
    return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"


def philips_disagreement(decision: SUVDecision, slices: Slices, decide: Decide) -> list[Finding]:
    """A finding if dose, weight and times contradict the Philips SUV scale factor (7053,xx00).

    Args:
        decision: the decision by that factor; others are not checked.
        slices: the header facts.
        decide: decides a header.

    Returns:
        at most one finding; above 5 % the caller has to accept it.
    """
    if decision.rule != "PHILIPS_SSF":
        return []
    try:
        other = decide([{**one, PHILIPS_SUV: None} for one in slices])
    except InputError:
        return []
    percent = 100.0 * (other.factor / decision.factor - 1.0)
    if not math.isfinite(percent) or abs(percent) <= WARN_PERCENT:
        return []
    line = (
        f"{PHILIPS_SUV} {TAGS[PHILIPS_SUV]} gives SUV = counts x {decision.factor:.6g}, but {PHILIPS_BQ} "
        f"{TAGS[PHILIPS_BQ]} with dose, weight and times gives {other.factor:.6g} ({percent:+.1f} %): the "
        "first is used"
    )
    remedy = "check weight, dose and times, and set the right ones with --header KEYWORD=VALUE"
    return [Finding("PHILIPS", line, remedy, abs(percent) > CONFIRM_PERCENT)]
