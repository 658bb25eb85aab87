"""The times of a series by the scanner's clock, and the time of injection."""

from __future__ import annotations

import math
from collections.abc import Sequence

from drmc.suv.formulas import suv_change_percent
from drmc.suv.header import Header
from drmc.suv.limits import (
    BEFORE_ADMINISTRATION_S,
    CONFIRM_PERCENT,
    DATED_UPTAKE_HALF_LIVES,
    LONG_LIVED_HALF_LIFE_S,
    REBUILT_UPTAKE_LIMIT_S,
    SAME_TIME_S,
)
from drmc.suv.tags import refused, with_tag
from drmc.suv.times import (
    DAY_S,
    clock_text,
    iso_text,
    nearest_day,
    parse_date,
    parse_datetime,
    parse_offset,
    parse_time,
    zone_text,
)
from drmc.suv.values import number_of


class Clocks:
    """The times of a series in s by the scanner's clock, from 1900-01-01, or a nominal day without dates.

    `series`: SeriesDate and SeriesTime; `acquisitions`: one per slice, None for a slice without one;
    `earliest`: the first of them, None unless every slice has one; `dated`: whether there are dates;
    `reference`: FrameReferenceTime and `duration`: ActualFrameDuration, per slice in s.
    """

    def __init__(self, header: Header):
        self.offset: float | None = header.time("TimezoneOffsetFromUTC", parse_offset)
        series_date = header.time("SeriesDate", parse_date)
        series_time = header.time("SeriesTime", parse_time)
        dates = header.times("AcquisitionDate", parse_date)
        times = header.times("AcquisitionTime", parse_time)
        written = header.times("AcquisitionDateTime", parse_datetime)
        if self.offset is None:
            self.offset = self._offset_of_acquisitions(written, times)
        moments = [self.local(m) for m in written]
        days = [d for d in (series_date, *dates) if d is not None]
        days += [m - m % DAY_S for m in moments if m is not None]
        self.dated = bool(days)
        anchor = days[0] if days else 0.0
        anchor += next((t for t in (series_time, *times) if t is not None), 0.0)

        def moment_of(day: float | None, time: float | None, moment: float | None) -> float | None:
            if time is not None and day is not None:
                return day + time
            if moment is not None or time is None:
                return moment
            return nearest_day(time, anchor)

        self.acquisitions = [moment_of(*item) for item in zip(dates, times, moments, strict=True)]
        known = [t for t in self.acquisitions if t is not None]
        self.earliest = min(known) if len(known) == len(self.acquisitions) else None
        self.span = max(known) - min(known) if known else 0.0
        self.series: float | None = None
        if series_time is not None:
            near = min(known) if known else anchor
            self.series = nearest_day(series_time, near) if series_date is None else series_date + series_time
        if not self.dated:
            header.notices.append("the header has no dates: times of day only")
        else:
            if series_date is None and series_time is not None:
                self._note_missing(header, "SeriesDate")
            without = zip(dates, moments, times, strict=True)
            if any(d is None and m is None and t is not None for d, m, t in without):
                self._note_missing(header, "AcquisitionDate")
        self.reference = self._seconds(header, "FrameReferenceTime")
        self.duration = self._seconds(header, "ActualFrameDuration")

    @staticmethod
    def _note_missing(header: Header, key: str) -> None:
        header.notices.append(f"{with_tag(key)} is missing: the nearest day is taken")

    @staticmethod
    def _seconds(header: Header, key: str) -> list[float | None]:
        values = [number_of(s.get(key)) for s in header.slices]
        return [None if v is None or abs(v) > 1e12 else v / 1000.0 for v in values]

    @staticmethod
    def _offset_of_acquisitions(
        moments: Sequence[tuple[float, float | None] | None], times: Sequence[float | None]
    ) -> float | None:
        """The offset from UTC of AcquisitionDateTime if it is the same on all slices, else None.

        Its clock must be that of AcquisitionTime.
        """
        offsets = {None if m is None else m[1] for m in moments}
        same_clock = all(
            t is None or (m is not None and abs(m[0] - nearest_day(t, m[0])) <= SAME_TIME_S)
            for m, t in zip(moments, times, strict=True)
        )
        return offsets.pop() if len(offsets) == 1 and same_clock else None

    def local(self, moment: tuple[float, float | None] | None) -> float | None:
        """A DT on the series' clock: shifted only if both have an offset from UTC."""
        if moment is None:
            return None
        seconds, offset = moment
        return seconds if offset is None or self.offset is None else seconds - offset + self.offset

    def unplaced(self, moment: tuple[float, float | None] | None) -> tuple[float, float] | None:
        """(seconds, offset) of a DT that has an offset from UTC although the series has none; else None."""
        if moment is None or moment[1] is None or self.offset is not None:
            return None
        return moment[0], moment[1]

    def near(self) -> float | None:
        """The acquisition, else the series time: the anchor for a time of day."""
        return self.earliest if self.earliest is not None else self.series

    def iso(self, seconds: float) -> str | None:
        """ISO text of a moment, without the date if the header has none."""
        return iso_text(seconds, self.dated)


class Administration:
    """The time of injection, from two tags, with dates that may be wrong, and across midnight.

    Raises:
        InputError: the time is missing, the two tags contradict each other, or a moment in another time zone
            cannot be placed on the scanner's clock.
    """

    def __init__(self, header: Header, clocks: Clocks, half_life: float):
        self.half_life, self.dated = half_life, clocks.dated
        self.key = "RadiopharmaceuticalStartDateTime"
        written = header.time(self.key, parse_datetime)
        self.time_of_day = header.time("RadiopharmaceuticalStartTime", parse_time)
        self._place(header, clocks, written)
        self.moment = clocks.local(written)
        if self.moment is None and self.time_of_day is None:
            written = header.time("GEAdministrationDateTime", parse_datetime)
            private = clocks.local(written)
            if private is None:
                problem = f"and {with_tag('RadiopharmaceuticalStartTime')} are both missing"
                raise refused(self.key, problem, "write the time of injection into the header")
            self.moment, self.key = private, "GEAdministrationDateTime"
            self._place(header, clocks, written)
            header.notices.append(f"time of injection taken from the private {with_tag(self.key)}")
        if self.moment is None:
            self.key = "RadiopharmaceuticalStartTime"
        elif self.time_of_day is None:
            self.time_of_day = self.moment % DAY_S
        else:
            self._compare(header, self.moment, self.time_of_day)

    def _place(self, header: Header, clocks: Clocks, moment: tuple[float, float | None] | None) -> None:
        """Places a moment with an offset from UTC on the series' clock; warns or refuses if that fails.

        RadiopharmaceuticalStartTime has no offset: it is on the series' clock, so the difference of the two
        is the clock's offset.
        """
        unplaced = clocks.unplaced(moment)
        if unplaced is None:
            return
        seconds, offset = unplaced
        if self.time_of_day is not None:
            apart = nearest_day(self.time_of_day, seconds) - seconds
            zone = offset + 900.0 * round(apart / 900.0)
            if abs(offset + apart - zone) <= SAME_TIME_S and -43_200.0 <= zone <= 50_400.0:
                clocks.offset = zone
                if zone != offset:
                    header.notices.append(
                        f"{with_tag(self.key)} {clock_text(seconds)} {zone_text(offset)} is "
                        f"{with_tag('RadiopharmaceuticalStartTime')} {clock_text(self.time_of_day)} on a "
                        f"scanner at {zone_text(zone)}"
                    )
            return  # else the two contradict each other: `_compare` warns or refuses
        effect = suv_change_percent(3600.0, self.half_life)
        problem = (
            f"{clock_text(seconds)} {zone_text(offset)} states its offset from UTC and the series does not "
            f"({with_tag('TimezoneOffsetFromUTC')} is missing): it cannot be placed on the scanner's clock, "
            f"and an hour is {effect:.3g} % of the SUV"
        )
        if effect > CONFIRM_PERCENT and not header.accept_clock:
            remedy = (
                "set the scanner's time without offset (--header RadiopharmaceuticalStartDateTime=...), or "
                "take the written clock with --accept-suv CLOCK"
            )
            raise refused(self.key, problem, remedy)
        header.warnings.append(f"{with_tag(self.key)} {problem}: the written clock is used")

    def _compare(self, header: Header, moment: float, time_of_day: float) -> None:
        apart = moment - nearest_day(time_of_day, moment)
        if abs(apart) <= SAME_TIME_S:
            return
        effect = suv_change_percent(abs(apart), self.half_life)
        problem = (
            f"{clock_text(moment)} and {with_tag('RadiopharmaceuticalStartTime')} {clock_text(time_of_day)} "
            f"differ, {effect:.3g} % of the SUV"
        )
        if effect > CONFIRM_PERCENT:
            raise refused(self.key, problem, "remove the wrong one (is it a time zone or summer time?)")
        header.warnings.append(f"{with_tag(self.key)} {problem}: the first is used")
        self.time_of_day = moment % DAY_S

    def before(self, reference: float) -> tuple[float, list[str]]:
        """The time of injection before a reference time.

        Args:
            reference: the reference time [s], on the scanner's clock.

        Returns:
            the time of injection [s] on the same clock, and notices.

        Raises:
            InputError: it is not known, such as with a wrong date and a long-lived nuclide.
        """
        notices = []
        if self.moment is not None and self.dated:
            uptake = reference - self.moment
            if -BEFORE_ADMINISTRATION_S <= uptake < self._longest_dated():
                return self.moment, self._midnight(self.moment, reference)
        if self.half_life >= LONG_LIVED_HALF_LIFE_S:
            problem = (
                f"gives no date within ten half-lives before the reference time {clock_text(reference)}, and "
                f"the nuclide is long-lived ({self.half_life:g} s)"
            )
            raise refused("RadiopharmaceuticalStartDateTime", problem, "correct the dates in the header")
        uptake = (reference - self.time_of_day + BEFORE_ADMINISTRATION_S) % DAY_S - BEFORE_ADMINISTRATION_S
        if uptake >= REBUILT_UPTAKE_LIMIT_S:
            problem = (
                f"{clock_text(self.time_of_day)} is not within 6 h before the reference time "
                f"{clock_text(reference)}"
            )
            raise refused(self.key, problem, "correct the time of injection or of the scan in the header")
        rebuilt = reference - uptake
        if self.moment is not None and abs(rebuilt - self.moment) > SAME_TIME_S:
            notices.append(
                f"{with_tag(self.key)} is not on the day of the scan: its time of day alone is used, uptake "
                f"{uptake / 60.0:.1f} min"
            )
        return rebuilt, notices + self._midnight(rebuilt, reference)

    def _longest_dated(self) -> float:
        """Uptake [s] up to which complete dates are trusted.

        Less than 23 h for a short-lived nuclide: there the time of day suffices, and a date that is one day
        off comes from an anonymizer.
        """
        longest = DATED_UPTAKE_HALF_LIVES * self.half_life
        if self.half_life >= LONG_LIVED_HALF_LIFE_S:
            return longest
        return min(longest, DAY_S - BEFORE_ADMINISTRATION_S)

    @staticmethod
    def _midnight(administration: float, reference: float) -> list[str]:
        if math.floor(administration / DAY_S) == math.floor(reference / DAY_S):
            return []
        span = f"between the injection {clock_text(administration)} and the reference {clock_text(reference)}"
        return [f"midnight lies {span}: uptake {(reference - administration) / 60.0:.1f} min"]
