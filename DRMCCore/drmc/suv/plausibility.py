"""Plausibility of a scan's facts and SUV, for classic and Enhanced DICOM, side-cars and manual values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from drmc.errors import SUVRefusedError
from drmc.imaging.body import body_mask_of_any_scale
from drmc.suv import bounds
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import SUV_TYPES, body_norm, suv_type_name
from drmc.suv.limits import CONFIRM_PERCENT
from drmc.suv.nuclides import NUCLIDES, nuclides_named
from drmc.suv.sources import WORDS, Source
from drmc.suv.values import number_of

# Rules whose factor uses neither dose nor times.
_STORED = ("GML", "CM2ML", "PHILIPS_SSF", "declared")
_UNITS_OF_TIME = {"minutes": 60.0, "hours": 3600.0, "days": 86_400.0, "milliseconds": 1e-3}
_UNITS_OF_DOSE = {"MBq": 1e6, "mCi": 3.7e7, "GBq": 1e9, "kBq": 1e3, "uCi": 3.7e4}
_SAMPLES = 2_000_000  # voxels of a large image that suffice for a percentile


@dataclass(frozen=True)
class Finding:
    """An unusual or implausible fact: the word of WORDS that accepts it, a line on it, and its remedy."""

    word: str
    line: str
    remedy: str
    implausible: bool


def check(
    decision: SUVDecision,
    body_percentile: float | None,
    source: Source,
    vouched: Collection[str] = (),
    found: Sequence[Finding] = (),
) -> SUVDecision:
    """Adds a warning for each unusual fact to a decision.

    Args:
        decision: the decision.
        body_percentile: the 99.9th percentile of the SUV in the body (`percentile_in_body`); None if unknown.
        source: where the facts are written.
        vouched: the words of WORDS for which the caller vouches.
        found: findings of other checks.

    Raises:
        SUVRefusedError: a fact is implausible and the caller does not vouch for it.
    """
    findings = [
        *found,
        *_half_life(decision, source),
        *_dose(decision, source),
        *_uptake(decision, source),
        *_body(decision, source),
        *_formula(decision, source),
        *_suv(decision, body_percentile, source),
    ]
    _refuse(findings, vouched, decision.candidates)
    taken = [one.word for one in findings if one.implausible]
    lines = [
        one.line + (f" (taken so by the caller: {one.word})" if one.implausible else "") for one in findings
    ]
    facts = dict(decision.facts)
    if taken:
        facts["accepted"] = list(dict.fromkeys(taken))
    return replace(decision, warnings=list(dict.fromkeys([*decision.warnings, *lines])), facts=facts)


def check_half_life(source: Source, vouched: Collection[str] = ()) -> None:
    """Refuses a half-life that nuclide or tracer contradict grossly.

    For a header that is refused for another reason: a half-life in minutes makes every time look impossible,
    and then the half-life has to be corrected.

    Args:
        source: where the facts are written.
        vouched: the words of WORDS for which the caller vouches.

    Raises:
        SUVRefusedError: the half-life is contradicted and the caller does not vouch for it.
    """
    half_life = number_of(source.written("half_life"))
    if half_life is not None and half_life > 0:
        _refuse(_half_life_unit(half_life, source), vouched, ())


def _refuse(findings: Sequence[Finding], vouched: Collection[str], candidates: Sequence[Any]) -> None:
    wrong = [one for one in findings if one.implausible and one.word not in vouched]
    if not wrong:
        return
    words = ",".join(dict.fromkeys(one.word for one in wrong))
    others = dict.fromkeys(WORDS[one.word] for one in wrong if one.word != wrong[0].word)
    also = f" (also implausible: {', '.join(others)})" if others else ""
    error = SUVRefusedError(
        f"{wrong[0].line}{also}: {wrong[0].remedy}; if it is right, take it so with --accept-suv {words}",
        candidates,
    )
    error.accept = words
    raise error


def _uses_dose(decision: SUVDecision) -> bool:
    if decision.rule == "sidecar":
        return decision.facts.get("half_life_s") is not None
    return decision.rule not in _STORED


def _kinds(decision: SUVDecision) -> set[str]:
    """The SUV types whose body formula the factor uses."""
    kind = suv_type_name(decision.type)
    if _uses_dose(decision):
        return {kind}
    stored = decision.facts.get("stored_suv_type") or decision.facts.get("sidecar_suv_type") or "SUVbw"
    own = suv_type_name(stored)
    return set() if own == kind else {kind, own}


def _show(value: Any) -> str:
    number = number_of(value)
    return f"{number:g}" if number is not None else str(value)[:40]


def nuclides_of_tracer(text: str) -> tuple[str, ...]:
    """The nuclides of a tracer: one in its name ("68Ga-PSMA"), else those with which it is made."""
    named = nuclides_named("", text)
    if named:
        return tuple(sorted(named))
    return next((nuclides for pattern, nuclides in bounds.TRACERS if pattern.search(text)), ())


def _half_life(decision: SUVDecision, source: Source) -> list[Finding]:
    facts = decision.facts
    half_life, uptake = facts.get("half_life_s"), facts.get("uptake_minutes")
    if not _uses_dose(decision) or decision.rule == "ADMIN" or not half_life:
        return []
    found = _half_life_unit(half_life, source)
    if found:
        return found
    tracer = str(source.written("tracer") or "")
    for claim, nuclides in (
        (facts.get("nuclide"), (facts.get("nuclide"),)),
        (tracer, nuclides_of_tracer(tracer)),
    ):
        known = [NUCLIDES[name][0] for name in nuclides if name]
        if not known:
            continue
        nearest = min(known, key=lambda one: abs(math.log(half_life / one)))
        if abs(half_life / nearest - 1.0) <= 0.01:
            continue
        effect = _change(uptake, half_life, nearest)
        line = (
            f"{source.named('half_life')} {half_life:g} s is not that of {str(claim)[:40]} ({nearest:g} s), "
            f"{effect:+.1f} % of the SUV"
        )
        remedy, refused = source.remedy("half_life", f"{nearest:g}"), abs(effect) > CONFIRM_PERCENT
        warned = any(text.startswith(source.named("half_life")) for text in decision.warnings)
        return [Finding("HALF_LIFE", line, remedy, refused)] if refused or not warned else []
    return []


def _change(uptake_minutes: float | None, half_life: float, other: float) -> float:
    """Error of the SUV [%] if `other` is the true half-life."""
    exponent = (uptake_minutes or 0.0) * 60.0 * (1.0 / half_life - 1.0 / other)
    return (2.0 ** max(min(exponent, 500.0), -500.0) - 1.0) * 100.0


def _half_life_unit(half_life: float, source: Source) -> list[Finding]:
    """A finding on a half-life that differs from nuclide and tracer by a factor of 2, or fits no nuclide."""
    tracer = str(source.written("tracer") or "")
    coded = nuclides_named(str(source.written("nuclide") or ""), str(source.written("meaning") or ""))
    claims = set(coded) | set(nuclides_of_tracer(tracer))
    known = [NUCLIDES[name][0] for name in claims]
    if any(0.5 <= half_life / one <= 2.0 for one in known):
        return []
    looks = _looks_like_time(half_life, claims or NUCLIDES)
    named = f"{source.named('half_life')} {half_life:g} s"
    if known:
        who = f"tracer '{tracer[:40]}'" if not coded else "the nuclide"
        line = f"{named} contradicts {who} ({' or '.join(sorted(claims))}, {known[0]:g} s){looks}"
        return [Finding("HALF_LIFE", line, source.remedy("half_life", f"{known[0]:g}"), True)]
    if any(abs(half_life / one - 1.0) <= 0.03 for one, _ in NUCLIDES.values()):
        return []
    line = f"{named} is that of no known PET nuclide{looks}"
    return [Finding("HALF_LIFE", line, source.remedy("half_life", "SECONDS"), bool(looks))]


def _looks_like_time(half_life: float, nuclides: Collection[str]) -> str:
    for unit, scale in _UNITS_OF_TIME.items():
        for name in sorted(nuclides):
            if abs(half_life * scale / NUCLIDES[name][0] - 1.0) <= 0.02:
                return f": looks like {unit} ({name}), it must be in s"
    return ""


def _nuclide(facts: Mapping[str, Any], source: Source) -> str:
    """The nuclide by code, tracer or half-life; "" if unknown."""
    if facts.get("nuclide"):
        return facts["nuclide"]
    half_life = facts.get("half_life_s")
    names = nuclides_of_tracer(str(source.written("tracer") or "")) if not half_life else NUCLIDES
    near = [n for n in names if not half_life or abs(half_life / NUCLIDES[n][0] - 1.0) <= 0.03]
    return near[0] if len(near) == 1 else ""


def _dose(decision: SUVDecision, source: Source) -> list[Finding]:
    dose, weight = decision.facts.get("dose_bq"), decision.facts.get("weight_kg")
    if not _uses_dose(decision) or not dose or not weight:
        return []
    nuclide = _nuclide(decision.facts, source)
    limits = bounds.DOSE_MBQ_PER_KG.get(nuclide, bounds.DOSE_MBQ_PER_KG[""])
    per_kg = dose / 1e6 / weight
    verdict = limits.judge(per_kg)
    if verdict == "usual":
        return []
    written = number_of(source.written("dose")) or dose
    looks, right = "", 370e6
    for unit, scale in _UNITS_OF_DOSE.items():
        other = written * scale
        if abs(other / dose - 1.0) > 0.01 and limits.judge(other / 1e6 / weight) == "usual":
            looks, right = f": looks like {unit}", other
            break
    unit = f" {source.dose_in}" if source.dose_in else ""
    line = (
        f"{source.named('dose')} {written:g}{unit}, {dose / 1e6:.6g} MBq, is {per_kg:.3g} MBq/kg of "
        f"{nuclide or 'the nuclide'} in {weight:g} kg (usual {limits.low:g} to {limits.high:g}){looks}"
    )
    # A unit that was guessed from the value is accepted only if the resulting dose is usual.
    doubtful = source.dose_in is None and bool(looks)
    remedy = source.remedy("dose", f"{right:.4g} in Bq" if looks else "BECQUEREL")
    return [Finding("DOSE", line, remedy, verdict == "implausible" or doubtful)]


def _uptake(decision: SUVDecision, source: Source) -> list[Finding]:
    facts = decision.facts
    minutes, half_life = facts.get("uptake_minutes"), facts.get("half_life_s")
    if not _uses_dose(decision) or decision.rule == "ADMIN" or minutes is None or not half_life:
        return []
    nuclide = _nuclide(facts, source)
    limits = bounds.UPTAKE_MINUTES.get(nuclide)
    if limits is None:
        per_half_life = bounds.UPTAKE_HALF_LIVES
        limits = bounds.Bounds(
            -2.0, 0.0, per_half_life.high * half_life / 60.0, per_half_life.highest * half_life / 60.0
        )
    verdict = limits.judge(minutes)
    shown = f"{minutes:.1f} min" if abs(minutes) < 1000 else f"{minutes / 1440:.2f} days"
    where, remedy = source.named("injection"), source.remedy("injection", "YYYYMMDDHHMMSS")
    low, high = bounds.UPTAKE_FDG_MINUTES
    if verdict == "implausible":
        what = (
            f"the image's reference time lies {-minutes:.1f} min before the injection"
            if minutes < 0
            else f"uptake time {shown} is longer than {nuclide or 'the nuclide'} is imaged "
            f"({limits.highest:.4g} min)"
        )
        return [Finding("UPTAKE", f"{where}: {what}", remedy, True)]
    if minutes >= 0 and verdict == "unusual":
        return [
            Finding(
                "UPTAKE",
                f"{where}: uptake time {shown} is unusual for {nuclide or 'the nuclide'}",
                remedy,
                False,
            )
        ]
    fdg = bounds.TRACERS[0][0].search(str(source.written("tracer") or ""))
    if decision.rule == "sidecar" and fdg and not low <= minutes <= high:
        line = f"{where}: uptake time {minutes:.1f} min is unusual for FDG ({low:g} to {high:g} min)"
        return [Finding("UPTAKE", line, remedy, False)]
    return []


def _body(decision: SUVDecision, source: Source) -> list[Finding]:
    kinds = _kinds(decision)
    weight, height = decision.facts.get("weight_kg"), decision.facts.get("height_m")
    found = []
    if kinds - {"ibw"} and weight:
        verdict = bounds.WEIGHT_KG.judge(weight)
        name = source.named("weight")
        warned = any(text.startswith(name) and "unusual" in text for text in decision.warnings)
        if verdict == "implausible" or (verdict == "unusual" and not warned):
            line = f"{name} {weight:g} kg is {verdict} for a patient"
            found.append(
                Finding("BODY", line, source.remedy("weight", "KILOGRAMS"), verdict == "implausible")
            )
    if kinds - {"bw"} and height:
        verdict = bounds.HEIGHT_M.judge(height)
        if verdict != "usual":
            line = f"{source.named('height')} {height:g} m is {verdict} for a patient"
            found.append(Finding("BODY", line, source.remedy("height", "METERS"), verdict == "implausible"))
    if kinds and weight and height and not found:
        index = weight / height**2
        verdict = bounds.BMI.judge(index)
        if verdict != "usual":
            line = (
                f"{source.named('weight')} {weight:g} kg and {source.named('height')} {height:g} m "
                f"make a body mass index of {index:.3g}, which is {verdict}"
            )
            found.append(
                Finding("BODY", line, source.remedy("weight", "KILOGRAMS"), verdict == "implausible")
            )
    return found


def heaviest_kg(kind: str, height_m: float, sex: str) -> float:
    """The weight at which a quadratic lean body mass has its maximum (Tahari 2014).

    Args:
        kind: "lbm" or "lbmjames128".
        height_m: height.
        sex: "F", any other text for the male formula.
    """
    square = (height_m * 100.0) ** 2
    if sex == "F":
        return 1.07 * square / (2.0 * 148.0)
    return 1.10 * square / (2.0 * (120.0 if kind == "lbm" else 128.0))


def _formula(decision: SUVDecision, source: Source) -> list[Finding]:
    """Findings on formulas that are used beyond the people for whom they were made."""
    facts = decision.facts
    weight, height = facts.get("weight_kg"), facts.get("height_m")
    sex = str(facts.get("sex") or "").upper()[:1]
    found: list[tuple[str, bool]] = []
    for kind in sorted(_kinds(decision) - {"bw"}):
        if not height:
            continue
        name, people = SUV_TYPES[kind][0], f"{source.named('height')} {height:g} m"
        if weight:
            people = f"{source.named('weight')} {weight:g} kg and {people}"
        if kind == "ibw":
            lowest, low = bounds.IBW_HEIGHT_M
            if height < low:
                line = f"{name}: the ideal body weight is defined for adults from {low:g} m, {people} is not"
                found.append((line, height < lowest))
        elif not weight:
            continue
        elif kind in ("lbm", "lbmjames128"):
            most = min(heaviest_kg(kind, height, one) for one in (sex if sex in ("M", "F") else "MF"))
            if weight > most:
                mass = body_norm(kind, weight, height, sex) / 1000.0
                line = (
                    f"{name}: the lean body mass formula has its maximum at {most:.1f} kg for this height "
                    f"and falls beyond it: {people} result in {mass:.3g} kg"
                )
                found.append((line, True))
            elif weight < bounds.ADULT_WEIGHT_KG:
                found.append((f"{name}: the lean body mass formula is for adults, {people} is not", False))
        elif kind == "lbmjanma":
            if not bounds.is_of_janmahasatian(weight, height):
                found.append((f"{name}: {bounds.JANMAHASATIAN_PEOPLE}, {people} is not", False))
        elif kind == "bsa" and height < bounds.DU_BOIS_HEIGHT_M:
            line = (
                f"{name}: Du Bois's formula is for people from {bounds.DU_BOIS_HEIGHT_M:g} m, {people} is not"
            )
            found.append((line, False))
    remedy = (
        "use --suv-type bw" if any("ideal" in line for line, _ in found) else "use --suv-type lbmjanma or bw"
    )
    return [Finding("FORMULA", line, remedy, implausible) for line, implausible in found]


def percentile_in_body(suv_zyx: np.ndarray, spacing_zyx: Sequence[float]) -> float | None:
    """The 99.9th percentile of an image in the body; None if the body has too few voxels.

    Args:
        suv_zyx: the image, (z, y, x) [SUV].
        spacing_zyx: voxel spacing [mm].
    """
    step = max(1, math.ceil((suv_zyx.size / _SAMPLES) ** (1.0 / 3.0)))
    image = np.ascontiguousarray(suv_zyx[::step, ::step, ::step])
    if not image.size or not float(image.max()) > 0.0:
        return None
    # Scaled by its maximum, because the image's own scale may be absurd.
    scaled = image / np.float32(image.max())
    body = image[body_mask_of_any_scale(scaled, [step * float(one) for one in spacing_zyx])]
    if body.size < bounds.FEWEST_VOXELS:
        return None
    return float(np.percentile(body, bounds.PERCENTILE))


def _suv(decision: SUVDecision, high: float | None, source: Source) -> list[Finding]:
    if high is None or high <= 0.0:
        return []
    verdict = bounds.SUV_PERCENTILE.judge(high)
    if verdict == "usual":
        return []
    fact = "dose" if _uses_dose(decision) else "units"
    limits = bounds.SUV_PERCENTILE
    line = (
        f"the {decision.type} in the body is {verdict}: its {bounds.PERCENTILE:g}th percentile is {high:.3g} "
        f"(usual {limits.low:g} to {limits.high:g})"
    )
    if verdict == "implausible":
        shown = _show(source.written(fact))
        line += f", by rule {decision.rule}, factor {decision.factor:.4g} and {source.named(fact)} {shown}"
    # If the scanner stored SUV, nothing was computed that could be corrected: only a warning.
    refused = verdict == "implausible" and decision.rule not in ("GML", "CM2ML")
    declared = decision.rule == "declared"  # by the image or the caller, with no facts behind it
    remedy = source.remedy("units", "") if declared else "correct dose, weight, times or units"
    return [Finding("SUV", line, remedy, refused)]
