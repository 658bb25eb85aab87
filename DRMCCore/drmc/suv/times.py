"""DICOM times and dates (TM, DA, DT) in seconds, and back to text."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta
from typing import Any

from drmc.suv.values import as_text

_EPOCH = datetime(1900, 1, 1)
DAY_S = 86_400.0
_TM = re.compile(r"(\d\d):?(?:(\d\d):?(?:(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DT = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?([+-]\d{4})?", re.ASCII)


def parse_time(text: Any) -> float | None:
    """Seconds of the day of a DICOM TM: HH, HHMM, HHMMSS or HHMMSS.F to .FFFFFF, blank-padded, also HH:MM:SS.

    None for an empty text. Second 60 is the next minute's 0.

    Raises:
        ValueError: the text is not a time of day.
    """
    text = as_text(text)
    if not text:
        return None
    match = _TM.fullmatch(text)
    if match is None:
        raise ValueError("not a time of day")
    return _seconds_of_day(*match.groups())


def parse_date(text: Any) -> float | None:
    """Seconds from 1900-01-01 to the start of a DICOM DA (YYYYMMDD, also YYYY.MM.DD); None for an empty text.

    Raises:
        ValueError: the text is not a date.
    """
    text = as_text(text)
    if not text:
        return None
    match = re.fullmatch(r"(\d{4})([.-]?)(\d\d)\2(\d\d)", text, re.ASCII)
    if match is None:
        raise ValueError("not a date")
    return _seconds_of_date(match[1], match[3], match[4])


def parse_datetime(text: Any) -> tuple[float, float | None] | None:
    """A DICOM DT as (seconds from 1900-01-01 by the written clock, offset from UTC in s or None).

    None for an empty text.

    Raises:
        ValueError: the text is not a DT, or is a date without an hour.
    """
    text = as_text(text)
    if not text:
        return None
    match = _DT.fullmatch(text)
    if match is None:
        raise ValueError("not a date and time")
    seconds = _seconds_of_date(*match.groups()[:3]) + _seconds_of_day(*match.groups()[3:7])
    return seconds, parse_offset(match[8])


def parse_offset(text: Any) -> float | None:
    """Seconds east of UTC of a DICOM time zone offset (+ZZXX or -ZZXX); None for an empty text.

    Raises:
        ValueError: the text is not an offset.
    """
    text = as_text(text)
    if not text:
        return None
    match = re.fullmatch(r"([+-])(\d\d)(\d\d)", text, re.ASCII)
    if match is None or int(match[3]) > 59 or int(match[2]) > 14:
        raise ValueError("not an offset from UTC")
    return (1 if match[1] == "+" else -1) * (int(match[2]) * 3600.0 + int(match[3]) * 60.0)


def _seconds_of_day(hour: str, minute: str | None, second: str | None, fraction: str | None) -> float:
    h, m, s = int(hour), int(minute or 0), int(second or 0)
    if h > 23 or m > 59 or s > 60:
        raise ValueError("not a time of day")
    return h * 3600.0 + m * 60.0 + s + (float("0." + fraction) if fraction else 0.0)


def _seconds_of_date(year: str, month: str, day: str) -> float:
    if not 1800 <= int(year) <= 2999:
        raise ValueError("not a date")
    try:
        return float((date(int(year), int(month), int(day)) - _EPOCH.date()).days) * DAY_S
    except ValueError:
        raise ValueError("not a date") from None


def nearest_day(time_of_day: float, anchor: float) -> float:
    """The moment with this time of day that is nearest to `anchor`."""
    return time_of_day + DAY_S * math.floor((anchor - time_of_day) / DAY_S + 0.5)


def iso_text(seconds: float | None, dated: bool) -> str | None:
    """ISO text of seconds from 1900-01-01, only the time of day if `dated` is False; None out of range."""
    if seconds is None or not math.isfinite(seconds):
        return None
    try:
        moment = _EPOCH + timedelta(seconds=round(seconds, 6))
    except OverflowError:
        return None
    return moment.isoformat() if dated else moment.time().isoformat()


def zone_text(offset: float) -> str:
    """An offset from UTC in DICOM's form."""
    minutes = round(abs(offset) / 60.0)
    return f"{'-' if offset < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"


def clock_text(seconds: float) -> str:
    """Time of day for messages, without the date, which could help to identify a patient."""
    whole = round(seconds % DAY_S)
    return f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
