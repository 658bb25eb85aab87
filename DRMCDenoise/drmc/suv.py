"""From PET header facts to an SUV factor: one rule set, every choice named, everything unknowable refused.

`decide` takes one mapping of DICOM keywords to plain values per slice and returns an `SUVDecision`. It knows
no file and no pydicom; `drmc.dicom` extracts the mappings. Sources: DICOM PS3.3 C.8.9 (PET Series, PET
Isotope and PET Image modules), the IBSI-SUV manual with its reference objects, the QIBA FDG-PET/CT profile,
and the habits of the vendors' headers as seen in public series.

Units: stored values as the header's Units say, doses Bq, times s, weights kg, heights m, SUV g/ml (cm2/ml for
SUVbsa).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from drmc.errors import InputError, SUVRefusedError

SAME_TIME_S = 3.0  # two clock readings within this are equal
BACK_SPREAD_S = 2.0  # largest spread of back-computed times that still are one time
PLAUSIBLE_WINDOW_S = 12 * 3600.0  # a reference time lies this close to the acquisition
BEFORE_ADMINISTRATION_S = 3600.0  # clocks differ: a reference time may lie this much before the injection
REBUILT_UPTAKE_LIMIT_S = 6 * 3600.0  # an uptake found from times of day alone is shorter than this
LONG_LIVED_HALF_LIFE_S = 41_400.0  # from here on a time of day without its date says nothing
DATED_UPTAKE_HALF_LIVES = 10.0  # an uptake that complete dates give is shorter than this
HALF_LIFE_RANGE_S = (1.0, 1e10)
WARN_PERCENT, CONFIRM_PERCENT = 2.0, 5.0  # candidates that differ more: warn; ask
DECAY_FACTOR_TOLERANCE = 1e-3  # scanners write it with few digits
SSF_AGREES_PERCENT = 0.5  # Philips writes its factors with few digits
FDG_UPTAKE_MINUTES = (30.0, 120.0)

TAGS = {
    "SeriesDate": "(0008,0021)",
    "SeriesTime": "(0008,0031)",
    "AcquisitionDate": "(0008,0022)",
    "AcquisitionTime": "(0008,0032)",
    "AcquisitionDateTime": "(0008,002A)",
    "TimezoneOffsetFromUTC": "(0008,0201)",
    "Manufacturer": "(0008,0070)",
    "GEScanDateTime": "(0009,xx0D)",
    "GEAdministrationDateTime": "(0009,xx3B)",
    "PatientSex": "(0010,0040)",
    "PatientSize": "(0010,1020)",
    "PatientWeight": "(0010,1030)",
    "Radiopharmaceutical": "(0018,0031)",
    "ActualFrameDuration": "(0018,1242)",
    "RadiopharmaceuticalStartTime": "(0018,1072)",
    "RadiopharmaceuticalStartDateTime": "(0018,1078)",
    "RadionuclideTotalDose": "(0018,1074)",
    "RadionuclideHalfLife": "(0018,1075)",
    "DecayCorrectionDateTime": "(0018,9701)",
    "DecayCorrected": "(0018,9758)",
    "CorrectedImage": "(0028,0051)",
    "RescaleIntercept": "(0028,1052)",
    "RescaleSlope": "(0028,1053)",
    "RadiopharmaceuticalItems": "(0054,0016)",
    "NumberOfSlices": "(0054,0081)",
    "RadionuclideCodeValue": "(0054,0300)",
    "RadionuclideCodeMeaning": "(0054,0300)",
    "Units": "(0054,1001)",
    "SUVType": "(0054,1006)",
    "DecayCorrection": "(0054,1102)",
    "FrameReferenceTime": "(0054,1300)",
    "DecayFactor": "(0054,1321)",
    "SiemensDecayCorrectionDateTime": "(0071,xx22)",
    "PhilipsSUVScaleFactor": "(7053,xx00)",
    "PhilipsActivityConcentrationScaleFactor": "(7053,xx09)",
}

# What `suv_type` may be: name -> (output name, DICOM SUVType, formula).
SUV_TYPES = {
    "bw": ("SUVbw", "BW", "body weight"),
    "lbm": (
        "SUVlbm",
        "LBM",
        "lean body mass, Morgan/Sugawara: M 1.10 W - 120 (W/H)^2, F 1.07 W - 148 (W/H)^2",
    ),
    "lbmjames128": (
        "SUVlbmjames128",
        "LBMJAMES128",
        "lean body mass, James: M 1.10 W - 128 (W/H)^2, F 1.07 W - 148 (W/H)^2",
    ),
    "lbmjanma": (
        "SUVlbmjanma",
        "LBMJANMA",
        "lean body mass, Janmahasatian: M 9270 W/(6680 + 216 BMI), F 9270 W/(8780 + 244 BMI)",
    ),
    "bsa": ("SUVbsa", "BSA", "body surface area, Du Bois: 0.007184 W^0.425 H^0.725 m2"),
    "ibw": ("SUVibw", "IBW", "ideal body weight: M 48.0 + 1.06 (H - 152), F 45.5 + 0.91 (H - 152)"),
}
_TYPE_OF_DICOM = {dicom: name for name, (_, dicom, _) in SUV_TYPES.items()}

NOT_CONVERTIBLE_UNITS = ("CPS", "PROPCNTS", "PROPCPS", "1CM", "NONE")
TIME_RULES = ("PRIVATE", "ST", "BACK", "AT_MIN", "GE_AT_FRT", "SSF_RATIO", "DCDT")
_RULE_SOURCE = {
    "PRIVATE": "vendor's private decay-correction time: GE (0009,xx0D) or Siemens (0071,xx22)",
    "ST": "SeriesDate and SeriesTime (0008,0021), (0008,0031)",
    "BACK": "AcquisitionTime (0008,0032) + mean-count time in the frame - FrameReferenceTime (0054,1300)",
    "AT_MIN": "earliest AcquisitionDate and AcquisitionTime (0008,0022), (0008,0032) of the series",
    "GE_AT_FRT": "AcquisitionTime (0008,0032) - FrameReferenceTime (0054,1300)",
    "SSF_RATIO": "Philips SUV scale factor / activity concentration scale factor (7053,xx00)/(7053,xx09)",
    "DCDT": "DecayCorrectionDateTime (0018,9701)",
    "ADMIN": "DecayCorrection ADMIN (0054,1102): the image is corrected to the administration",
    "NONE": "DecayCorrection NONE (0054,1102): corrected here per slice from AcquisitionTime and frame "
    "duration",
    "GML": "Units GML (0054,1001): the stored value is the SUV named by SUVType (0054,1006)",
    "CM2ML": "Units CM2ML (0054,1001): the stored value is SUVbsa",
    "PHILIPS_SSF": "Philips SUV scale factor (7053,xx00): SUVbw = counts x factor",
}
# Pairs that come from different fields of the header; when they agree with the choice, nobody needs to be
# asked.
_INDEPENDENT = [
    {"ST", "BACK"},
    {"ST", "AT_MIN"},
    {"PRIVATE", "ST"},
    {"PRIVATE", "BACK"},
    {"PRIVATE", "AT_MIN"},
]
# What must be one value in a series, whether its SUV needs it or not: anything else mixes series.
_ONE_PER_SERIES = (
    "Units",
    "SUVType",
    "DecayCorrection",
    "CorrectedImage",
    "Manufacturer",
    "PatientWeight",
    "PatientSize",
    "PatientSex",
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadionuclideCodeValue",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
    "PhilipsSUVScaleFactor",
    "PhilipsActivityConcentrationScaleFactor",
    "DecayCorrected",
)

# Half-lives in s (NNDC/DDEP; F-18, Ga-68, C-11, N-13 as scanners write them) with SRT and SCT codes of CID
# 4020.
NUCLIDES: dict[str, tuple[float, tuple[str, ...]]] = {
    "C-11": (1223.0, ("C-105A1", "40565003")),
    "N-13": (598.0, ("C-107A1", "21576001")),
    "O-15": (122.24, ("C-B1038", "129504001")),
    "F-18": (6586.2, ("C-111A1", "77004003")),
    "Sc-44": (14_551.2, ("126600",)),
    "Cu-62": (580.4, ("C-127A5", "422934004")),
    "Cu-64": (45_723.6, ("C-127A2", "3932008")),
    "Ga-66": (34_164.0, ("C-131A1", "79477007")),
    "Ga-68": (4057.7, ("C-131A3", "35337001")),
    "Ge-68": (23_400_000.0, ("C-128A2", "53315004")),
    "Br-76": (58_320.0, ("C-113A2", "79523006")),
    "Rb-82": (75.45, ("C-159A2", "79197006")),
    "Y-86": (53_064.0, ("C-162A3", "10738001")),
    "Zr-89": (282_276.0, ("C-168A4", "63360001")),
    "Y-90": (230_580.0, ("C-162A7", "14691008")),
    "I-124": (360_806.4, ("C-114A5", "40937006")),
    "Lu-177": (574_300.8, ("C-101ED", "447553000")),
}
_ELEMENT_NAMES = {
    "carbon": "C",
    "nitrogen": "N",
    "oxygen": "O",
    "fluorine": "F",
    "fluor": "F",
    "scandium": "Sc",
    "copper": "Cu",
    "gallium": "Ga",
    "germanium": "Ge",
    "bromine": "Br",
    "rubidium": "Rb",
    "yttrium": "Y",
    "zirconium": "Zr",
    "iodine": "I",
    "lutetium": "Lu",
}


# ---------------------------------------------------------------------------------------- the decision


@dataclass(frozen=True)
class SUVDecision:
    """How stored values become SUV, and why.

    `factor`: SUV per stored (rescaled) unit; the mean over the slices where `factor_per_slice` is given.
    `type`: "SUVbw" and so on. `rule`: name of the rule; `source`: the tags it rests on. `reference_time`: ISO
    time the activity is corrected to, where one was needed (a time of day alone where the header has no
    dates). `candidates`: every reference time found, as dicts with `rule`, `time`, `difference_percent` (of
    the SUV, against the choice), `plausible`, `note`. `notices`: what was fixed or assumed. `warnings`: what
    may change the numbers. `facts`: what the decision rests on.
    """

    factor: float
    type: str = "SUVbw"
    rule: str = "declared"
    source: str = ""
    factor_per_slice: tuple[float, ...] | None = None
    reference_time: str | None = None
    candidates: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "factor": self.factor,
            "type": self.type,
            "rule": self.rule,
            "source": self.source,
            "factor_per_slice": None if self.factor_per_slice is None else list(self.factor_per_slice),
            "reference_time": self.reference_time,
            "candidates": [dict(c) for c in self.candidates],
            "notices": list(self.notices),
            "warnings": list(self.warnings),
            "facts": dict(self.facts),
        }


def suv_type_name(text: str) -> str:
    """The key of SUV_TYPES that `text` means ("bw", "SUVbw", "LBMJANMA"...); InputError for any other."""
    name = str(text).strip().lower()
    name = name.removeprefix("suv")
    if name not in SUV_TYPES:
        raise InputError(f"SUV type {_shown(text)} is unknown: use one of {', '.join(SUV_TYPES)}")
    return name


# ---------------------------------------------------------------------------------------- times and dates

_EPOCH = datetime(1900, 1, 1)
_DAY = 86_400.0
_TM = re.compile(r"(\d\d):?(?:(\d\d):?(?:(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DT = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?([+-]\d{4})?", re.ASCII)


def parse_time(text: Any) -> float | None:
    """Seconds of the day of a DICOM TM: HH, HHMM, HHMMSS or HHMMSS.F to .FFFFFF, blank-padded, also HH:MM:SS.

    None where empty; ValueError where it is no time of day. Second 60 is the next minute's 0.
    """
    text = _text(text)
    if not text:
        return None
    match = _TM.fullmatch(text)
    if match is None:
        raise ValueError("not a time of day")
    return _seconds_of_day(*match.groups())


def parse_date(text: Any) -> float | None:
    """Seconds from 1900-01-01 to the start of a DICOM DA (YYYYMMDD, also YYYY.MM.DD).

    None where empty; ValueError where it is no date.
    """
    text = _text(text)
    if not text:
        return None
    match = re.fullmatch(r"(\d{4})([.-]?)(\d\d)\2(\d\d)", text, re.ASCII)
    if match is None:
        raise ValueError("not a date")
    return _seconds_of_date(match[1], match[3], match[4])


def parse_datetime(text: Any) -> tuple[float, float | None] | None:
    """(seconds from 1900-01-01 by the written clock, offset from UTC in s or None) of a DICOM DT.

    None where empty; ValueError where it is no DT, or a date without an hour.
    """
    text = _text(text)
    if not text:
        return None
    match = _DT.fullmatch(text)
    if match is None:
        raise ValueError("not a date and time")
    seconds = _seconds_of_date(*match.groups()[:3]) + _seconds_of_day(*match.groups()[3:7])
    return seconds, parse_offset(match[8])


def parse_offset(text: Any) -> float | None:
    """Seconds east of UTC of a DICOM time zone offset (+ZZXX or -ZZXX); None where empty; ValueError."""
    text = _text(text)
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
        return float((date(int(year), int(month), int(day)) - _EPOCH.date()).days) * _DAY
    except ValueError:
        raise ValueError("not a date") from None


def _nearest_day(time_of_day: float, anchor: float) -> float:
    """The moment with this time of day that lies nearest to `anchor`."""
    return time_of_day + _DAY * math.floor((anchor - time_of_day) / _DAY + 0.5)


def _iso(seconds: float | None, dated: bool) -> str | None:
    if seconds is None or not math.isfinite(seconds):
        return None
    try:
        moment = _EPOCH + timedelta(seconds=round(seconds, 6))
    except OverflowError:
        return None
    return moment.isoformat() if dated else moment.time().isoformat()


def _zone(offset: float) -> str:
    """An offset from UTC as DICOM writes it."""
    minutes = round(abs(offset) / 60.0)
    return f"{'-' if offset < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"


def _clock(seconds: float) -> str:
    """Time of day for messages: no date, which could help to identify somebody."""
    whole = round(seconds % _DAY)
    return f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


# ---------------------------------------------------------------------------------------- formulas


def mean_count_time(half_life_s: float, duration_s: float) -> float:
    """Seconds into a frame at which the activity equals its mean there: ln(lT / (1 - exp(-lT))) / l."""
    decay = math.log(2.0) / half_life_s
    x = decay * duration_s
    if x < 1e-6:
        return duration_s / 2.0
    return math.log(x / -math.expm1(-x)) / decay


def in_frame_term(half_life_s: float, duration_s: float) -> float:
    """Activity at the start of a frame over its mean in the frame: lT / (1 - exp(-lT))."""
    x = math.log(2.0) / half_life_s * duration_s
    return x / -math.expm1(-x) if x > 1e-9 else 1.0


def body_norm(kind: str, weight_kg: float | None, height_m: float | None, sex: str | None) -> float:
    """What SUV of this type multiplies activity per dose with: g (cm2 for "bsa").

    Sex O takes the mean of the male and the female value. InputError with the tag where a fact is missing or
    the formula gives nothing positive.
    """
    name = SUV_TYPES[kind][0]
    if kind != "ibw" and weight_kg is None:
        raise refused("PatientWeight", f"is missing or zero but {name} needs it", "write the weight in kg")
    if kind == "bw":
        return weight_kg * 1000.0
    if height_m is None:
        raise refused("PatientSize", f"is missing but {name} needs it", "write the height in m or use SUVbw")
    height_cm = height_m * 100.0
    if kind == "bsa":
        return 0.007184 * weight_kg**0.425 * height_cm**0.725 * 1e4
    if sex not in ("M", "F", "O"):
        raise refused("PatientSex", f"is not M, F or O but {name} needs it", "correct it or use SUVbw")
    if sex == "O":
        return (body_norm(kind, weight_kg, height_m, "M") + body_norm(kind, weight_kg, height_m, "F")) / 2.0
    male = sex == "M"
    if kind == "ibw":
        mass = 48.0 + 1.06 * (height_cm - 152.0) if male else 45.5 + 0.91 * (height_cm - 152.0)
    elif kind == "lbmjanma":
        bmi = weight_kg / height_m**2
        mass = 9270.0 * weight_kg / (6680.0 + 216.0 * bmi if male else 8780.0 + 244.0 * bmi)
    else:
        slope = 120.0 if kind == "lbm" else 128.0
        ratio = (weight_kg / height_cm) ** 2
        mass = 1.10 * weight_kg - slope * ratio if male else 1.07 * weight_kg - 148.0 * ratio
    if not mass > 0:
        raise InputError(
            f"{name} is not defined for {_named('PatientSize')} {height_m:g} m and {_named('PatientWeight')} "
            f"{weight_kg or math.nan:g} kg: its formula gives {mass:.3g} kg; correct the header or use SUVbw"
        )
    return mass * 1000.0


def _exp2(exponent: float) -> float:
    if exponent > 1000.0:
        return math.inf
    return 2.0**exponent if exponent > -1000.0 else 0.0


def _percent(seconds: float, half_life_s: float) -> float:
    """Change of the SUV in percent when the reference time moves by `seconds`; infinite beyond sense."""
    exponent = seconds / half_life_s
    return (_exp2(exponent) - 1.0) * 100.0 if abs(exponent) < 60.0 else math.copysign(math.inf, exponent)


def _by(percent: float) -> str:
    return f"by {percent:+.1f} %" if math.isfinite(percent) else "out of all proportion"


# ---------------------------------------------------------------------------------------- header values


def _text(value: Any) -> str:
    """A header value as one stripped string; the only item of a list; "" where absent."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            return "\\".join(_text(v) for v in value)
        return _text(value[0])
    return str(value).strip(" \t\r\n\0")


def _line(value: Any) -> str:
    """A text from a file as one printable line."""
    return "".join(c if c.isprintable() else " " for c in str(value))[:500]


def _number(value: Any) -> float | None:
    """A header value as a finite number; None where it is absent or no such number."""
    if isinstance(value, bool):
        return None
    text = _text(value)
    # Python takes "1_000", "infinity" and digits of other scripts for numbers; DICOM does not.
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _named(key: str) -> str:
    return f"{key} {TAGS[key]}"


def refused(key: str, problem: str, mend: str) -> InputError:
    """The refusal of a header: the tag, what is wrong with it, how to mend it."""
    return InputError(f"{_named(key)} {problem}: {mend}")


def _shown(value: Any) -> str:
    """A header value for a message: one short printable line."""
    text = "".join(c if c.isprintable() else "?" for c in _text(value))
    return "'" + (text if len(text) <= 40 else text[:37] + "...") + "'"


class _Header:
    """Reads the slices' mappings; what must be one value for the whole series is refused where it is not."""

    def __init__(self, slices: Sequence[Mapping[str, Any]], accept_clock: bool = False):
        self.slices = slices
        self.accept_clock = accept_clock  # a moment whose zone is unknown is read by its written clock
        self.notices: list[str] = []
        self.warnings: list[str] = []

    def one(self, key: str) -> Any:
        """The value that all slices share."""
        values = [s.get(key) for s in self.slices]
        first = _key(values[0])
        for value in values:
            if _key(value) != first:
                differ = f"differs between the slices ({_shown(values[0])}, {_shown(value)})"
                raise refused(key, differ, "keep one series per folder, or correct the header")
        return values[0]

    def text(self, key: str) -> str:
        return _text(self.one(key))

    def positive(self, key: str) -> float | None:
        """The shared number; None where it is absent, empty or zero; refused where it is nonsense."""
        value = self.one(key)
        if not _text(value):
            return None
        number = _number(value)
        if number is None or number < 0:
            raise refused(key, f"is {_shown(value)}, no positive number", "correct the header")
        return number or None

    def time(self, key: str, parse: Callable[[Any], Any]) -> Any:
        """The shared time, date or moment; None with a notice where it cannot be read."""
        return self._parsed(key, self.one(key), parse)

    def times(self, key: str, parse: Callable[[Any], Any]) -> list[Any]:
        """One per slice."""
        return [self._parsed(key, s.get(key), parse) for s in self.slices]

    def _parsed(self, key: str, value: Any, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            self.notices.append(f"{_named(key)} {_shown(value)} is {error}: not used")
            return None


def number_of(value: Any) -> float | None:
    """A value from a header or a side-car as a finite number; None where it is absent or no such number."""
    return _number(value)


def _key(value: Any) -> Any:
    """What two values must share to be the same: the number where they are numbers, else the text."""
    number = _number(value)
    return _text(value) if number is None else number


# ---------------------------------------------------------------------------------------- patient and dose


def _weight(header: _Header) -> float | None:
    weight = header.positive("PatientWeight")
    if weight is None:
        return None
    if weight > 1000.0:
        header.notices.append(f"{_named('PatientWeight')} {weight:g} taken as grams: {weight / 1000.0:g} kg")
        weight /= 1000.0
    if not 1.0 <= weight <= 1000.0:
        raise refused("PatientWeight", f"is {weight:g} kg, which no patient has", "write the weight in kg")
    if weight > 300.0:
        header.warnings.append(f"{_named('PatientWeight')} {weight:g} kg is unusual: check it")
    return weight


def _height(header: _Header) -> float | None:
    height = header.positive("PatientSize")
    if height is None:
        return None
    if height > 3.0:
        header.notices.append(f"{_named('PatientSize')} {height:g} taken as cm: {height / 100.0:g} m")
        height /= 100.0
    if not 0.2 <= height <= 3.0:
        raise refused("PatientSize", f"is {height:g} m, which no patient has", "write the height in m")
    return height


def _patient(header: _Header, needed: set[str]) -> tuple[float | None, float | None, str | None]:
    """Weight, height and sex; nonsense that none of the SUV types `needed` uses is told, not refused."""

    def read(function: Callable[[_Header], float | None], used: bool) -> float | None:
        try:
            return function(header)
        except InputError as error:
            if used:
                raise
            header.notices.append(f"{str(error).split(':')[0]}: not needed, ignored")
            return None

    sex = header.text("PatientSex").upper()
    return read(_weight, bool(needed - {"ibw"})), read(_height, bool(needed - {"bw"})), sex or None


def _dose(header: _Header) -> float:
    dose = header.positive("RadionuclideTotalDose")
    if dose is None:
        raise refused("RadionuclideTotalDose", "is missing or zero", "write the injected dose in Bq")
    return _fixed_dose(dose, _named("RadionuclideTotalDose"), header.notices, header.warnings)


def _fixed_dose(dose: float, name: str, notices: list[str], warnings: list[str]) -> float:
    """The dose in Bq: below 1e4 it must have been MBq, which is told; what is still unusual is warned of."""
    if dose < 1e4:
        notices.append(f"{name} {dose:g} taken as MBq")
        dose *= 1e6
    if not 1e6 <= dose <= 2e10:
        warnings.append(f"{name} {dose / 1e6:g} MBq is unusual: check its unit, the SUV depends on it")
    return dose


def nuclide_of(code: str, meaning: str) -> str | None:
    """The nuclide ("F-18") that a code value and meaning name; None where unknown or they disagree."""
    named = nuclides_named(code, meaning)
    return named.pop() if len(named) == 1 else None


def nuclides_named(code: str, meaning: str) -> set[str]:
    """The nuclides that a code value and a text name, in any of the usual spellings ("F-18", "18F", "^18^Fluorine")."""
    named = {name for name, (_, codes) in NUCLIDES.items() if code.strip() in codes}
    mass = re.search(r"\d{2,3}", meaning)
    for word in re.findall(r"[a-z]+", meaning.lower()) if mass else ():
        name = f"{_ELEMENT_NAMES.get(word, word.capitalize())}-{mass[0]}"
        if name in NUCLIDES:
            named.add(name)
    return named


def _half_life(header: _Header) -> tuple[float, str | None]:
    """The half-life in s, from the header or from the coded nuclide, and the nuclide."""
    named = nuclides_named(header.text("RadionuclideCodeValue"), header.text("RadionuclideCodeMeaning"))
    stated = header.positive("RadionuclideHalfLife")
    if stated is None:
        if len(named) != 1:
            problem = f"is missing or zero and the nuclide {TAGS['RadionuclideCodeValue']} is not a known one"
            raise refused("RadionuclideHalfLife", problem, "write the half-life in s")
        nuclide = named.pop()
        half_life = NUCLIDES[nuclide][0]
        header.notices.append(
            f"{_named('RadionuclideHalfLife')} is missing: {half_life:g} s of {nuclide} used"
        )
        return half_life, nuclide
    if not HALF_LIFE_RANGE_S[0] <= stated <= HALF_LIFE_RANGE_S[1]:
        raise refused(
            "RadionuclideHalfLife", f"is {stated:g} s, which no tracer has", "write the half-life in s"
        )
    if not named:
        return stated, None
    nuclide = min(named, key=lambda n: abs(math.log(stated / NUCLIDES[n][0])))
    known = NUCLIDES[nuclide][0]
    if len(named) > 1:
        header.notices.append(
            f"{_named('RadionuclideCodeValue')}: code and meaning name {' and '.join(sorted(named))}; "
            f"the stated half-life {stated:g} s is used"
        )
    if not 0.5 <= stated / known <= 2.0:
        problem = f"{stated:g} s contradicts {nuclide} ({known:g} s) of {_named('RadionuclideCodeValue')}"
        raise refused("RadionuclideHalfLife", problem, "correct one of them; the half-life is in s")
    if abs(stated / known - 1.0) > 0.01:
        header.warnings.append(
            f"{_named('RadionuclideHalfLife')} {stated:g} s differs from {nuclide} ({known:g} s) by "
            f"{100.0 * (stated / known - 1.0):+.1f} %: the header's value is used"
        )
    return stated, nuclide


# ---------------------------------------------------------------------------------------- clocks


class _Clocks:
    """The times of a series in s by the scanner's clock, from 1900-01-01, or a nominal day without dates.

    `series` SeriesDate and SeriesTime; `acquisitions` one per slice, None where a slice has none; `earliest`
    the first of them, None unless every slice has one; `dated` whether the days mean anything; `reference`
    FrameReferenceTime and `duration` ActualFrameDuration per slice in s.
    """

    def __init__(self, header: _Header):
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
        days += [m - m % _DAY for m in moments if m is not None]
        self.dated = bool(days)
        anchor = days[0] if days else 0.0
        anchor += next((t for t in (series_time, *times) if t is not None), 0.0)

        def moment_of(day: float | None, time: float | None, moment: float | None) -> float | None:
            if time is not None and day is not None:
                return day + time
            if moment is not None or time is None:
                return moment
            return _nearest_day(time, anchor)

        self.acquisitions = [moment_of(*item) for item in zip(dates, times, moments, strict=True)]
        known = [t for t in self.acquisitions if t is not None]
        self.earliest = min(known) if len(known) == len(self.acquisitions) else None
        self.span = max(known) - min(known) if known else 0.0
        self.series: float | None = None
        if series_time is not None:
            near = min(known) if known else anchor
            self.series = (
                _nearest_day(series_time, near) if series_date is None else series_date + series_time
            )
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
    def _note_missing(header: _Header, key: str) -> None:
        header.notices.append(f"{_named(key)} is missing: the nearest day is taken")

    @staticmethod
    def _seconds(header: _Header, key: str) -> list[float | None]:
        values = [_number(s.get(key)) for s in header.slices]
        return [None if v is None or abs(v) > 1e12 else v / 1000.0 for v in values]

    @staticmethod
    def _offset_of_acquisitions(
        moments: Sequence[tuple[float, float | None] | None], times: Sequence[float | None]
    ) -> float | None:
        """The offset from UTC that AcquisitionDateTime states on all slices, by the clock of AcquisitionTime."""
        offsets = {None if m is None else m[1] for m in moments}
        same_clock = all(
            t is None or (m is not None and abs(m[0] - _nearest_day(t, m[0])) <= SAME_TIME_S)
            for m, t in zip(moments, times, strict=True)
        )
        return offsets.pop() if len(offsets) == 1 and same_clock else None

    def local(self, moment: tuple[float, float | None] | None) -> float | None:
        """A DT on the series' clock: shifted only where both state their offset from UTC."""
        if moment is None:
            return None
        seconds, offset = moment
        return seconds if offset is None or self.offset is None else seconds - offset + self.offset

    def cannot_place(self, moment: tuple[float, float | None] | None) -> bool:
        """Whether a DT states its offset from UTC and the series does not."""
        return moment is not None and moment[1] is not None and self.offset is None

    def near(self) -> float | None:
        return self.earliest if self.earliest is not None else self.series

    def iso(self, seconds: float) -> str | None:
        return _iso(seconds, self.dated)


class _Administration:
    """When the dose was given: two tags, dates that may be wrong, midnight."""

    def __init__(self, header: _Header, clocks: _Clocks, half_life: float):
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
                problem = f"and {_named('RadiopharmaceuticalStartTime')} are both missing"
                raise refused(self.key, problem, "write the time of injection into the header")
            self.moment, self.key = private, "GEAdministrationDateTime"
            self._place(header, clocks, written)
            header.notices.append(f"time of injection taken from the private {_named(self.key)}")
        if self.moment is None:
            self.key = "RadiopharmaceuticalStartTime"
        elif self.time_of_day is None:
            self.time_of_day = self.moment % _DAY
        else:
            self._compare(header)

    def _place(self, header: _Header, clocks: _Clocks, moment: tuple[float, float | None] | None) -> None:
        """Places a moment with an offset from UTC on the series' clock, or says that it cannot be.

        RadiopharmaceuticalStartTime has no offset: it is on the series' clock, and tells its offset.
        """
        if not clocks.cannot_place(moment):
            return
        seconds, offset = moment
        if self.time_of_day is not None:
            apart = _nearest_day(self.time_of_day, seconds) - seconds
            zone = offset + 900.0 * round(apart / 900.0)
            if abs(offset + apart - zone) <= SAME_TIME_S and -43_200.0 <= zone <= 50_400.0:
                clocks.offset = zone
                if zone != offset:
                    header.notices.append(
                        f"{_named(self.key)} {_clock(seconds)} {_zone(offset)} is "
                        f"{_named('RadiopharmaceuticalStartTime')} {_clock(self.time_of_day)} on a scanner at "
                        f"{_zone(zone)}"
                    )
            return  # else the two contradict each other, which is told or refused
        effect = _percent(3600.0, self.half_life)
        problem = (
            f"{_clock(seconds)} {_zone(offset)} states its offset from UTC and the series does not "
            f"({_named('TimezoneOffsetFromUTC')} is missing): it cannot be placed on the scanner's clock, and "
            f"an hour is {effect:.3g} % of the SUV"
        )
        if effect > CONFIRM_PERCENT and not header.accept_clock:
            mend = (
                "give the scanner's time without offset (--header RadiopharmaceuticalStartDateTime=...), or take "
                "the written clock with --accept-suv CLOCK"
            )
            raise refused(self.key, problem, mend)
        header.warnings.append(f"{_named(self.key)} {problem}: the written clock is used")

    def _compare(self, header: _Header) -> None:
        apart = self.moment - _nearest_day(self.time_of_day, self.moment)
        if abs(apart) <= SAME_TIME_S:
            return
        effect = _percent(abs(apart), self.half_life)
        problem = (
            f"{_clock(self.moment)} and {_named('RadiopharmaceuticalStartTime')} {_clock(self.time_of_day)} "
            f"differ, {effect:.3g} % of the SUV"
        )
        if effect > CONFIRM_PERCENT:
            raise refused(self.key, problem, "remove the wrong one (is it a time zone or summer time?)")
        header.warnings.append(f"{_named(self.key)} {problem}: the first is used")
        self.time_of_day = self.moment % _DAY

    def before(self, reference: float) -> tuple[float, list[str]]:
        """(administration, notices) on the clock of `reference`; InputError where it cannot be known."""
        notices = []
        if self.moment is not None and self.dated:
            uptake = reference - self.moment
            if -BEFORE_ADMINISTRATION_S <= uptake < self._longest_dated():
                return self.moment, self._midnight(self.moment, reference)
        if self.half_life >= LONG_LIVED_HALF_LIFE_S:
            problem = (
                f"gives no date within ten half-lives before the reference time {_clock(reference)}, and the "
                f"nuclide is long-lived ({self.half_life:g} s)"
            )
            raise refused("RadiopharmaceuticalStartDateTime", problem, "correct the dates in the header")
        uptake = (reference - self.time_of_day + BEFORE_ADMINISTRATION_S) % _DAY - BEFORE_ADMINISTRATION_S
        if uptake >= REBUILT_UPTAKE_LIMIT_S:
            problem = (
                f"{_clock(self.time_of_day)} is not within 6 h before the reference time {_clock(reference)}"
            )
            raise refused(self.key, problem, "correct the time of injection or of the scan in the header")
        rebuilt = reference - uptake
        if self.moment is not None and abs(rebuilt - self.moment) > SAME_TIME_S:
            notices.append(
                f"{_named(self.key)} is not on the day of the scan: its time of day alone is used, uptake "
                f"{uptake / 60.0:.1f} min"
            )
        return rebuilt, notices + self._midnight(rebuilt, reference)

    def _longest_dated(self) -> float:
        """Uptake [s] up to which complete dates are trusted.

        Of a short-lived nuclide less than 23 h: there a time of day alone says the same, and a date that lies a
        day off is the work of an anonymizer.
        """
        longest = DATED_UPTAKE_HALF_LIVES * self.half_life
        if self.half_life >= LONG_LIVED_HALF_LIFE_S:
            return longest
        return min(longest, _DAY - BEFORE_ADMINISTRATION_S)

    @staticmethod
    def _midnight(administration: float, reference: float) -> list[str]:
        if math.floor(administration / _DAY) == math.floor(reference / _DAY):
            return []
        span = f"between the injection {_clock(administration)} and the reference {_clock(reference)}"
        return [f"midnight lies {span}: uptake {(reference - administration) / 60.0:.1f} min"]


# ---------------------------------------------------------------------------------------- reference time

_NO_UPTAKE = "no possible uptake time"
_UNVERIFIED = "unverified: a single FrameReferenceTime that exceeds the frame"


@dataclass
class _Candidate:
    rule: str
    time: float
    plausible: bool
    note: str = ""

    def __str__(self) -> str:
        return f"{self.rule} {_clock(self.time)}" + (f" ({self.note})" if self.note else "")


def _complete(header: _Header) -> bool | None:
    """Whether all slices of the series are here; None where the header does not say."""
    announced = _number(header.slices[0].get("NumberOfSlices"))
    return None if not announced else len(header.slices) == int(announced)


class _ReferenceTime:
    """The moment to which an image with DecayCorrection START is corrected: candidates and choice."""

    def __init__(self, header: _Header, clocks: _Clocks, administration: _Administration):
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
        # In Enhanced PET this element is the reference time by definition (DICOM PS3.3 C.8.22.6); in a classic
        # header it is a stranger, worth a comparison.
        self.defined = header.text("DecayCorrected").upper() == "YES"
        written = header.time("DecayCorrectionDateTime", parse_datetime)
        stated = clocks.local(written)
        if stated is not None and clocks.dated:
            self._add("DCDT", stated, *self._placed(written))
        elif self.defined:
            header.notices.append(
                f"{_named('DecayCorrectionDateTime')} is missing: the reference time is that of a classic series"
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
        """Whether a moment can be a reference time by its offset from UTC, and why not."""
        if not self.clocks.cannot_place(moment) or self.header.accept_clock:
            return True, ""
        clock = (self.clocks.series, self.clocks.earliest)
        if any(t is not None and abs(moment[0] - t) <= SAME_TIME_S for t in clock):
            return True, ""
        if _percent(3600.0, self.half_life) <= CONFIRM_PERCENT:
            self.header.warnings.append(
                f"a reference time states its offset from UTC {_zone(moment[1])} and the series does not "
                f"({_named('TimezoneOffsetFromUTC')} is missing): the written clock is used"
            )
            return True, ""
        return False, "its offset from UTC cannot be placed on the scanner's clock"

    def _private(self) -> None:
        for key in ("GEScanDateTime", "SiemensDecayCorrectionDateTime"):
            written = self.header.times(key, parse_datetime)
            times = {self.clocks.local(t) for t in written} - {None}
            if len(times) > 1:
                self.header.warnings.append(f"private {_named(key)} differs between the slices: not used")
            elif times:
                time = times.pop()
                if not self.clocks.dated:
                    time = _nearest_day(time % _DAY, self.clocks.near() or 0.0)
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
        reference, duration = clocks.reference, clocks.duration
        if clocks.earliest is None or None in reference or any(d is None or d <= 0 for d in duration):
            return
        starts = [t - r for t, r in zip(clocks.acquisitions, reference, strict=True)]
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
        """The time at which both Philips factors give the same SUVbw: the vendor's own answer."""
        counts_to_suv, counts_to_bq = (
            _number(self.header.one(key))
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
        """The preferred reference time, or the accepted one; SUVRefusedError where it stays open."""
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
            why = f"by {_named('DecayFactor')} {_named('FrameReferenceTime')} is the start of the frame"
            return self._instead_of_series_time(start, f"{why}, which is taken off the acquisition")
        back, earliest = self.found.get("BACK"), self.found.get("AT_MIN")
        if back is not None and back.plausible:
            return self._instead_of_series_time(back, "it is computed back from the frames")
        if earliest is not None and earliest.plausible and _complete(self.header):
            # A back-computed time that merely could not be verified may still be the right one.
            apart = 0.0
            if back is not None and back.note == _UNVERIFIED:
                apart = abs(_percent(back.time - earliest.time, self.half_life))
            if apart <= WARN_PERCENT:
                return self._instead_of_series_time(earliest, "the earliest acquisition is taken")
        for candidate in self.found.values():
            if candidate.note == _NO_UPTAKE:
                self.administration.before(candidate.time)  # raises, naming the tag of the injection
        tags = f"{_named('SeriesTime')}, {_named('AcquisitionTime')} and {_named('FrameReferenceTime')}"
        if not self.found:
            raise InputError(
                f"{tags} give no reference time for {_named('DecayCorrection')} START: restore them in the "
                "header"
            )
        raise InputError(
            f"{tags} leave the reference time of {_named('DecayCorrection')} START open: "
            f"{', '.join(map(str, self.found.values()))}; name the right one with --accept-suv RULE, or "
            "correct the header"
        )

    def _instead_of_series_time(self, candidate: _Candidate, what: str) -> _Candidate:
        why = self.found["ST"].note if "ST" in self.found else "missing"
        self.header.notices.append(f"{_named('SeriesTime')} is not the reference time ({why}): {what}")
        return candidate

    def _weigh(self, chosen: _Candidate, accept: str | None) -> None:
        """Warns of a choice that another plausible time contradicts; refuses it where nothing supports it."""
        changes = {
            c.rule: _percent(c.time - chosen.time, self.half_life)
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
        line = f"reference time {chosen.rule} {_clock(chosen.time)}, but " + ", ".join(
            f"{rule} {_clock(self.found[rule].time)} would change the SUV {_by(percent)}"
            for rule, percent in rivals.items()
        )
        defined = (self.defined and chosen.rule == "DCDT") or (
            self.frame_start and chosen.rule == "GE_AT_FRT"
        )
        if agreed or defined or accept == chosen.rule or max(map(abs, rivals.values())) <= CONFIRM_PERCENT:
            self.header.warnings.append(line)
            return
        raise refused("SeriesTime", f"and the other times contradict each other: {line}", _NAME_THE_RULE)

    def candidates(self, chosen: _Candidate | None) -> list[dict[str, Any]]:
        """Every candidate as plain values, with its effect on the SUV where one is chosen."""
        rows = []
        for c in self.found.values():
            percent = math.nan if chosen is None else _percent(c.time - chosen.time, self.half_life)
            shown = round(percent, 4) if math.isfinite(percent) else None
            row = {"rule": c.rule, "time": self.clocks.iso(c.time), "difference_percent": shown}
            rows.append({**row, "plausible": c.plausible, "note": c.note})
        return rows


_NAME_THE_RULE = "find out which is right and name it with --accept-suv RULE, or correct the header"


def _frame_reference_is_start(header: _Header, clocks: _Clocks, half_life: float) -> bool:
    """Whether DecayFactor says on all slices that FrameReferenceTime is the start of the frame (GE).

    It is then 2^(FRT/T) times the in-frame term. Where that term is too near to 1 to tell, it says nothing.
    """
    told = False
    for s, frame, duration in zip(header.slices, clocks.reference, clocks.duration, strict=True):
        stated = _number(s.get("DecayFactor"))
        if stated is None or frame is None or not duration or duration <= 0:
            return False
        expected, term = _exp2(frame / half_life), in_frame_term(half_life, duration)
        if not 0.0 < expected < math.inf or abs(stated / (expected * term) - 1.0) > DECAY_FACTOR_TOLERANCE:
            return False
        told = told or term - 1.0 > 2.0 * DECAY_FACTOR_TOLERANCE
    return told


def _check_decay_factor(header: _Header, clocks: _Clocks, half_life: float) -> None:
    """DecayFactor is 2^(FRT/T) (Siemens) or that times the in-frame term (GE); anything else is warned of."""
    for s, frame, duration in zip(header.slices, clocks.reference, clocks.duration, strict=True):
        stated = _number(s.get("DecayFactor"))
        expected = _exp2(frame / half_life) if frame is not None else 0.0
        if stated is None or not 0.0 < expected < math.inf:
            continue
        in_frame = expected * in_frame_term(half_life, max(duration or 0.0, 0.0))
        if min(abs(stated / expected - 1.0), abs(stated / in_frame - 1.0)) > DECAY_FACTOR_TOLERANCE:
            header.warnings.append(
                f"{_named('DecayFactor')} {stated:g} fits {_named('FrameReferenceTime')} neither as "
                f"{expected:.5f} nor as {in_frame:.5f}: it is not used here"
            )
            return


# ---------------------------------------------------------------------------------------- the rules


def decide(
    slices: Sequence[Mapping[str, Any]],
    *,
    suv_type: str = "bw",
    accept_rule: str | None = None,
    accept_clock: bool = False,
    synonyms: Mapping[str, str] | None = None,
) -> SUVDecision:
    """Decides how the stored (rescaled) values of one PET series become SUV.

    `slices`: one mapping per slice from DICOM keyword to plain value (str, number, list, None). What the
    RadiopharmaceuticalInformationSequence holds lies flat beside the rest, with `RadiopharmaceuticalItems`
    (how many), `RadionuclideCodeValue` and `RadionuclideCodeMeaning`; private elements are named
    `GEScanDateTime`, `GEAdministrationDateTime`, `SiemensDecayCorrectionDateTime`, `PhilipsSUVScaleFactor`
    and `PhilipsActivityConcentrationScaleFactor`; `PrivateWithoutCreator` lists those found in block 10
    without a creator. `DecayCorrected` YES, which only Enhanced PET has, makes DecayCorrectionDateTime the
    reference time. `suv_type`: a key of SUV_TYPES. `accept_rule`: the rule to follow where the header leaves
    the time open. `accept_clock`: a time with an offset from UTC that cannot be placed on the scanner's clock is
    read as written. `synonyms`: what messages call an element ("Units (0054,1001)") that this image says by
    another.

    Raises SUVRefusedError, naming the tag and the mend, where the SUV cannot be known.
    """

    def renamed(text: str) -> str:
        for name, other in (synonyms or {}).items():
            text = text.replace(name, other)
        return text

    try:
        decision = _decide(slices, suv_type, accept_rule, accept_clock)
    except InputError as error:
        raise SUVRefusedError(renamed(str(error)), getattr(error, "candidates", ())) from None
    return replace(
        decision,
        source=renamed(decision.source),
        notices=[renamed(text) for text in decision.notices],
        warnings=[renamed(text) for text in decision.warnings],
    )


def _decide(
    slices: Sequence[Mapping[str, Any]], suv_type: str, accept_rule: str | None, accept_clock: bool
) -> SUVDecision:
    if not slices:
        raise InputError("the series has no slices: choose a folder with a PET series")
    kind = suv_type_name(suv_type)
    accept = (accept_rule or "").strip().upper() or None
    if accept is not None and accept not in (*TIME_RULES, "NONE"):
        raise InputError(
            f"rule {_shown(accept)} is unknown: accept one of {', '.join((*TIME_RULES, 'NONE'))}"
        )
    header = _Header(slices, accept_clock)
    _check_series(header)
    units = header.text("Units").upper()
    stored = _stored_suv_type(header, units)
    philips = _philips_suv_factor(header) if units == "CNTS" else None
    own = stored or ("bw" if philips is not None else None)  # the SUV type that needs no dose
    needed = {kind} if own is None else {kind, own} if own != kind else set()
    weight, height, sex = _patient(header, needed)
    facts: dict[str, Any] = {
        "units": units,
        "stored_suv_type": None if stored is None else SUV_TYPES[stored][0],
        "suv_formula": SUV_TYPES[kind][2],
        "decay_correction": header.text("DecayCorrection").upper(),
        "corrected_image": _corrections(header),
        "weight_kg": weight,
        "height_m": height,
        "sex": sex,
        "dose_bq": None,
        "half_life_s": None,
        "nuclide": None,
        "tracer": header.text("Radiopharmaceutical") or None,
        "administration_time": None,
        "uptake_minutes": None,
        "manufacturer": header.text("Manufacturer") or None,
    }

    def norm(name: str) -> float:
        if sex == "O" and name not in ("bw", "bsa"):
            header.notices.append(
                f"{_named('PatientSex')} O: mean of the male and female {SUV_TYPES[name][0]}"
            )
        return body_norm(name, weight, height, sex)

    if own is not None:
        factor = (philips or 1.0) * (norm(kind) / norm(own) if own != kind else 1.0)
        decision = SUVDecision(factor, rule=units if stored is not None else "PHILIPS_SSF")
        _optional_facts(header, facts)
    else:
        decision = _from_activity(header, norm(kind) * _bq_per_stored(header, units), accept, facts)
    if accept is not None and accept != decision.rule:
        header.notices.append(f"rule {accept} was accepted but not needed: {decision.rule} decides")
    for key in slices[0].get("PrivateWithoutCreator") or ():
        header.notices.append(f"private {_named(key)} has no creator: block 10 is taken")
    return replace(
        decision,
        factor=_usable(decision.factor),
        type=SUV_TYPES[kind][0],
        source=_RULE_SOURCE[decision.rule],
        notices=list(dict.fromkeys(header.notices)),
        warnings=list(dict.fromkeys(header.warnings)),
        facts=facts,
    )


def _corrections(header: _Header) -> list[str]:
    return [item for item in _text(header.one("CorrectedImage")).upper().replace(" ", "").split("\\") if item]


def _check_series(header: _Header) -> None:
    """What holds for every unit: one series, one injection, attenuation- and decay-corrected, intercept 0."""
    for key in _ONE_PER_SERIES:
        header.one(key)
    for s in header.slices:
        intercept = s.get("RescaleIntercept")
        if _text(intercept) and _number(intercept) != 0:
            raise refused(
                "RescaleIntercept", f"is {_shown(intercept)}, for PET it is 0", "export the series again"
            )
    items = _number(header.one("RadiopharmaceuticalItems"))
    if items is not None and items > 1:
        raise refused("RadiopharmaceuticalItems", f"lists {items:g} injections", "keep the one of this scan")
    corrections = _corrections(header)
    shown = _shown("\\".join(corrections))
    if "ATTN" not in corrections:
        problem = f"{shown} lacks ATTN, the series is not attenuation-corrected"
        raise refused("CorrectedImage", problem, "choose the attenuation-corrected series")
    decay = header.text("DecayCorrection").upper()
    if decay not in ("START", "ADMIN", "NONE"):
        raise refused(
            "DecayCorrection", f"is {_shown(decay)}, not START, ADMIN or NONE", "restore it in the header"
        )
    if decay != "NONE" and "DECY" not in corrections:
        problem = f"{shown} lacks DECY though {_named('DecayCorrection')} is {decay}"
        raise refused("CorrectedImage", problem, "choose the decay-corrected series, or correct the header")


def _stored_suv_type(header: _Header, units: str) -> str | None:
    """The SUV type of the stored values where they are SUV already (GML, CM2ML), else None."""
    if units not in ("GML", "CM2ML"):
        return None
    text = header.text("SUVType").upper()
    if units == "CM2ML":
        if text not in ("", "BSA"):
            raise refused(
                "SUVType", f"is {_shown(text)} though {_named('Units')} is CM2ML (BSA)", "correct one of them"
            )
        return "bsa"
    if not text:
        header.notices.append(f"{_named('SUVType')} is missing: Units GML then means body weight")
        return "bw"
    if text not in _TYPE_OF_DICOM or text == "BSA":
        problem = f"is {_shown(text)} though {_named('Units')} is GML (BW, LBM, LBMJAMES128, LBMJANMA or IBW)"
        raise refused("SUVType", problem, "correct one of them")
    return _TYPE_OF_DICOM[text]


def _philips_suv_factor(header: _Header) -> float | None:
    """SUVbw per count; None where it is absent or 0, which means "not convertible"."""
    return header.positive("PhilipsSUVScaleFactor")


def _bq_per_stored(header: _Header, units: str) -> float:
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
        header.notices.append(f"counts become Bq/ml by {_named('PhilipsActivityConcentrationScaleFactor')}")
        return factor
    why = "which cannot become SUV" if units in NOT_CONVERTIBLE_UNITS else "which is not known"
    raise refused("Units", f"is {_shown(units)}, {why}", "reconstruct or export the series in Bq/ml (BQML)")


def _from_activity(header: _Header, norm: float, accept: str | None, facts: dict[str, Any]) -> SUVDecision:
    """The factor of an activity concentration; `norm` is g (cm2) times Bq/ml per stored unit."""
    decay = facts["decay_correction"]
    dose = facts["dose_bq"] = _dose(header)
    if decay == "ADMIN":
        _optional_facts(header, facts)
        return SUVDecision(norm / dose, rule="ADMIN", reference_time=facts["administration_time"])
    if decay == "NONE" and "DECY" in facts["corrected_image"]:
        problem = f"is NONE though {_named('CorrectedImage')} has DECY"
        raise refused("DecayCorrection", problem, "correct the one that is wrong")
    half_life, facts["nuclide"] = _half_life(header)
    facts["half_life_s"] = half_life
    clocks = _Clocks(header)
    administration = _Administration(header, clocks, half_life)
    if decay == "NONE":
        return _not_decay_corrected(header, norm / dose, clocks, administration, accept, facts)
    times = _ReferenceTime(header, clocks, administration)
    times.add_philips_ratio(dose, facts["weight_kg"])
    chosen = times.choose(accept)
    uptake = _uptake(header, administration, chosen.time, clocks, facts)
    _check_decay_factor(header, clocks, half_life)
    return SUVDecision(
        norm / dose * _exp2(uptake / half_life),
        rule=chosen.rule,
        reference_time=clocks.iso(chosen.time),
        candidates=times.candidates(chosen),
    )


def _not_decay_corrected(
    header: _Header,
    per_dose: float,
    clocks: _Clocks,
    administration: _Administration,
    accept: str | None,
    facts: dict[str, Any],
) -> SUVDecision:
    """Corrects decay inside each frame and from the injection to its start, slice by slice."""
    half_life = administration.half_life
    if any(d is None or d <= 0 for d in clocks.duration):
        problem = f"is missing though {_named('DecayCorrection')} is NONE"
        raise refused("ActualFrameDuration", problem, "restore it in the header")
    if clocks.earliest is None or clocks.span > PLAUSIBLE_WINDOW_S:
        problem = f"is missing or spans 12 h though {_named('DecayCorrection')} is NONE"
        raise refused("AcquisitionTime", problem, "restore it in the header")
    frames = [r for r in clocks.reference if r is not None]
    if frames and clocks.span <= SAME_TIME_S:
        # Several beds but one acquisition time: that is the time of the series, not of the frames.
        effect = _percent(max(frames) - min(frames), half_life)
        problem = (
            f"is the same on all slices though {_named('FrameReferenceTime')} varies by "
            f"{max(frames) - min(frames):.0f} s ({effect:.1f} % of the SUV) and {_named('DecayCorrection')} "
            "is NONE"
        )
        if effect > CONFIRM_PERCENT and accept != "NONE":
            raise refused(
                "AcquisitionTime", problem, "correct the times, or take them so with --accept-suv NONE"
            )
        if effect > WARN_PERCENT:
            header.warnings.append(f"{_named('AcquisitionTime')} {problem}")
    uptake = _uptake(header, administration, clocks.earliest, clocks, facts)
    factors = [
        _usable(per_dose * in_frame_term(half_life, d) * _exp2((uptake + t - clocks.earliest) / half_life))
        for t, d in zip(clocks.acquisitions, clocks.duration, strict=True)
    ]
    same = max(factors) - min(factors) <= 1e-12 * max(factors)
    mean = factors[0] if same else math.fsum(factors) / len(factors)
    return SUVDecision(mean, rule="NONE", factor_per_slice=None if same else tuple(factors))


def _uptake(
    header: _Header, administration: _Administration, reference: float, clocks: _Clocks, facts: dict[str, Any]
) -> float:
    """Seconds from the injection to the reference time, with what is to be said about them."""
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


def _optional_facts(header: _Header, facts: dict[str, Any]) -> None:
    """Dose, half-life and uptake where the SUV does not need them: what is missing stays None."""
    said = list(header.notices), list(header.warnings)
    try:
        facts["dose_bq"] = facts["dose_bq"] or _dose(header)
        facts["half_life_s"], facts["nuclide"] = _half_life(header)
        clocks = _Clocks(header)
        administration = _Administration(header, clocks, facts["half_life_s"])
        if clocks.near() is not None:
            _uptake(header, administration, clocks.near(), clocks, facts)
    except InputError:
        pass
    header.notices, header.warnings = said


def _usable(factor: float) -> float:
    if not 0 < factor < math.inf:
        problem = "with weight, half-life and times of the header gives no usable SUV factor"
        raise refused("RadionuclideTotalDose", problem, "correct the header")
    return factor


# ---------------------------------------------------------------------------------------- side-cars

_BQ = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9}
# Bq/ml in one unit of an activity concentration, by the code that stands for it here.
ACTIVITY_UNITS = {"BQML": 1.0, "KBQML": 1e3, "MBQML": 1e6, "NCIML": 37.0, "UCIML": 37_000.0}


def decide_sidecar(
    sidecar: Mapping[str, Any],
    stored: str,
    suv_type: str,
    name: str,
    slices: int,
    accept_clock: bool = False,
) -> SUVDecision:
    """The decision for an image that is no DICOM, from the JSON beside it, with the keys of BIDS-PET.

    `name`: the side-car in messages. `stored`: "SUV" or a key of ACTIVITY_UNITS. With an activity either
    `SUVFactor` (SUV per stored unit, or one for each of the `slices`), or PatientWeight [kg], InjectedRadioactivity with
    InjectedRadioactivityUnits, RadionuclideHalfLife [s] or TracerRadionuclide, InjectionStart [s] and, by
    ImageDecayCorrected, ImageDecayCorrectionTime [s], or FrameTimesStart [s] (without it ScanStart) and
    FrameDuration [s]; all times count from TimeZero. Other SUV types than SUVbw want PatientSize [m] and
    PatientSex too; SUVType names what is stored. `SUVWarnings`: what was to be said of the SUV of the scan that
    the image comes from. `accept_clock`: a frame that starts before the scan is taken so.
    """
    kind = suv_type_name(suv_type)
    card = _Sidecar(sidecar, stored, name, accept_clock)
    output, source = SUV_TYPES[kind][0], f"stated in {card.file}"
    facts = card.facts(kind)
    earlier = sidecar.get("SUVWarnings")
    warnings = [_line(text) for text in earlier] if isinstance(earlier, list) else []
    if stored == "SUV" or "SUVFactor" in sidecar:
        own = suv_type_name(sidecar.get("SUVType") or "bw")
        gain = 1.0 if own == kind else card.norm(kind) / card.norm(own)
        per_slice = sidecar.get("SUVFactor") if stored != "SUV" else None
        if isinstance(per_slice, (list, tuple)) and len(per_slice) > 1:
            factors = tuple(_usable((_number(f) or 0.0) * gain) for f in per_slice)
            if len(factors) != slices:
                raise InputError(
                    f'{name}: "SUVFactor" has {len(factors)} values for {slices} slices: correct it'
                )
            mean = math.fsum(factors) / len(factors)
            said = {"warnings": warnings, "facts": facts}
            return SUVDecision(mean, output, "sidecar", source, factor_per_slice=factors, **said)
        factor = 1.0 if stored == "SUV" else card.number("SUVFactor", positive=True)
        return SUVDecision(_usable(factor * gain), output, "sidecar", source, warnings=warnings, facts=facts)
    half_life, notices = card.half_life()
    uptake, gain, source = card.uptake(half_life, warnings)
    gain *= ACTIVITY_UNITS[stored]
    dose = card.dose(notices, warnings)
    if uptake < 0:
        warnings.append(f"the reference time lies {-uptake / 60.0:.1f} min before the injection")
    facts.update(dose_bq=dose, half_life_s=half_life, uptake_minutes=round(uptake / 60.0, 4))
    factor = _usable(card.norm(kind) / dose * gain * _exp2(uptake / half_life))
    said = {"notices": notices, "warnings": warnings, "facts": facts}
    return SUVDecision(factor, output, "sidecar", f"{source} in {card.file}", **said)


class _Sidecar:
    """Reads the side-car of an image; every refusal names its key."""

    def __init__(self, values: Mapping[str, Any], stored: str, name: str, accept_clock: bool = False):
        self.values, self.stored, self.name = values, stored, name
        self.accept_clock = accept_clock
        self.file = re.split(r"[\\/]", name)[-1]
        self.weight_key = (
            "PatientWeight" if "PatientWeight" in values or "BodyWeight" not in values else "BodyWeight"
        )

    def number(self, key: str, positive: bool = False) -> float:
        value = self.values.get(key)
        found = _number(value)
        if found is None or (positive and found <= 0):
            state = (
                "is missing"
                if value is None
                else f"is {_shown(value)}, not one {'positive ' * positive}number"
            )
            raise InputError(
                f'{self.name}: "{key}" {state}: {self.stored} needs it to become SUV; correct the side-car'
            )
        return found

    def norm(self, kind: str) -> float:
        height, sex = (
            _number(self.values.get("PatientSize")),
            _text(self.values.get("PatientSex")).upper()[:1],
        )
        try:
            return body_norm(
                kind, self.number(self.weight_key, True), height if height and height > 0 else None, sex
            )
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    def half_life(self) -> tuple[float, list[str]]:
        nuclide = nuclide_of("", _text(self.values.get("TracerRadionuclide")))
        if nuclide is not None and self.values.get("RadionuclideHalfLife") is None:
            return NUCLIDES[nuclide][0], [f"half-life {NUCLIDES[nuclide][0]:g} s of {nuclide} used"]
        half_life = self.number("RadionuclideHalfLife", positive=True)
        if not HALF_LIFE_RANGE_S[0] <= half_life <= HALF_LIFE_RANGE_S[1]:
            raise InputError(
                f'{self.name}: "RadionuclideHalfLife" is {half_life:g} s, which no tracer has: write it in s'
            )
        return half_life, []

    def dose(self, notices: list[str], warnings: list[str]) -> float:
        dose = self.number("InjectedRadioactivity", positive=True)
        unit = _text(self.values.get("InjectedRadioactivityUnits")).lower()
        if unit and unit not in _BQ:
            raise InputError(
                f'{self.name}: "InjectedRadioactivityUnits" is {_shown(unit)}: write Bq, kBq, MBq or GBq'
            )
        return dose * _BQ[unit] if unit else _fixed_dose(dose, '"InjectedRadioactivity"', notices, warnings)

    def uptake(self, half_life: float, warnings: list[str]) -> tuple[float, float, str]:
        """(seconds from the injection to the reference time, in-frame gain, the keys they come from)."""
        corrected = self.values.get("ImageDecayCorrected")
        if not isinstance(corrected, bool):
            raise InputError(f'{self.name}: "ImageDecayCorrected" is missing: write true or false')
        if corrected:
            reference, gain, source = self.number("ImageDecayCorrectionTime"), 1.0, "ImageDecayCorrectionTime"
        else:
            reference, key = self._frame_start(half_life, warnings)
            gain = in_frame_term(half_life, self.number("FrameDuration", positive=True))
            source = f"{key} and FrameDuration"
        uptake = reference - self.number("InjectionStart")
        if uptake < -BEFORE_ADMINISTRATION_S:
            raise InputError(
                f'{self.name}: "InjectionStart" lies {-uptake:.0f} s after the image: correct the times'
            )
        return uptake, gain, source

    def _frame_start(self, half_life: float, warnings: list[str]) -> tuple[float, str]:
        """When the frame starts, and the key that says so: in BIDS both count from TimeZero."""
        if self.values.get("FrameTimesStart") is None:
            return self.number("ScanStart"), "ScanStart"
        start = self.number("FrameTimesStart")
        scan = _number(self.values.get("ScanStart"))
        if scan is not None and start < scan - SAME_TIME_S:
            effect = _percent(scan - start, half_life)
            problem = (
                f'{self.name}: "FrameTimesStart" {start:g} s lies before "ScanStart" {scan:g} s, though both count '
                f"from TimeZero ({effect:.3g} % of the SUV)"
            )
            if effect > CONFIRM_PERCENT and not self.accept_clock:
                raise InputError(f"{problem}: correct one, or take FrameTimesStart with --accept-suv CLOCK")
            warnings.append(f"{problem}: FrameTimesStart is used")
        return start, "FrameTimesStart"

    def facts(self, kind: str) -> dict[str, Any]:
        """What a report shows; nothing is refused here."""
        dose, unit = (
            _number(self.values.get("InjectedRadioactivity")),
            self.values.get("InjectedRadioactivityUnits"),
        )
        known = dose is not None and _text(unit).lower() in _BQ
        return {
            "units": self.stored,
            "suv_formula": SUV_TYPES[kind][2],
            "weight_kg": _number(self.values.get(self.weight_key)),
            "height_m": _number(self.values.get("PatientSize")),
            "sex": _text(self.values.get("PatientSex")) or None,
            "dose_bq": _number(dose * _BQ[_text(unit).lower()]) if known else None,  # None where it overflows
            "nuclide": nuclide_of("", _text(self.values.get("TracerRadionuclide"))),
            "tracer": _text(self.values.get("TracerName")) or None,
            "sidecar": self.file,
        }
