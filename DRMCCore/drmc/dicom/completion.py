"""Fills attributes that DICOM PS3.3 A.21 requires of a classic PET image and that scanners omit or get wrong.

Only what is certain is filled in: counts of slices, the patient's orientation in today's codes, empty values
where an attribute must be there but may be unknown (type 2). Nothing that an SUV rests on is touched, nothing
invented.
"""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from drmc.dicom.header import value_of

LONGEST_SH = 16  # characters of the value representation SH

# Type 2: must be there, may be empty.
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "PositionReferenceIndicator",
    "Manufacturer",
    "CorrectedImage",
    "CollimatorType",
    "SliceThickness",
    "AcquisitionDate",
    "AcquisitionTime",
    "ActualFrameDuration",
)
_ONLY_GATED = (
    "TriggerTime",
    "FrameTime",
    "LowRRValue",
    "HighRRValue",
    "NumberOfRRIntervals",
    "NumberOfTimeSlots",
)
# PatientPosition (0018,5100), which PET must not have, in the codes that it has instead (CID 19, 20, 21).
_RECUMBENT = ("102538003", "SCT", "recumbent")
_MODIFIERS = {
    "S": ("40199007", "SCT", "supine"),
    "P": ("1240000", "SCT", "prone"),
    "DR": ("102535000", "SCT", "right lateral decubitus"),
    "DL": ("102536004", "SCT", "left lateral decubitus"),
}
_GANTRY = {"HF": ("102540008", "SCT", "headfirst"), "FF": ("102541007", "SCT", "feet-first")}
# Body parts of PS3.16 Annex L that a patient has but one of, so that (0020,0060) Laterality has no place.
_UNPAIRED = frozenset(
    """ABDOMEN ABDOMENPELVIS AORTA BACK BLADDER BRAIN CEREBELLUM CHEST CHESTABDOMEN CHESTABDPELVIS
    COCCYX COLON CSPINE DUODENUM ESOPHAGUS GALLBLADDER HEAD HEADNECK HEART JAW LARYNX LIVER LSPINE
    MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE PANCREAS PELVIS PENIS
    PHARYNX PROSTATE RECTUM SKULL SPINE SPLEEN SSPINE STERNUM STOMACH THYMUS THYROID TONGUE TRACHEA
    TSPINE UTERUS VAGINA VULVA WHOLEBODY""".split()
)


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """One item of a code sequence (PS3.3 table 8.8-1)."""
    item = Dataset()
    if len(value) > LONGEST_SH:
        item.LongCodeValue = value
    else:
        item.CodeValue = value
    item.CodingSchemeDesignator, item.CodeMeaning = scheme, meaning
    return item


def complete(ds: Dataset, index: int, count: int) -> None:
    """Completes the header of slice `index` (from 0) of `count`, in place."""
    for keyword in _MAY_BE_EMPTY:
        if keyword not in ds:
            setattr(ds, keyword, None)
    if "RadiopharmaceuticalInformationSequence" not in ds:
        ds.RadiopharmaceuticalInformationSequence = Sequence()
    for item in ds.RadiopharmaceuticalInformationSequence:
        if "RadionuclideCodeSequence" not in item:
            item.RadionuclideCodeSequence = Sequence()
    # An announced number that differs (a cropped series) stays: the choice of the reference time weighs it.
    for keyword, number in (
        ("NumberOfSlices", count),
        ("ImageIndex", index + 1),
        ("InstanceNumber", index + 1),
    ):
        if value_of(ds, keyword) in (None, ""):
            setattr(ds, keyword, number)
    if value_of(ds, "CountsSource") in (None, ""):
        ds.CountsSource = "EMISSION"  # attenuation-corrected, else it had not been read
    _complete_series_type(ds)
    if value_of(ds, "DecayCorrection") == "NONE" and "DecayFactor" in ds:
        del ds.DecayFactor
    _complete_orientation(ds)
    _complete_laterality(ds)


def _complete_series_type(ds: Dataset) -> None:
    """Series read here are static: attributes of dynamic and gated ones have no place."""
    kind = value_of(ds, "SeriesType")
    if isinstance(kind, list) and kind and kind[0] == "WHOLEBODY":
        ds.SeriesType = ["WHOLE BODY", *kind[1:]]
    for keyword in ("NumberOfTimeSlices", *_ONLY_GATED):
        if keyword in ds:
            del ds[keyword]


def _complete_orientation(ds: Dataset) -> None:
    """The patient's orientation as PET states it; where PatientPosition says nothing known, all stays."""
    position = str(value_of(ds, "PatientPosition") or "").strip().upper()
    gantry, modifier = _GANTRY.get(position[:2]), _MODIFIERS.get(position[2:])
    known = gantry is not None and modifier is not None
    if position and not known and not ds.get("PatientOrientationCodeSequence"):
        return
    if not ds.get("PatientOrientationCodeSequence"):
        items = []
        if gantry is not None and modifier is not None:
            items = [code_item(*_RECUMBENT)]
            items[0].PatientOrientationModifierCodeSequence = Sequence([code_item(*modifier)])
        ds.PatientOrientationCodeSequence = Sequence(items)
    if not ds.get("PatientGantryRelationshipCodeSequence"):
        ds.PatientGantryRelationshipCodeSequence = Sequence(
            [code_item(*gantry)] if gantry is not None and modifier is not None else []
        )
    if position:
        del ds.PatientPosition


def _complete_laterality(ds: Dataset) -> None:
    if value_of(ds, "Laterality") not in (None, "") or "ImageLaterality" in ds:
        return
    if "Laterality" in ds:
        del ds.Laterality
    if str(value_of(ds, "BodyPartExamined") or "").strip().upper() not in _UNPAIRED:
        ds.Laterality = None
