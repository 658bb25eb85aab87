"""Headers damaged at random give a confirmed decision or a refusal, never a wrong factor."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from datetime import datetime, timedelta
from random import Random

import pytest
from drmc.errors import InputError
from drmc.suv import rules
from drmc.suv.decision import SUVDecision
from drmc.suv.nuclides import NUCLIDES
from drmc.suv.times import parse_date, parse_datetime, parse_offset, parse_time
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine.suv_decisions import (
    HEADERS,
    real_header,
)
from support.engine.synthetic_dicom import header_facts


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999_999), st.integers(1, 6))
def test_every_dicom_time_is_read(hour, minute, second, micro, digits):
    fraction = f"{micro:06d}"[:digits]
    exact = hour * 3600 + minute * 60 + second + int(fraction) / 10**digits
    assert parse_time(f"{hour:02d}{minute:02d}{second:02d}.{fraction} ") == pytest.approx(exact, abs=1e-9)
    assert parse_time(f"{hour:02d}{minute:02d}\0") == hour * 3600 + minute * 60
    assert parse_time(f" {hour:02d}") == hour * 3600
    assert parse_time(f"{hour:02d}:{minute:02d}:{second:02d}") == hour * 3600 + minute * 60 + second


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-12 * 60, 14 * 60))
def test_every_dicom_moment_is_read(moment, offset):
    seconds = (moment - datetime(1900, 1, 1)) / timedelta(seconds=1)
    text = moment.strftime("%Y%m%d%H%M%S.%f")
    assert parse_datetime(text) == (pytest.approx(seconds, abs=1e-5), None)
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}{abs(offset) % 60:02d}"
    assert parse_datetime(text + zone)[1] == offset * 60.0
    assert parse_datetime(moment.strftime("%Y%m%d%H%M"))[0] == seconds - seconds % 60
    assert parse_date(moment.strftime("%Y%m%d")) == parse_date(moment.strftime("%Y.%m.%d"))


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=24), st.from_regex(r"[0-9]{0,16}[.+-]?[0-9]{0,7}", fullmatch=True)))
def test_anything_else_is_no_time(text):
    for parse in (parse_time, parse_date, parse_datetime, parse_offset):
        try:
            found = parse(text)
        except ValueError as error:
            assert str(error).startswith("not a")
        else:
            assert found is None or isinstance(found, (float, tuple))
            assert (found is None) == (not text.strip(" \t\r\n\0"))


ODD = [
    None,
    "",
    "  ",
    "abc",
    "-1",
    "0",
    0,
    -5,
    "1e400",
    "nan",
    float("nan"),
    float("inf"),
    "70\\80",
    [],
    ["a", "b"],
    b"\xff",
]

NUMBERS = [
    0.001,
    0.4,
    1.2,
    64,
    175,
    999,
    1800,
    6588,
    "6586.2 ",
    4057.7,
    70_000,
    126e6,
    1e12,
    -3.0,
    1.7,
    282_276,
]

TIMES = [
    "110155",
    "1101",
    "11",
    "11:01:55",
    "000010",
    "235959.9",
    "246000",
    "100058.123456 ",
    "20201217100058",
    "9",
]

DATES = [
    "20201217",
    "20201218",
    "20201216",
    "2020.12.17",
    "19000101",
    "20201332",
    "20201217093000",
    "99999999",
]

CODES = [
    *("BQML", "CNTS", "GML", "CM2ML", "CPS", "START", "ADMIN", "NONE", "BW", "LBM", "BSA", "M", "F", "O"),
    *(["ATTN"], ["ATTN", "DECY"], ["DECY"], "ATTN\\DECY"),
    *("C-131A3", "^89^Zirconium", "SIEMENS", "GE MEDICAL SYSTEMS"),
]

POOL = ODD + NUMBERS + TIMES + DATES + CODES

KEYS = (
    "Units SUVType DecayCorrection CorrectedImage PatientWeight PatientSize PatientSex "
    "RadionuclideTotalDose RadionuclideHalfLife RadionuclideCodeValue RadionuclideCodeMeaning "
    "RadiopharmaceuticalStartTime RadiopharmaceuticalStartDateTime SeriesDate SeriesTime AcquisitionDate "
    "AcquisitionTime AcquisitionDateTime FrameReferenceTime ActualFrameDuration DecayFactor GEScanDateTime "
    "GEAdministrationDateTime Manufacturer SiemensDecayCorrectionDateTime PhilipsSUVScaleFactor "
    "PhilipsActivityConcentrationScaleFactor NumberOfSlices DecayCorrectionDateTime RescaleIntercept "
    "RadiopharmaceuticalItems DecayCorrected"
).split()

BASES = [
    {},
    {"DecayCorrection": "ADMIN"},
    {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"]},
    {"Units": "GML", "SUVType": "LBM"},
    {"Units": "CM2ML"},
    {"Units": "CNTS", "PhilipsSUVScaleFactor": "0.000728", "PhilipsActivityConcentrationScaleFactor": "1.3"},
    {"Units": "CNTS", "PhilipsActivityConcentrationScaleFactor": "1.3"},
    {"Manufacturer": "GE MEDICAL SYSTEMS", "GEScanDateTime": "20240229110000"},
    {
        "SeriesTime": "113000",
        "AcquisitionTime": "110230",
        "FrameReferenceTime": 299605.0,
        "NumberOfSlices": 3,
    },
    {"DecayCorrected": "YES", "DecayCorrectionDateTime": "20201217110000", "RadionuclideTotalDose": 370.0},
    {"DecayCorrected": "NO", "DecayCorrection": "NONE", "CorrectedImage": ["ATTN"]},
]

COMMON = {
    "SeriesDate": "20201217",
    "SeriesTime": "110155",
    "AcquisitionDate": "20201217",
    "AcquisitionTime": "110155",
    "RadiopharmaceuticalStartTime": "100058",
    "RadiopharmaceuticalStartDateTime": "20201217100058",
}


def damaged_header(random: Random) -> list[dict]:
    """A sound header in which one to four elements were removed, emptied, retyped, moved or exchanged."""
    header = header_facts(3, **{**COMMON, **random.choice(BASES)})
    for _ in range(random.randint(1, 4)):
        key, value = (
            random.choice(KEYS),
            random.choice([*POOL, random.uniform(-2.0, 3.0) * 10 ** random.randint(-3, 9)]),
        )
        where = random.choice(["all", "all", "all", "one", "exchange"])
        if where == "exchange":
            other = random.choice(KEYS)
            for facts in header:
                facts[key], facts[other] = facts.get(other), facts.get(key)
        for index in range(3) if where == "all" else [random.randrange(3)] if where == "one" else []:
            header[index][key] = value
    return header


@settings(max_examples=5000, deadline=None, derandomize=True)
@given(st.integers(0, 2**63))
def test_damaged_headers_give_a_confirmed_decision_or_a_refusal(seed):
    decided(damaged_header(Random(seed)))


def decided(header: list[dict]) -> bool:
    """Whether a header was decided, the decision then confirmed within 0.1 %, or refused in one line."""
    try:
        decision = rules.decide(header)
    except InputError as error:
        assert "\n" not in str(error)
        return False
    json.dumps(decision.to_dict(), allow_nan=False)
    for index, expected in enumerate(recomputed(header, decision)):
        factor = decision.factor if decision.factor_per_slice is None else decision.factor_per_slice[index]
        assert factor == pytest.approx(expected, rel=1e-3), (decision.rule, header)
    return True


CLOCK_KEYS = ("SeriesTime", "AcquisitionTime", "RadiopharmaceuticalStartTime")

MOMENT_KEYS = ("RadiopharmaceuticalStartDateTime", "DecayCorrectionDateTime", "GEScanDateTime")


def _removed(random: Random, header: list[dict], key: str) -> None:
    for facts in header:
        facts.pop(key, None)


def _emptied(random: Random, header: list[dict], key: str) -> None:
    value = random.choice(["", "  ", None, [], b""])
    for facts in header:
        facts[key] = value


def _retyped(random: Random, header: list[dict], key: str) -> None:
    change = random.choice(
        [
            str,
            lambda v: str(v).encode(),
            lambda v: [v],
            lambda v: [v, v],
            lambda v: f" {v} ",
            lambda v: f"{v}\0",
        ]
    )
    for facts in header:
        if facts.get(key) is not None:
            facts[key] = change(facts[key])


def _out_of_range(random: Random, header: list[dict], key: str) -> None:
    scale, odd = (
        random.choice([-1, 0, 1e-6, 1e-3, 1e3, 1e6, 1e12]),
        random.choice([*TIMES, *DATES, "nan", "99"]),
    )
    for facts in header:
        value = facts.get(key)
        facts[key] = value * scale if isinstance(value, (int, float)) else odd


def _shuffled_times(random: Random, header: list[dict], key: str) -> None:
    keys = random.choice([CLOCK_KEYS, MOMENT_KEYS, ("SeriesDate", "AcquisitionDate")])
    order = random.sample(keys, len(keys))
    values = [[facts.get(name) for name in order] for facts in header]
    if random.random() < 0.3:  # among the slices as well
        random.shuffle(values)
    for facts, own in zip(header, values, strict=True):
        facts.update(zip(keys, own, strict=True))


MUTATIONS = (_removed, _emptied, _retyped, _out_of_range, _shuffled_times)


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_mutated_real_headers_give_a_confirmed_decision_or_a_refusal(data_folder, form):
    """5,000 headers of four vendors, as their classic slices and as an Enhanced PET image would say them."""
    real = [real_header(data_folder, name) for name in HEADERS]
    outcomes: Counter[tuple[str, bool]] = Counter()
    for seed in range(2500):
        random = Random(seed)
        header = [dict(facts) for facts in random.choice(real)]
        if form == "enhanced":
            for facts in header:
                date, time = str(facts["SeriesDate"]), str(facts["SeriesTime"])
                facts.update(DecayCorrected="YES", DecayCorrectionDateTime=date + time.strip())
                facts["RadionuclideTotalDose"] /= 1e6
        present = sorted({key for facts in header for key in facts})
        kinds = random.sample(MUTATIONS, random.choice([1, 1, 2, 3]))
        for mutate in kinds:
            mutate(random, header, random.choice(present))
        known = decided(header)
        outcomes.update((mutate.__name__, known) for mutate in kinds)
    for mutate in MUTATIONS:
        assert min(outcomes[mutate.__name__, known] for known in (True, False)) >= 100, outcomes


def recomputed(header: list[dict], decision: SUVDecision) -> list[float]:
    """SUVbw per stored unit of every slice, the straightforward way, by the rule that the decision names."""
    first = header[0]
    fixed = []

    def text(value):
        if isinstance(value, list):
            value = value[0] if len(value) == 1 else "several"
        plain = value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)
        return plain.strip(" \t\r\n\0")

    def number(key):
        found = text(first.get(key))
        return float(found) if re.fullmatch(r"[-+0-9.eE]+", found) else 0.0

    def scaled(key, unit, wrong):
        value = number(key)
        if wrong(value):
            fixed.append(key)
            value *= unit
        return value

    # These are functions because a rule reads only what it needs.
    def weight():
        return scaled("PatientWeight", 1e-3, lambda v: v > 1000)

    def height():
        return scaled("PatientSize", 1e-2, lambda v: v > 3)

    def dose():
        return scaled("RadionuclideTotalDose", 1e6, lambda v: v < 1e4)

    def lean():
        w, h = weight(), height() * 100
        both = {"M": 1.1 * w - 120 * (w / h) ** 2, "F": 1.07 * w - 148 * (w / h) ** 2}
        both["O"] = (both["M"] + both["F"]) / 2
        return both[text(first["PatientSex"]).upper()]

    rule, units = decision.rule, text(first["Units"]).upper()
    if rule == "PHILIPS_SSF":
        return [number("PhilipsSUVScaleFactor")] * 3
    if rule == "GML":
        kind = text(first.get("SUVType")) if first.get("SUVType") != [] else ""
        kind = kind or "BW"
        return [{"BW": lambda: 1.0, "LBM": lambda: weight() / lean()}[kind]()] * 3
    if rule == "CM2ML":
        return [weight() * 1000 / (0.007184 * weight() ** 0.425 * (height() * 100) ** 0.725 * 1e4)] * 3
    scale = number("PhilipsActivityConcentrationScaleFactor") if units == "CNTS" else 1.0
    plain = scale * weight() * 1000 / dose()
    if rule == "ADMIN":
        return [plain] * 3
    half_life = decision.facts["half_life_s"]
    if number("RadionuclideHalfLife"):
        assert half_life == number("RadionuclideHalfLife")
    else:
        fixed.append("RadionuclideHalfLife")
        assert half_life == NUCLIDES[decision.facts["nuclide"]][0]

    def clock(value, skip=0):
        """Seconds of the day of a TM, or of a DT from its ninth digit."""
        digits = text(value).replace(":", "")[skip:]
        fields = [float(digits[i:j] or 0) for i, j in ((0, 2), (2, 4), (4, None))]
        return fields[0] * 3600 + fields[1] * 60 + fields[2]

    def sound(value, pattern):
        return re.fullmatch(pattern, text(value)) is not None

    time_of_day, moment = (
        r"[0-2]\d(:?[0-5]\d(:?[0-5]\d(\.\d{1,6})?)?)?",
        r"(18|19|2\d)\d\d[01]\d[0-3]\d[0-2]\d.*",
    )

    def acquired(facts):
        if sound(facts.get("AcquisitionTime"), time_of_day) and (
            sound(facts.get("AcquisitionDate"), r"(18|19|2\d)\d\d\.?[01]\d\.?[0-3]\d")
            or not sound(facts.get("AcquisitionDateTime"), moment)
        ):
            return clock(facts["AcquisitionTime"])
        return clock(facts["AcquisitionDateTime"], 8)

    def milliseconds(facts, key):
        return float(text(facts[key])) / 1000

    def back(facts):
        x = math.log(2) / half_life * milliseconds(facts, "ActualFrameDuration")
        mean = (
            math.log(x / (1 - math.exp(-x))) * half_life / math.log(2)
            if x > 1e-5
            else x / 2 * half_life / math.log(2)
        )
        return acquired(facts) + mean - milliseconds(facts, "FrameReferenceTime")

    if sound(first.get("RadiopharmaceuticalStartDateTime"), moment):
        injected = clock(first["RadiopharmaceuticalStartDateTime"], 8)
    elif sound(first.get("RadiopharmaceuticalStartTime"), time_of_day):
        injected = clock(first["RadiopharmaceuticalStartTime"])
    else:
        injected = clock(first["GEAdministrationDateTime"], 8)

    def uptake(reference):
        """Hours are enough: for F-18 and Ga-68 no uptake is longer than a day."""
        if half_life >= 41_400:
            return decision.facts["uptake_minutes"] * 60
        return (reference - injected + 3600) % 86_400 - 3600

    if rule == "NONE":
        frames = [math.log(2) / half_life * milliseconds(s, "ActualFrameDuration") for s in header]
        gains = [x / (1 - math.exp(-x)) if x > 1e-9 else 1.0 for x in frames]
        earliest = uptake(min(acquired(s) for s in header))
        times = [earliest + acquired(s) - min(acquired(t) for t in header) for s in header]
        expected = [plain * g * 2 ** (t / half_life) for g, t in zip(gains, times, strict=True)]
    else:
        private = first.get("GEScanDateTime")
        private = private if sound(private, moment) else first.get("SiemensDecayCorrectionDateTime")
        reference = {
            "PRIVATE": lambda: clock(private, 8),
            "ST": lambda: clock(first["SeriesTime"]),
            "AT_MIN": lambda: min(acquired(s) for s in header),
            "BACK": lambda: sum(back(s) for s in header) / 3,
            "DCDT": lambda: clock(first["DecayCorrectionDateTime"], 8),
        }[rule]()
        expected = [plain * 2 ** (uptake(reference) / half_life)] * 3
    assert not fixed or decision.notices, "a fix must be told"
    return expected
