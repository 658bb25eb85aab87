"""The SUV rules: from the header facts of a PET series to an SUV factor, with the name of every choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from drmc.errors import InputError, SUVRefusedError
from drmc.suv.activity import bq_per_stored, from_activity, optional_facts
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import SUV_TYPES, TYPE_OF_DICOM, body_norm, suv_type_name, usable_factor
from drmc.suv.header import Header
from drmc.suv.patient import read_patient
from drmc.suv.reference_time import TIME_RULES
from drmc.suv.tags import refused, with_tag
from drmc.suv.values import as_text, number_of, quoted

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
# Elements with one value in a series, whether its SUV needs them or not: otherwise series are mixed.
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


def decide(
    slices: Sequence[Mapping[str, Any]],
    *,
    suv_type: str = "bw",
    accept_rule: str | None = None,
    accept_clock: bool = False,
    synonyms: Mapping[str, str] | None = None,
) -> SUVDecision:
    """Decides how the stored (rescaled) values of one PET series become SUV.

    Args:
        slices: one mapping per slice from DICOM keyword to plain value (str, number, list, None). The
            elements of the RadiopharmaceuticalInformationSequence (0054,0016) are beside the others, with
            `RadiopharmaceuticalItems` (their number), `RadionuclideCodeValue` and `RadionuclideCodeMeaning`;
            private elements are named `GEScanDateTime`, `GEAdministrationDateTime`,
            `SiemensDecayCorrectionDateTime`, `PhilipsSUVScaleFactor` and
            `PhilipsActivityConcentrationScaleFactor`; `PrivateWithoutCreator` lists those found in block 10
            without a creator. `DecayCorrected` YES, which only Enhanced PET has, makes
            DecayCorrectionDateTime the reference time.
        suv_type: a key of SUV_TYPES.
        accept_rule: the rule to follow if the header leaves the reference time open.
        accept_clock: whether a time with an offset from UTC that cannot be placed on the scanner's clock is
            read as written.
        synonyms: names of elements for messages ("Units (0054,1001)") that this image has under another name.

    Raises:
        SUVRefusedError: the header does not determine the SUV; the message names the tag and the remedy.
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
            f"rule {quoted(accept)} is unknown: accept one of {', '.join((*TIME_RULES, 'NONE'))}"
        )
    header = Header(slices, accept_clock)
    _check_series(header)
    units = header.text("Units").upper()
    stored = _stored_suv_type(header, units)
    philips = _philips_suv_factor(header) if units == "CNTS" else None
    own = stored or ("bw" if philips is not None else None)  # the SUV type that needs no dose
    needed = {kind} if own is None else {kind, own} if own != kind else set()
    weight, height, sex = read_patient(header, needed)
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
                f"{with_tag('PatientSex')} O: mean of the male and female {SUV_TYPES[name][0]}"
            )
        return body_norm(name, weight, height, sex)

    if own is not None:
        factor = (philips or 1.0) * (norm(kind) / norm(own) if own != kind else 1.0)
        decision = SUVDecision(factor, rule=units if stored is not None else "PHILIPS_SSF")
        optional_facts(header, facts)
    else:
        decision = from_activity(header, norm(kind) * bq_per_stored(header, units), accept, facts)
    if accept is not None and accept != decision.rule:
        header.notices.append(f"rule {accept} was accepted but not needed: {decision.rule} decides")
    for key in slices[0].get("PrivateWithoutCreator") or ():
        header.notices.append(f"private {with_tag(key)} has no creator: block 10 is taken")
    return replace(
        decision,
        factor=usable_factor(decision.factor),
        type=SUV_TYPES[kind][0],
        source=_RULE_SOURCE[decision.rule],
        notices=list(dict.fromkeys(header.notices)),
        warnings=list(dict.fromkeys(header.warnings)),
        facts=facts,
    )


def _corrections(header: Header) -> list[str]:
    return [
        item for item in as_text(header.one("CorrectedImage")).upper().replace(" ", "").split("\\") if item
    ]


def _check_series(header: Header) -> None:
    """Checks for all units: one series, one injection, attenuation- and decay-corrected, intercept 0."""
    for key in _ONE_PER_SERIES:
        header.one(key)
    for s in header.slices:
        intercept = s.get("RescaleIntercept")
        if as_text(intercept) and number_of(intercept) != 0:
            raise refused(
                "RescaleIntercept", f"is {quoted(intercept)}, for PET it is 0", "export the series again"
            )
    items = number_of(header.one("RadiopharmaceuticalItems"))
    if items is not None and items > 1:
        raise refused("RadiopharmaceuticalItems", f"lists {items:g} injections", "keep the one of this scan")
    corrections = _corrections(header)
    shown = quoted("\\".join(corrections))
    if "ATTN" not in corrections:
        problem = f"{shown} lacks ATTN, the series is not attenuation-corrected"
        raise refused("CorrectedImage", problem, "choose the attenuation-corrected series")
    decay = header.text("DecayCorrection").upper()
    if decay not in ("START", "ADMIN", "NONE"):
        raise refused(
            "DecayCorrection", f"is {quoted(decay)}, not START, ADMIN or NONE", "restore it in the header"
        )
    if decay != "NONE" and "DECY" not in corrections:
        problem = f"{shown} lacks DECY though {with_tag('DecayCorrection')} is {decay}"
        raise refused("CorrectedImage", problem, "choose the decay-corrected series, or correct the header")


def _stored_suv_type(header: Header, units: str) -> str | None:
    """The SUV type of the stored values if they are SUV already (GML, CM2ML), else None."""
    if units not in ("GML", "CM2ML"):
        return None
    text = header.text("SUVType").upper()
    if units == "CM2ML":
        if text not in ("", "BSA"):
            raise refused(
                "SUVType",
                f"is {quoted(text)} though {with_tag('Units')} is CM2ML (BSA)",
                "correct one of them",
            )
        return "bsa"
    if not text:
        header.notices.append(f"{with_tag('SUVType')} is missing: Units GML then means body weight")
        return "bw"
    if text not in TYPE_OF_DICOM or text == "BSA":
        problem = (
            f"is {quoted(text)} though {with_tag('Units')} is GML (BW, LBM, LBMJAMES128, LBMJANMA or IBW)"
        )
        raise refused("SUVType", problem, "correct one of them")
    return TYPE_OF_DICOM[text]


def _philips_suv_factor(header: Header) -> float | None:
    """SUVbw per count; None if it is absent or 0, which means "not convertible"."""
    return header.positive("PhilipsSUVScaleFactor")
