"""The lesion table as a DICOM structured report: TID 1500 of PS3.16, in a Comprehensive 3D SR document.

A measurement group (TID 1501) for each lesion and image. All groups of a lesion have the same tracking UID,
which depends on the source series and the lesion's name alone, so that reports of other runs on this scan
have it, too. Written on pydicom alone, because Slicer's Python has no highdicom.

Units are those of CID 85, such as g/ml{SUVbw}. Without a code in DICOM are the thresholds of metabolic
volumes: the method of such a measurement has the coding scheme 99DRMC.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import generate_uid

from drmc import __version__
from drmc.dicom import content_items as items
from drmc.dicom.content_items import Code
from drmc.dicom.references import Instance, evidence
from drmc.files import atomic_path
from drmc.measures import mtv
from drmc.measures.rows import SUL_OF, LesionNumber, LesionRow, Stage
from drmc.pet.dicom_writing import Equipment
from drmc.pet.strength import strength_text
from drmc.report import dicom_document
from drmc.segments.segment import Segment
from drmc.suv import lean, wording
from drmc.texts import RESEARCH_USE, shown

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
DESCRIPTION = "DRMC measurements - Research use"
SERIES_NUMBER_STEP = 2000  # behind the denoised series

_REPORT = ("126000", "DCM", "Imaging Measurement Report")
_LANGUAGE = ("121049", "DCM", "Language of Content Item and Descendants")
_ENGLISH = ("en-US", "RFC5646", "English (United States)")
_PROCEDURE = ("121058", "DCM", "Procedure reported")
_PET_PROCEDURE = ("82918005", "SCT", "Positron emission tomography")
_LIBRARY, _LIBRARY_GROUP = ("111028", "DCM", "Image Library"), ("126200", "DCM", "Image Library Group")
_MODALITY, _PET = ("121139", "DCM", "Modality"), ("PT", "DCM", "Positron emission tomography")
_MEASUREMENTS = ("126010", "DCM", "Imaging Measurements")
_GROUP = ("125007", "DCM", "Measurement Group")
_QUALITATIVE = ("C0034375", "UMLS", "Qualitative Evaluations")
_COMMENT = ("121106", "DCM", "Comment")
_TRACKING, _TRACKING_UID = (
    ("112039", "DCM", "Tracking Identifier"),
    ("112040", "DCM", "Tracking Unique Identifier"),
)
_SESSION = ("C67447", "NCIt", "Activity Session")
_FINDING, _LESION = ("121071", "DCM", "Finding"), ("52988006", "SCT", "Lesion")
_LIVER = ("10200004", "SCT", "Liver")
_SOURCE = ("121112", "DCM", "Source of Measurement")
_ALGORITHM = ("111001", "DCM", "Algorithm Name")
_ALGORITHM_VERSION = ("111003", "DCM", "Algorithm Version")
_ALGORITHM_PARAMETERS = ("111002", "DCM", "Algorithm Parameters")
_DERIVATION, _METHOD = ("121401", "DCM", "Derivation"), ("370129005", "SCT", "Measurement Method")
_OBSERVER = ("121005", "DCM", "Observer Type"), ("121007", "DCM", "Device")
_DEVICE_UID = ("121012", "DCM", "Device Observer UID")
_DEVICE = (
    (("121013", "DCM", "Device Observer Name"), "DRMC"),
    (("121014", "DCM", "Device Observer Manufacturer"), "DRMC"),
    (("121015", "DCM", "Device Observer Model Name"), f"drmc {__version__}"),
)

_VOLUME = ("118565006", "SCT", "Volume")
_METABOLIC_VOLUME = ("126032", "DCM", "Metabolic Volume")
_GLYCOLYSIS = ("126033", "DCM", "Total Lesion Glycolysis")
_ML, _GRAM, _CM2 = ("ml", "UCUM", "milliliter"), ("g", "UCUM", "gram"), ("cm2", "UCUM", "square centimeter")
_STATISTICS: dict[LesionNumber, Code] = {
    "suv_mean": ("373098007", "SCT", "Mean"),
    "suv_max": ("56851009", "SCT", "Maximum"),
    "suv_peak": ("126031", "DCM", "Peak Value Within ROI"),
    "suv_median": ("373099004", "SCT", "Median"),
    "suv_min": ("255605001", "SCT", "Minimum"),
}
_METHODS: dict[Code, tuple[LesionNumber, LesionNumber | None]] = {
    ("MAX41", "99DRMC", "At or above 41 % of SUVmax of the same image"): ("mtv41_ml", "tlg41"),
    ("SUV25", "99DRMC", "SUV at or above 2.5"): ("mtv_suv25_ml", "tlg_suv25"),
    ("SUV40", "99DRMC", "SUV at or above 4.0"): ("mtv_suv40_ml", "tlg_suv40"),
    ("MAX41ORIGINAL", "99DRMC", "At or above 41 % of SUVmax of the original"): ("mtv41_original_ml", None),
    ("PERCIST", "99DRMC", "At or above 1.5 x mean + 2 SD of the liver"): ("mtv_percist_ml", "tlg_percist"),
}
# CID 7469 and CID 85, and the unit of TLG, by the SUV type of a decision.
_SUV_CODES: dict[str, tuple[Code, Code, Code]] = {
    "SUVbw": (
        ("126401", "DCM", "SUVbw"),
        ("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
        _GRAM,
    ),
    "SUVlbm": (
        ("126402", "DCM", "SUVlbm"),
        ("g/ml{SUVlbm}", "UCUM", "Standardized Uptake Value lean body mass (James)"),
        _GRAM,
    ),
    "SUVlbmjames128": (
        ("126406", "DCM", "SUVlbm(James128)"),
        ("g/ml{SUVlbm(James128)}", "UCUM", "Standardized Uptake Value lean body mass (James 128)"),
        _GRAM,
    ),
    "SUVlbmjanma": (
        ("126405", "DCM", "SUVlbm(Janma)"),
        ("g/ml{SUVlbm(Janma)}", "UCUM", "Standardized Uptake Value lean body mass (Janma)"),
        _GRAM,
    ),
    "SUVbsa": (
        ("126403", "DCM", "SUVbsa"),
        ("cm2/ml{SUVbsa}", "UCUM", "Standardized Uptake Value body surface area"),
        _CM2,
    ),
    "SUVibw": (
        ("126404", "DCM", "SUVibw"),
        ("g/ml{SUVibw}", "UCUM", "Standardized Uptake Value ideal body weight"),
        _GRAM,
    ),
}


@dataclass(frozen=True)
class MeasuredImage:
    """An image of the table: the instance of each slice in the scan's order, and its SUV decision."""

    slices: Sequence[Instance]
    suv: Mapping[str, Any]
    units: str


def write(
    path: str | os.PathLike[str],
    header: Dataset,
    rows: Sequence[LesionRow],
    segments: Sequence[Segment],
    images: Mapping[Stage, MeasuredImage],
    *,
    denoised_by: Equipment | None = None,
    notices: Sequence[str] = (),
) -> None:
    """Writes the report of a scan, atomically.

    Args:
        path: the file.
        header: that of a slice of the source series, for patient and study.
        rows: the lesion table; its rows of stages without an image are left out.
        segments: the segments of the table on the grid of the images.
        images: the images by stage; "original" is the source series.
        denoised_by: what made the image of the stage "denoised".
        notices: what the reader of the report should know.
    """
    document = _document(header, rows, segments, images, denoised_by, notices)
    with atomic_path(Path(path)) as temporary:
        document.save_as(temporary, enforce_file_format=True)


def _document(
    header: Dataset,
    rows: Sequence[LesionRow],
    segments: Sequence[Segment],
    images: Mapping[Stage, MeasuredImage],
    denoised_by: Equipment | None,
    notices: Sequence[str],
) -> Dataset:
    ds = _identified(header, denoised_by)
    instances = [instance for image in images.values() for instance in image.slices]
    own = [one for one in instances if one.study == ds.StudyInstanceUID]
    others = [one for one in instances if one.study != ds.StudyInstanceUID]
    ds.CurrentRequestedProcedureEvidenceSequence = evidence(own)
    if others:
        ds.PertinentOtherEvidenceSequence = evidence(others)
    by_name = {segment.name: segment for segment in segments}
    liver = mtv.liver_of(segments, None)
    source = images["original"].slices[0].series
    groups = [
        _group(row, by_name[row["segment"]], images[row["stage"]], source, liver, denoised_by)
        for row in rows
        if row["stage"] in images
    ]
    comments = [RESEARCH_USE]
    for stage, image in images.items():
        comments.append(f"SUV, {stage}: {wording.one_line(image.suv, image.units)}.")
        comments += [f"SUV warning: {text}" for text in wording.warning_lines(image.suv, stage)]
    comments += [str(notice) for notice in notices]
    root = items.container(
        _REPORT,
        [
            items.code(_LANGUAGE, _ENGLISH, items.CONCEPT_MODIFIER),
            *_observer(),
            items.code(_PROCEDURE, _PET_PROCEDURE, items.CONCEPT_MODIFIER),
            items.container(_LIBRARY, [_library_group(image.slices) for image in images.values()]),
            items.container(_MEASUREMENTS, groups),
            items.container(_QUALITATIVE, [items.text(_COMMENT, shown(text)) for text in comments]),
        ],
        template="1500",
        relation=None,
    )
    for element in root:
        ds[element.tag] = element
    return ds


def _identified(header: Dataset, denoised_by: Equipment | None) -> Dataset:
    """The document without its content: patient, study, series, equipment, and what kind of document."""
    ds = dicom_document.started(
        header,
        sop_class=COMPREHENSIVE_3D_SR,
        modality="SR",
        description=DESCRIPTION,
        series_number_step=SERIES_NUMBER_STEP,
        denoised_by=denoised_by,
    )
    ds.ReferencedPerformedProcedureStepSequence = DicomSequence()
    ds.CompletionFlag, ds.CompletionFlagDescription = "PARTIAL", "Research use only"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.PerformedProcedureCodeSequence = DicomSequence()
    return ds


def _observer() -> list[Dataset]:
    """TID 1004: the program that measured."""
    context = items.OBSERVATION_CONTEXT
    return [
        items.code(*_OBSERVER, context),
        items.uid(_DEVICE_UID, generate_uid(entropy_srcs=["DRMC", __version__]), context),
        *(items.text(name, value, context) for name, value in _DEVICE),
    ]


def _library_group(slices: Sequence[Instance]) -> Dataset:
    """TID 1602: one image with all its slices."""
    return items.container(
        _LIBRARY_GROUP,
        [
            items.code(_MODALITY, _PET, items.ACQUISITION_CONTEXT),
            *(items.image(one) for one in dict.fromkeys(slices)),
        ],
    )


def tracking_uid(series: str, segment: str) -> str:
    """The UID of a lesion: always the same for the same source series and name."""
    return str(generate_uid(entropy_srcs=["DRMC lesion", series, segment]))


def _group(
    row: LesionRow,
    segment: Segment,
    image: MeasuredImage,
    source: str,
    liver: Segment | None,
    denoised_by: Equipment | None,
) -> Dataset:
    """TID 1501: the numbers of one lesion on one image, with the slices that it lies in."""
    name = shown(segment.name)
    context, modifier = items.OBSERVATION_CONTEXT, items.CONCEPT_MODIFIER
    parameters = []
    if row["stage"] == "denoised" and denoised_by is not None:
        parameters = [
            f"model {shown(denoised_by.model)}",
            f"model SHA-256 {denoised_by.sha256}",
            f"strength {strength_text(denoised_by.strength)}",
        ]
    return items.container(
        _GROUP,
        [
            items.text(_SESSION, row["stage"], context),
            items.text(_TRACKING, name, context),
            items.uid(_TRACKING_UID, tracking_uid(source, segment.name), context),
            items.code(_FINDING, _LIVER if segment is liver else _LESION),
            items.text(_ALGORITHM, "DRMC", modifier),
            items.text(_ALGORITHM_VERSION, __version__, modifier),
            *(items.text(_ALGORITHM_PARAMETERS, text, modifier) for text in parameters),
            *_numbers(row, image.suv["type"]),
            *(items.image(one, _SOURCE) for one in dict.fromkeys(image.slices[segment.box[0]])),
        ],
        template="1501",
    )


def _numbers(row: LesionRow, suv_type: str) -> list[Dataset]:
    """Every number of the row that is defined."""
    suv, unit, glycolysis_unit = _SUV_CODES[suv_type]
    wanted: list[tuple[LesionNumber, Code, Code, tuple[Code, Code] | None]] = [
        ("volume_ml", _VOLUME, _ML, None),
        *((key, suv, unit, (_DERIVATION, statistic)) for key, statistic in _STATISTICS.items()),
    ]
    if suv_type != lean.NAME:
        name, of, _ = _SUV_CODES[lean.NAME]
        wanted += [(sul, name, of, (_DERIVATION, _STATISTICS[key])) for key, sul in SUL_OF.items()]
    for method, (volume, glycolysis) in _METHODS.items():
        wanted.append((volume, _METABOLIC_VOLUME, _ML, (_METHOD, method)))
        if glycolysis is not None:
            wanted.append((glycolysis, _GLYCOLYSIS, glycolysis_unit, (_METHOD, method)))
    found = []
    for key, name, of, modifier in wanted:
        value = row[key]
        if value is not None:
            modifiers = [items.code(*modifier, items.CONCEPT_MODIFIER)] if modifier else []
            found.append(items.measurement(name, value, of, modifiers))
    return found
