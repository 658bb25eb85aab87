"""Multi-frame PET from the slices of a classic series: Enhanced PET, and what a legacy converter makes of it.

Written from DICOM PS3.3 A.56, A.72, C.7.6.16 and C.8.22, apart from the reader: `enhanced` says everything in
the enhanced image's own elements, `legacy_converted` moves what has a place in the functional groups and
keeps the rest in the unassigned converted attributes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid

ENHANCED_PET_CLASS = "1.2.840.10008.5.1.4.1.1.130"
LEGACY_PET_CLASS = "1.2.840.10008.5.1.4.1.1.128.1"

# Classic elements that stay at the top of both kinds of image.
_COMMON = (
    "PatientName PatientID PatientBirthDate PatientSex PatientSize PatientWeight OtherPatientIDs "
    "AccessionNumber "
    "InstitutionName ReferringPhysicianName OperatorsName StudyInstanceUID StudyDate StudyTime StudyID "
    "SeriesInstanceUID SeriesDate SeriesTime SeriesNumber SeriesDescription Modality Manufacturer "
    "ManufacturerModelName DeviceSerialNumber SoftwareVersions TimezoneOffsetFromUTC FrameOfReferenceUID "
    "PositionReferenceIndicator Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated "
    "BitsStored "
    "HighBit PixelRepresentation BodyPartExamined PatientPosition"
).split()
_CORRECTIONS = {
    "DECY": "DecayCorrected",
    "ATTN": "AttenuationCorrected",
    "SCAT": "ScatterCorrected",
    "DTIM": "DeadTimeCorrected",
    "MOTN": "GantryMotionCorrected",
    "PMOT": "PatientMotionCorrected",
    "CLN": "CountLossNormalizationCorrected",
    "RAN": "RandomsCorrected",
    "RADL": "NonUniformRadialSamplingCorrected",
    "DCAL": "SensitivityCalibrated",
    "NORM": "DetectorNormalizationCorrection",
}
UNITS = {
    ("BQML", ""): ("Bq/ml", "Becquerels/milliliter"),
    ("GML", "BW"): ("g/ml{SUVbw}", "Standardized Uptake Value body weight"),
    ("GML", "LBMJANMA"): ("g/ml{SUVlbm(Janma)}", "Standardized Uptake Value lean body mass (Janma)"),
    ("CM2ML", "BSA"): ("cm2/ml{SUVbsa}", "Standardized Uptake Value body surface area"),
    ("CNTS", ""): ("{counts}", "Counts"),
    ("CPS", ""): ("{counts}/s", "Counts per second"),
    ("PROPCNTS", ""): ("{propcounts}", "Proportional to counts"),
}


def enhanced(slices: Sequence[Dataset], reference_time: str) -> Dataset:
    """Enhanced PET with what classic slices say; START-corrected to `reference_time` (DT)."""
    first = slices[0]
    ds = _multi_frame(slices, ENHANCED_PET_CLASS)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "STATIC", "NONE"]
    injection = first.RadiopharmaceuticalInformationSequence[0].get("RadiopharmaceuticalStartDateTime")
    zero = {"START": reference_time, "ADMIN": injection, "NONE": None}[first.DecayCorrection]
    for term, keyword in _CORRECTIONS.items():
        setattr(ds, keyword, "YES" if term in first.CorrectedImage else "NO")
    if zero is not None:
        ds.DecayCorrectionDateTime = zero
    ds.CountsSource = "EMISSION"
    ds.AttenuationCorrectionSource = "CT"
    ds.AttenuationCorrectionMethod = "CT-based"
    ds.ScatterCorrectionMethod = "model-based"
    if "RAN" in first.CorrectedImage:
        ds.RandomsCorrectionMethod = "DLYD"
    ds.AcquisitionDateTime = min(_acquired(one) for one in slices)
    ds.AcquisitionDuration = float(first.ActualFrameDuration) / 1000.0
    ds.update(_item(**_SCANNER))
    window = _item(EnergyWindowLowerLimit=435, EnergyWindowUpperLimit=650)
    ds.EnergyWindowRangeSequence = [window]
    view = _item(CodeValue="62824007", CodingSchemeDesignator="SCT", CodeMeaning="Transverse")
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.SliceProgressionDirection = "FEET_TO_HEAD"
    ds.RadiopharmaceuticalInformationSequence = Items(
        _isotope(item, number)
        for number, item in enumerate(first.RadiopharmaceuticalInformationSequence, start=1)
    )
    for element in first:
        if element.tag.is_private:
            ds.add(element)
    for one, group in zip(slices, ds.PerFrameFunctionalGroupsSequence, strict=True):
        content = group.FrameContentSequence[0]
        content.FrameAcquisitionDateTime = _acquired(one)
        content.FrameAcquisitionDuration = float(one.ActualFrameDuration)
        start = zero or ds.AcquisitionDateTime
        content.FrameReferenceDateTime = later(start, float(one.FrameReferenceTime) / 1000.0)
        # Nothing but the mapping to real-world values says what the voxels are.
        group.PixelValueTransformationSequence = [_item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")]
        group.RealWorldValueMappingSequence = [real_world(one)]
        content.TemporalPositionIndex = 1
        group.PETFrameCorrectionFactorsSequence = [_factors(one)]
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PETFrameAcquisitionSequence = [_item(**_TABLE)]
    shared.PETPositionSequence = [_item(**_POSITION)]
    shared.PETReconstructionSequence = [_item(**_RECONSTRUCTION)]
    shared.RadiopharmaceuticalUsageSequence = [_item(RadiopharmaceuticalAgentNumber=1)]
    shared.FrameVOILUTSequence = [_item(WindowCenter=10_000, WindowWidth=20_000)]
    return ds


# What the modules of scanner and reconstruction want and no rule reads.
_SCANNER = {
    "CollimatorType": "NONE",
    "TypeOfDetectorMotion": "STATIONARY",
    "DetectorGeometry": "CYLINDRICAL_RING",
    "TransverseDetectorSeparation": 4.0,
    "AxialDetectorDimension": 260.0,
    "CoincidenceWindowWidth": 5.0,
    "TableMotion": "STATIC",
    "TimeOfFlightInformationUsed": "TRUE",
    "AcquisitionStartCondition": "MANU",
    "AcquisitionTerminationCondition": "TIME",
    "TerminationTimeThreshold": 300.0,
    "AttenuationCorrectionTemporalRelationship": "CONCURRENT",
}
_TABLE = {
    "TableHeight": 100.0,
    "GantryDetectorTilt": 0.0,
    "GantryDetectorSlew": 0.0,
    "DataCollectionDiameter": 700.0,
}
_POSITION = {
    "TablePosition": 0.0,
    "DataCollectionCenterPatient": [0.0, 0.0, 0.0],
    "ReconstructionTargetCenterPatient": [0.0, 0.0, 0.0],
}
_RECONSTRUCTION = {
    "ReconstructionType": "3D",
    "ReconstructionAlgorithm": "3D_OSEM",
    "IterativeReconstructionMethod": "YES",
    "NumberOfIterations": 4,
    "NumberOfSubsets": 5,
    "ReconstructionDiameter": 700.0,
}


def _factors(one: Dataset) -> Dataset:
    """Correction factors of a frame; the decay factor is 2^(FrameReferenceTime / half-life) unless stated."""
    half_life = one.RadiopharmaceuticalInformationSequence[0].get("RadionuclideHalfLife")
    stated = one.get("DecayFactor")
    if stated is None and half_life and "DECY" in one.CorrectedImage:
        stated = round(2 ** (float(one.FrameReferenceTime) / 1000.0 / float(half_life)), 5)
    return _item(
        DecayFactor=stated,
        PrimaryPromptsCountsAccumulated=1_000_000,
        SliceSensitivityFactor=1.0,
        ScatterFractionFactor=0.3,
        DeadTimeFactor=1.1,
    )


def legacy_converted(slices: Sequence[Dataset]) -> Dataset:
    """Legacy Converted Enhanced PET: what the standard has no place for is kept as it was."""
    ds = _multi_frame(slices, LEGACY_PET_CLASS)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    moved = {"AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "ActualFrameDuration"}
    moved |= {
        "PixelSpacing",
        "SliceThickness",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelData",
    }
    moved |= {
        "RescaleSlope",
        "RescaleIntercept",
        "ImageType",
        "InstanceNumber",
        "SOPClassUID",
        "SOPInstanceUID",
    }
    rest = [element.tag for element in slices[0] if element.keyword not in {*moved, *_COMMON}]
    same = [tag for tag in rest if all(tag in one and one[tag] == slices[0][tag] for one in slices)]
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.UnassignedSharedConvertedAttributesSequence = [_copied(slices[0], same)]
    for one, group in zip(slices, ds.PerFrameFunctionalGroupsSequence, strict=True):
        own = [tag for tag in rest if tag not in same and tag in one]
        content = group.FrameContentSequence[0]
        if one.get("AcquisitionDate") and one.get("AcquisitionTime"):
            content.FrameAcquisitionDateTime = _acquired(one)
        else:
            own += [
                key for key in ("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime") if key in one
            ]
        if "ActualFrameDuration" in one:
            content.FrameAcquisitionDuration = float(one.ActualFrameDuration)
        group.UnassignedPerFrameConvertedAttributesSequence = [_copied(one, own)]
        group.PixelValueTransformationSequence = [
            _item(
                RescaleSlope=one.get("RescaleSlope"),
                RescaleIntercept=one.get("RescaleIntercept"),
                RescaleType="US",
            )
        ]
    return ds


def real_world(one: Dataset, unit: tuple[str, str] | None = None, slope: float | None = None) -> Dataset:
    """The Real World Value Mapping of a slice: its RescaleSlope to its Units, or another unit and slope."""
    value, meaning = unit or UNITS[one.Units, one.get("SUVType", "")]
    # A code of more than the 16 characters of an SH has an element of its own.
    key = "CodeValue" if len(value) <= 16 else "LongCodeValue"
    code = _item(**{key: value}, CodingSchemeDesignator="UCUM", CodeMeaning=meaning)
    item = _item(
        LUTExplanation=meaning,
        LUTLabel=one.Units,
        RealWorldValueSlope=float(one.RescaleSlope) if slope is None else slope,
        RealWorldValueIntercept=float(one.RescaleIntercept),
        MeasurementUnitsCodeSequence=[code],
    )
    low, high = (-32768, 32767) if one.PixelRepresentation else (0, 65535)
    vr = "SS" if one.PixelRepresentation else "US"
    item.add_new("RealWorldValueFirstValueMapped", vr, low)
    item.add_new("RealWorldValueLastValueMapped", vr, high)
    return item


def later(moment: str, seconds: float) -> str:
    """A DT that many seconds after another one."""
    whole, _, zone = moment.partition("+")
    form = "%Y%m%d%H%M%S.%f" if "." in whole else "%Y%m%d%H%M%S"
    found = datetime.strptime(whole, form) + timedelta(seconds=seconds)
    return found.strftime("%Y%m%d%H%M%S.%f") + (f"+{zone}" if zone else "")


def _multi_frame(slices: Sequence[Dataset], sop_class: str) -> Dataset:
    """What both kinds of image have: geometry and pixels of the slices in functional groups."""
    first = slices[0]
    ds = _copied(first, [key for key in _COMMON if key in first])
    ds.file_meta = copy.deepcopy(first.file_meta)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, value in (
        ("DeviceSerialNumber", "1"),
        ("SoftwareVersions", "1"),
        ("StudyID", ""),
        ("StudyDate", first.get("SeriesDate", "")),
        ("StudyTime", first.get("SeriesTime", "")),
        ("ReferringPhysicianName", ""),
        ("PositionReferenceIndicator", ""),
        ("SeriesNumber", 1),
        ("PatientPosition", "HFS"),
    ):
        if keyword not in ds:
            setattr(ds, keyword, value)
    ds.InstanceNumber = 1
    ds.ContentDate, ds.ContentTime = (
        first.get("SeriesDate") or "20240229",
        first.get("SeriesTime") or "110000",
    )
    ds.NumberOfFrames = len(slices)
    ds.PixelPresentation, ds.VolumetricProperties = "MONOCHROME", "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.ContentQualification, ds.PresentationLUTShape = "RESEARCH", "IDENTITY"
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.AcquisitionContextSequence = []
    organization = generate_uid()
    ds.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    index = _item(DimensionOrganizationUID=organization)
    index.DimensionIndexPointer, index.FunctionalGroupPointer = 0x00209057, 0x00209111
    ds.DimensionIndexSequence = [index]
    kind = _item(
        FrameType=["ORIGINAL", "PRIMARY", "STATIC", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    shared = _item(
        PixelMeasuresSequence=[_copied(first, ["PixelSpacing", "SliceThickness"])],
        PlaneOrientationSequence=[_copied(first, ["ImageOrientationPatient"])],
        PETFrameTypeSequence=[kind],
    )
    region = _item(CodeValue="38266002", CodingSchemeDesignator="SCT", CodeMeaning="Entire body")
    shared.FrameAnatomySequence = [_item(FrameLaterality="U", AnatomicRegionSequence=[region])]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number, one in enumerate(slices, start=1):
        content = _item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[number])
        groups.append(
            _item(
                FrameContentSequence=[content],
                PlanePositionSequence=[_copied(one, ["ImagePositionPatient"])],
            )
        )
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.PixelData = b"".join(one.PixelData for one in slices)
    assert len(ds.PixelData) == np.prod([len(slices), first.Rows, first.Columns]) * 2
    return ds


def _isotope(item: Dataset, number: int) -> Dataset:
    """The radiopharmaceutical as Enhanced PET has it (C.8.22.4): a date, and the dose in MBq."""
    copied = copy.deepcopy(item)
    tracer = copied.pop("Radiopharmaceutical", None)
    copied.pop("RadiopharmaceuticalStartTime", None)
    if "RadionuclideTotalDose" in copied:
        copied.RadionuclideTotalDose = float(copied.RadionuclideTotalDose) / 1e6
    copied.RadiopharmaceuticalAgentNumber = number
    copied.RadionuclidePositronFraction = 0.967
    copied.AdministrationRouteCodeSequence = [
        _item(CodeValue="47625008", CodingSchemeDesignator="SCT", CodeMeaning="Intravenous route")
    ]
    copied.RadiopharmaceuticalCodeSequence = [
        _item(
            CodeValue="35321007",
            CodingSchemeDesignator="SCT",
            CodeMeaning=tracer.value if tracer else "Fluorodeoxyglucose F^18^",
        )
    ]
    return copied


def _acquired(one: Dataset) -> str:
    if one.get("AcquisitionDateTime"):
        return str(one.AcquisitionDateTime)
    return f"{one.AcquisitionDate}{one.AcquisitionTime}"


def _copied(source: Dataset, keys: Sequence[Any]) -> Dataset:
    ds = Dataset()
    for key in keys:
        if key in source:
            ds.add(copy.deepcopy(source[key]))
    return ds


def _item(**values: Any) -> Dataset:
    ds = Dataset()
    for key, value in values.items():
        if value is not None:
            setattr(ds, key, value)
    return ds
