"""Dates and times of a DICOM header that cannot be read, for a refusal that would else call them missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drmc.dicom.header import tag_of, text_of
from drmc.suv.times import parse_date, parse_datetime, parse_offset, parse_time
from drmc.texts import shown

_PARSERS: dict[str, Callable[[Any], Any]] = {
    "SeriesDate": parse_date,
    "SeriesTime": parse_time,
    "AcquisitionDate": parse_date,
    "AcquisitionTime": parse_time,
    "AcquisitionDateTime": parse_datetime,
    "DecayCorrectionDateTime": parse_datetime,
    "RadiopharmaceuticalStartTime": parse_time,
    "RadiopharmaceuticalStartDateTime": parse_datetime,
    "TimezoneOffsetFromUTC": parse_offset,
}
_LONGEST = 40  # characters of a value that are shown


def unreadable_times(slices: Sequence[Mapping[str, Any]], synonyms: Mapping[str, str] | None = None) -> str:
    """Name, tag and value of each date or time in header facts that cannot be read, as the end of a message.

    "" where all can be read. `synonyms`: what the elements are called in this series.
    """
    found = []
    for keyword, parse in _PARSERS.items():
        for value in dict.fromkeys(text_of(facts.get(keyword)) for facts in slices):
            try:
                parse(value)
            except ValueError as error:
                name = f"{keyword} {tag_of(keyword).upper()}"
                found.append(f"{(synonyms or {}).get(name, name)} '{shown(value)[:_LONGEST]}' is {error}")
                break
    return f" ({'; '.join(found)}: correct it)" if found else ""
