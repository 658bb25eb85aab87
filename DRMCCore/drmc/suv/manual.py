"""Manual values: values of a DICOM header that the user enters because the header's are missing or wrong.

A manual value replaces the header's in every slice when the SUV is decided, as if it had been in the file;
files are not changed. The meaning of the elements is up to the SUV rules (drmc.suv.rules). Allowed are only
elements that have one value in a series and that a person can know of a scan; an empty value means that the
header's is wrong and the right one is not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drmc.errors import InputError
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import SUV_TYPES
from drmc.suv.times import parse_date, parse_datetime, parse_time

_TIME, _DATE, _MOMENT, _NUMBER, _WHOLE = "time", "date", "moment", "number", "whole"
_LONGEST = 16  # characters of a DICOM decimal string: longer ones could not be written without rounding


@dataclass(frozen=True)
class Kind:
    """The kind of a value: its form, or the allowed words; and its unit in the header."""

    form: str | tuple[str, ...]
    unit: str = ""

    @property
    def expected(self) -> str:
        """A description of the expected text."""
        if isinstance(self.form, tuple):
            return f"one of {', '.join(self.form)}"
        return {
            _TIME: "a time of day, HHMMSS or HH:MM:SS",
            _DATE: "a date, YYYYMMDD or YYYY-MM-DD",
            _MOMENT: "a date and time, YYYYMMDDHHMMSS or YYYY-MM-DD HH:MM:SS",
            _NUMBER: f"a positive number of at most {_LONGEST} characters, in {self.unit}",
            _WHOLE: f"a positive whole number, in {self.unit}",
        }[self.form]


KINDS: dict[str, Kind] = {
    "PatientWeight": Kind(_NUMBER, "kg"),
    "PatientSize": Kind(_NUMBER, "m"),
    "PatientSex": Kind(("M", "F", "O")),
    "RadionuclideTotalDose": Kind(_NUMBER, "Bq"),
    "RadionuclideHalfLife": Kind(_NUMBER, "s"),
    "RadiopharmaceuticalStartTime": Kind(_TIME),
    "RadiopharmaceuticalStartDateTime": Kind(_MOMENT),
    "SeriesDate": Kind(_DATE),
    "SeriesTime": Kind(_TIME),
    "AcquisitionDate": Kind(_DATE),
    "AcquisitionTime": Kind(_TIME),
    "AcquisitionDateTime": Kind(_MOMENT),
    "ActualFrameDuration": Kind(_WHOLE, "ms"),
    "DecayCorrection": Kind(("START", "ADMIN", "NONE")),
    "DecayCorrectionDateTime": Kind(_MOMENT),
    "SUVType": Kind(tuple(dicom for _, dicom, _ in SUV_TYPES.values())),
}
NUMBERS = tuple(keyword for keyword, kind in KINDS.items() if kind.form in (_NUMBER, _WHOLE))
# Those in the RadiopharmaceuticalInformationSequence (0054,0016).
OF_THE_INJECTION = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
)


def parse(assignments: Iterable[str]) -> dict[str, str]:
    """Manual values by keyword, in DICOM's form, from texts KEYWORD=VALUE.

    Raises:
        InputError: a text has another form, or a keyword is not allowed or occurs twice.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        keyword, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--header {assignment}: write KEYWORD=VALUE, such as --header PatientWeight=70")
        if keyword.strip() in values:
            raise InputError(f"--header {keyword.strip()}: occurs twice: leave one out")
        values[keyword.strip()] = text
    return checked(values)


def checked(values: Mapping[str, str]) -> dict[str, str]:
    """The values in DICOM's form; "" removes the header's value.

    Raises:
        InputError: a keyword is not allowed, or a value does not have the form of its kind.
    """
    found = {}
    for keyword, text in values.items():
        kind = KINDS.get(keyword)
        if kind is None:
            raise InputError(
                f"--header {keyword}: cannot be given by hand, only {', '.join(KINDS)}: correct the file "
                "instead"
            )
        written = _written(kind, " ".join(text.split()))
        if written is None:
            raise InputError(f"--header {keyword}={text}: write {kind.expected}")
        found[keyword] = written
    return found


def _written(kind: Kind, text: str) -> str | None:
    """The text in DICOM's form, None if it is not valid."""
    if not text:
        return ""
    if isinstance(kind.form, tuple):
        return text.upper() if text.upper() in kind.form else None
    if kind.form in (_NUMBER, _WHOLE):
        plain = re.fullmatch(r"\d+" if kind.form == _WHOLE else r"\d+\.?\d*([eE][+-]?\d+)?", text, re.ASCII)
        return text if plain and len(text) <= _LONGEST and 0 < float(text) < float("inf") else None
    # People separate the numbers of dates and times; DICOM does not.
    parse: Callable[[Any], Any]
    if kind.form == _TIME:
        text, parse = text.replace(":", ""), parse_time
    elif kind.form == _DATE:
        text, parse = re.sub(r"[-.]", "", text), parse_date
    else:
        text = re.sub(r"^(\d{4})-(\d\d)-(\d\d)[ T]?", r"\1\2\3", text).replace(":", "")
        parse = parse_datetime
    try:
        parse(text)
    except ValueError:
        return None
    return text


def override(slices: Sequence[Mapping[str, Any]], given: Mapping[str, str]) -> list[dict[str, Any]]:
    """The header facts of all slices with the manual values in place of the header's."""
    values = {keyword: text or None for keyword, text in given.items()}
    return [{**facts, **values} for facts in slices]


def header_texts(slices: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The header's own value, as text, of each element that can have a manual value; "" if it has none."""
    return {keyword: _header_text(slices, keyword) for keyword in KINDS}


def _header_text(slices: Sequence[Mapping[str, Any]], keyword: str) -> str:
    texts = list(dict.fromkeys(_text(facts.get(keyword)) for facts in slices))
    return texts[0] if len(texts) == 1 else f"{min(texts)} to {max(texts)}"


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "\\".join(map(_text, value))
    text = f"{value:.16g}" if isinstance(value, float) else "" if value is None else str(value).strip(" \0")
    return "".join(c if c.isprintable() else "?" for c in text)[:40]


def with_manual_values_noted(
    decision: SUVDecision,
    slices: Sequence[Mapping[str, Any]],
    given: Mapping[str, str],
    idle: Sequence[str] = (),
) -> SUVDecision:
    """Adds a warning for each manual value to a decision, and all of them to its facts.

    Args:
        decision: the decision with the manual values.
        slices: the header facts of the files.
        given: the manual values by keyword.
        idle: the keywords whose values have no effect on the decision.
    """
    if not given:
        return decision
    lines: list[str] = []
    facts: dict[str, dict[str, Any]] = {}
    for keyword, text in given.items():
        header = _header_text(slices, keyword)
        value = f"{text} {KINDS[keyword].unit}".strip() if text else "left out"
        line = f"{keyword} given by hand: {value} (the header says {header or 'nothing'})"
        facts[keyword] = {"value": text, "header": header}
        if keyword in idle:
            line += f": it has no effect on the {decision.type}, the rule {decision.rule} decides without it"
            facts[keyword]["effect"] = False
        lines.append(line)
    return replace(
        decision,
        warnings=[*lines, *decision.warnings],
        facts={**decision.facts, "given_by_hand": facts},
    )
