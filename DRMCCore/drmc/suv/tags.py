"""DICOM tags by keyword, and refusals that name them."""

from __future__ import annotations

from drmc.errors import InputError

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


def with_tag(key: str) -> str:
    """The keyword with its tag, for messages."""
    return f"{key} {TAGS[key]}"


def refused(key: str, problem: str, remedy: str) -> InputError:
    """The error of a header: the tag, what is wrong with it, how to correct it."""
    return InputError(f"{with_tag(key)} {problem}: {remedy}")
