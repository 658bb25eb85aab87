"""The reference time of a series with DecayCorrection START: candidates and choice."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from drmc.errors import InputError, SUVRefusedError
from drmc.suv.clocks import Administration, Clocks
from drmc.suv.decision import Candidate
from drmc.suv.formulas import change_text, exp2, in_frame_term, mean_count_time, suv_change_percent
from drmc.suv.header import Header
from drmc.suv.limits import (
    BACK_SPREAD_S,
    CONFIRM_PERCENT,
    DECAY_FACTOR_TOLERANCE,
    PLAUSIBLE_WINDOW_S,
    SAME_TIME_S,
    SSF_AGREES_PERCENT,
    WARN_PERCENT,
)
from drmc.suv.tags import refused, with_tag
from drmc.suv.times import DAY_S, clock_text, nearest_day, parse_datetime, zone_text
from drmc.suv.values import number_of

TIME_RULES = ("PRIVATE", "ST", "BACK", "AT_MIN", "GE_AT_FRT", "SSF_RATIO", "DCDT")
# Pairs from different fields of the header; if they agree, the user need not confirm the choice.
_INDEPENDENT = [
    {"ST", "BACK"},
    {"ST", "AT_MIN"},
    {"PRIVATE", "ST"},
    {"PRIVATE", "BACK"},
    {"PRIVATE", "AT_MIN"},
]


_NO_UPTAKE = "no possible uptake time"
_UNVERIFIED = "unverified: a single FrameReferenceTime that exceeds the frame"


@dataclass
class _Candidate:
    rule: str
    time: float
    plausible: bool
    note: str = ""

    def __str__(self) -> str:
        return f"{self.rule} {clock_text(self.time)}" + (f" ({self.note})" if self.note else "")


def _complete(header: Header) -> bool | None:
    """Whether all slices of the series are present; None if the header has no NumberOfSlices."""
    announced = number_of(header.slices[0].get("NumberOfSlices"))
    return None if not announced else len(header.slices) == int(announced)


class ReferenceTime:
    """The moment to which an image with DecayCorrection START is corrected; `found`: the candidates."""

    def __init__(self, header: Header, clocks: Clocks, administration: Administration):
        self.header, self.clocks, self.administration = header, clocks, administration
        self.half_life = administration.half_life
        self.found: dict[str, _Candidate] = {}
        self.frame_start = _frame_reference_is_start(header, clocks, self.half_life)
        self._private()
        self._series_time()
        self._back_computed()
        if clocks.earliest is not None:
            whole = _complete(header) is not False
            self._add("AT_MIN", clocks.earliest, whole, "" if whole else "slices are missing")
        # In Enhanced PET this element is the reference time by definition (DICOM PS3.3 C.8.22.6); a classic
        # header should not contain it, there it is used as a cross-check only.
        self.defined = header.text("DecayCorrected").upper() == "YES"
        written = header.time("DecayCorrectionDateTime", parse_datetime)
        defined_time = clocks.local(written)
        if defined_time is not None and clocks.dated:
            self._add("DCDT", defined_time, *self._placed(written))
        elif self.defined:
            header.warnings.append(
                f"{with_tag('DecayCorrectionDateTime')} is missing: the reference time is assumed to be that "
                "of a classic series"
            )

    def _add(self, rule: str, time: float, plausible: bool, note: str = "") -> None:
        near = self.clocks.near()
        if near is not None and abs(time - near) > PLAUSIBLE_WINDOW_S:
            plausible, note = False, note or "more than 12 h from the acquisition"
        if rule in ("BACK", "AT_MIN", "GE_AT_FRT") and self.clocks.span > PLAUSIBLE_WINDOW_S:
            plausible, note = False, "acquisition times span more than 12 h"
        try:
            self.administration.before(time)
        except InputError:
            plausible, note = False, note or _NO_UPTAKE
        self.found[rule] = _Candidate(rule, time, plausible, note)

    def _placed(self, moment: tuple[float, float | None] | None) -> tuple[bool, str]:
        """Whether a moment can be placed on the scanner's clock by its offset from UTC, and why not."""
        unplaced = self.clocks.unplaced(moment)
        if unplaced is None or self.header.accept_clock:
            return True, ""
        seconds, offset = unplaced
        clock = (self.clocks.series, self.clocks.earliest)
        if any(t is not None and abs(seconds - t) <= SAME_TIME_S for t in clock):
            return True, ""
        if suv_change_percent(3600.0, self.half_life) <= CONFIRM_PERCENT:
            self.header.warnings.append(
                f"a reference time states its offset from UTC {zone_text(offset)} and the series does not "
                f"({with_tag('TimezoneOffsetFromUTC')} is missing): the written clock is used"
            )
            return True, ""
        return False, "its offset from UTC cannot be placed on the scanner's clock"

    def _private(self) -> None:
        for key in ("GEScanDateTime", "SiemensDecayCorrectionDateTime"):
            written = self.header.times(key, parse_datetime)
            times = {t for t in map(self.clocks.local, written) if t is not None}
            if len(times) > 1:
                self.header.warnings.append(f"private {with_tag(key)} differs between the slices: not used")
            elif times:
                time = times.pop()
                if not self.clocks.dated:
                    time = nearest_day(time % DAY_S, self.clocks.near() or 0.0)
                self._add("PRIVATE", time, *self._placed(written[0]))
                return

    def _series_time(self) -> None:
        start, earliest = self.clocks.series, self.clocks.earliest
        if start is None:
            return
        if earliest is None:
            self._add("ST", start, False, "no acquisition time on every slice to check it")
        else:
            late = start > earliest + SAME_TIME_S
            self._add("ST", start, not late, "after the acquisition" if late else "")

    def _back_computed(self) -> None:
        clocks, header = self.clocks, self.header
        acquisitions = [t for t in clocks.acquisitions if t is not None]
        reference = [r for r in clocks.reference if r is not None]
        duration = [d for d in clocks.duration if d is not None and d > 0]
        if min(map(len, (acquisitions, reference, duration))) < len(clocks.acquisitions):
            return
        starts = [t - r for t, r in zip(acquisitions, reference, strict=True)]
        back = [t + mean_count_time(self.half_life, d) for t, d in zip(starts, duration, strict=True)]
        spread = max(back) - min(back)
        single = max(reference) - min(reference) <= 1.0
        note = ""
        if min(reference) <= 0:
            note = "FrameReferenceTime is 0"
        elif self.frame_start:
            note = "by DecayFactor (0054,1321) FrameReferenceTime is the start of the frame"
        elif spread > BACK_SPREAD_S:
            note = f"spreads over {spread:.1f} s"
        elif single and max(reference) > min(duration):
            note = _UNVERIFIED
        self._add("BACK", math.fsum(back) / len(back), not note, note)
        if self.frame_start or "GE" in re.split(r"[\W_]+", header.text("Manufacturer").upper()):
            note = ""
            if clocks.span <= SAME_TIME_S:
                note = "AcquisitionTime is that of the whole series"
            elif max(starts) - min(starts) > BACK_SPREAD_S:
                note = f"spreads over {max(starts) - min(starts):.1f} s"
            self._add("GE_AT_FRT", starts[0], not note, note)

    def add_philips_ratio(self, dose: float, weight: float | None) -> None:
        """Adds the candidate at which both Philips factors result in the same SUVbw, the vendor's answer."""
        counts_to_suv, counts_to_bq = (
            number_of(self.header.one(key))
            for key in ("PhilipsSUVScaleFactor", "PhilipsActivityConcentrationScaleFactor")
        )
        if not weight or not counts_to_suv or not counts_to_bq or min(counts_to_suv, counts_to_bq) <= 0:
            return
        halvings = (
            math.log2(counts_to_suv) - math.log2(counts_to_bq) + math.log2(dose) - math.log2(weight * 1000.0)
        )
        for candidate in sorted(self.found.values(), key=lambda c: not c.plausible):
            if candidate.note != _NO_UPTAKE:
                administered, _ = self.administration.before(candidate.time)
                self._add("SSF_RATIO", administered + self.half_life * halvings, True)
                return

    def choose(self, accept: str | None) -> _Candidate:
        """The preferred reference time, or the accepted one.

        Args:
            accept: the rule that the caller accepts, if any.

        Raises:
            SUVRefusedError: the header leaves the reference time open.
        """
        chosen = None
        try:
            chosen = self._accepted(accept) if accept in TIME_RULES else self._preferred()
            self._weigh(chosen, accept)
        except InputError as error:
            raise SUVRefusedError(str(error), self.candidates(chosen)) from None
        return chosen

    def _accepted(self, rule: str) -> _Candidate:
        if rule not in self.found:
            raise InputError(
                f"rule {rule} was accepted but the header has no time for it: accept one of "
                f"{', '.join(self.found) or 'none'}, or correct the header"
            )
        candidate = self.found[rule]
        if not candidate.plausible:
            self.header.warnings.append(f"reference time {candidate} was accepted by the caller")
        return candidate

    def _preferred(self) -> _Candidate:
        for rule in ("DCDT", "PRIVATE", "ST") if self.defined else ("PRIVATE", "ST"):
            if rule in self.found and self.found[rule].plausible:
                return self.found[rule]
        start = self.found.get("GE_AT_FRT")
        if self.frame_start and start is not None and start.plausible:
            why = f"by {with_tag('DecayFactor')} {with_tag('FrameReferenceTime')} is the start of the frame"
            return self._instead_of_series_time(start, f"{why}, which is taken off the acquisition")
        back, earliest = self.found.get("BACK"), self.found.get("AT_MIN")
        if back is not None and back.plausible:
            return self._instead_of_series_time(back, "it is computed back from the frames")
        if earliest is not None and earliest.plausible and _complete(self.header):
            # A back-computed time that could not be verified may still be the right one.
            apart = 0.0
            if back is not None and back.note == _UNVERIFIED:
                apart = abs(suv_change_percent(back.time - earliest.time, self.half_life))
            if apart <= WARN_PERCENT:
                return self._instead_of_series_time(earliest, "the earliest acquisition is taken")
        for candidate in self.found.values():
            if candidate.note == _NO_UPTAKE:
                self.administration.before(candidate.time)  # raises, naming the tag of the injection
        tags = f"{with_tag('SeriesTime')}, {with_tag('AcquisitionTime')} and {with_tag('FrameReferenceTime')}"
        if not self.found:
            raise InputError(
                f"{tags} do not determine the reference time for {with_tag('DecayCorrection')} START: "
                "restore them in the header"
            )
        raise InputError(
            f"{tags} leave the reference time of {with_tag('DecayCorrection')} START open: "
            f"{', '.join(map(str, self.found.values()))}; name the right one with --accept-suv RULE, or "
            "correct the header"
        )

    def _instead_of_series_time(self, candidate: _Candidate, what: str) -> _Candidate:
        why = self.found["ST"].note if "ST" in self.found else "missing"
        self.header.notices.append(f"{with_tag('SeriesTime')} is not the reference time ({why}): {what}")
        return candidate

    def _weigh(self, chosen: _Candidate, accept: str | None) -> None:
        """Warns of a choice that another plausible time contradicts; refuses it if nothing supports it."""
        changes = {
            c.rule: suv_change_percent(c.time - chosen.time, self.half_life)
            for c in self.found.values()
            if c is not chosen
        }
        rivals = {r: p for r, p in changes.items() if abs(p) > WARN_PERCENT and self.found[r].plausible}
        if not rivals:
            return
        agreed = any(
            abs(self.found[rule].time - chosen.time) <= SAME_TIME_S
            if {rule, chosen.rule} in _INDEPENDENT or rule == "DCDT"
            else rule == "SSF_RATIO" and abs(percent) <= SSF_AGREES_PERCENT
            for rule, percent in changes.items()
        )
        line = f"reference time {chosen.rule} {clock_text(chosen.time)}, but " + ", ".join(
            f"{rule} {clock_text(self.found[rule].time)} would change the SUV {change_text(percent)}"
            for rule, percent in rivals.items()
        )
        defined = (self.defined and chosen.rule == "DCDT") or (
            self.frame_start and chosen.rule == "GE_AT_FRT"
        )
        if agreed or defined or accept == chosen.rule or max(map(abs, rivals.values())) <= CONFIRM_PERCENT:
            self.header.warnings.append(line)
            return
        raise refused("SeriesTime", f"and the other times contradict each other: {line}", _NAME_THE_RULE)

    def candidates(self, chosen: _Candidate | None) -> list[Candidate]:
        """Every candidate as plain values, with its effect on the SUV if one is chosen."""
        rows: list[Candidate] = []
        for c in self.found.values():
            percent = math.nan if chosen is None else suv_change_percent(c.time - chosen.time, self.half_life)
            rows.append(
                {
                    "rule": c.rule,
                    "time": self.clocks.iso(c.time),
                    "difference_percent": round(percent, 4) if math.isfinite(percent) else None,
                    "plausible": c.plausible,
                    "note": c.note,
                }
            )
        return rows


_NAME_THE_RULE = "find out which is right and name it with --accept-suv RULE, or correct the header"


def _frame_reference_is_start(header: Header, clocks: Clocks, half_life: float) -> bool:
    """Whether, by DecayFactor on all slices, FrameReferenceTime is the start of the frame (GE).

    DecayFactor is then 2^(FRT/T) times the in-frame term. If that term is too near to 1, this cannot be
    decided.
    """
    decided = False
    for s, frame, duration in zip(header.slices, clocks.reference, clocks.duration, strict=True):
        factor = number_of(s.get("DecayFactor"))
        if factor is None or frame is None or not duration or duration <= 0:
            return False
        expected, term = exp2(frame / half_life), in_frame_term(half_life, duration)
        if not 0.0 < expected < math.inf or abs(factor / (expected * term) - 1.0) > DECAY_FACTOR_TOLERANCE:
            return False
        decided = decided or term - 1.0 > 2.0 * DECAY_FACTOR_TOLERANCE
    return decided
