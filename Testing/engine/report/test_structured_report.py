"""The lesion table as a DICOM structured report, as an independent reader and a checker find it."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest
from drmc.cli.main import main
from drmc.imaging.files import write_image
from drmc.measures.rows import LesionRow
from drmc.pet.reading import read_volume
from drmc.report.structured_report import tracking_uid
from support.engine.denoised_series import VALID
from support.engine.denoising_cases import GRID, lesion_mask, suv_image
from support.engine.dicom_checker import complaints
from support.engine.synthetic_dicom import write_series

highdicom = pytest.importorskip("highdicom")
pytestmark = pytest.mark.usefixtures("models")
EXACT = ("--device", "cpu", "--precision", "fp32", "--model", "tiny")


def scan_of(folder, **header):
    """A series with a lesion, and masks of a lesion and a liver on its grid."""
    valid = {**VALID, "NumberOfSlices": GRID.shape[0], **header}
    write_series(folder, suv_image() * 4000.0, spacing=GRID.spacing[:2], positions=GRID.spacing[2], **valid)
    labels = lesion_mask().astype(np.float32)
    labels[8:12, 2:6, 2:8] = 2
    write_image(folder.parent / "lesions.nii.gz", labels, read_volume(folder).geometry)
    return folder


def ran(capsys, *arguments):
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def value_of(group, row_key, found):
    """The number of a lesion row in a group, by what the item says it is."""
    statistics = {"Mean": "suv_mean", "Maximum": "suv_max", "Peak Value Within ROI": "suv_peak"}
    statistics |= {"Median": "suv_median", "Minimum": "suv_min"}
    volumes = {"MAX41": "mtv41_ml", "SUV25": "mtv_suv25_ml", "SUV40": "mtv_suv40_ml"}
    volumes |= {"MAX41ORIGINAL": "mtv41_original_ml"}
    glycolysis = {"MAX41": "tlg41", "SUV25": "tlg_suv25", "SUV40": "tlg_suv40"}
    for measured in group.get_measurements():
        method = measured.method.value if measured.method else None
        key = {
            "SUVbw": lambda one: statistics[one.derivation.meaning],
            "SUVlbm(Janma)": lambda one: statistics[one.derivation.meaning].replace("suv", "sul"),
            "Volume": lambda _: "volume_ml",
            "Metabolic Volume": lambda _, method=method: volumes[method],
            "Total Lesion Glycolysis": lambda _, method=method: glycolysis[method],
        }[measured.name.meaning](measured)
        found[key] = (measured.value, measured.unit.value)
    return found.get(row_key)


def texts_of(document):
    """All texts of a report, a line each."""
    texts = []
    document.walk(lambda _, element: texts.append(element.value) if element.keyword == "TextValue" else None)
    return "\n".join(map(str, texts))


def test_the_report_has_every_number_of_the_table(capsys, tmp_path):
    scan = scan_of(tmp_path / "scan")
    out = tmp_path / "out"
    ran(capsys, "denoise", scan, "-o", out, "--lesions", tmp_path / "lesions.nii.gz", "--dicom", *EXACT)
    summary = json.loads((out / "summary.json").read_text())
    assert "measurements" in summary["outputs"]
    document = highdicom.sr.srread(out / "measurements" / "measurements.dcm")
    report = document.content
    assert isinstance(report, highdicom.sr.MeasurementReport)
    groups = report.get_image_measurement_groups()
    rows = {
        (row["segment"], row["stage"]): row
        for row in summary["lesions"]["segments"]
        if row["stage"] != "change_percent"
    }
    assert len(groups) == len(rows) == 4
    series = {
        "original": read_volume(scan),
        "denoised": read_volume(out / "denoised"),
    }
    for group in groups:
        session = [
            item.value
            for item in group[0].ContentSequence
            if item.ConceptNameCodeSequence[0].CodeMeaning == "Activity Session"
        ]
        row = rows.pop((group.tracking_identifier, session[0]))
        for key in set(LesionRow.__annotations__) - {
            "scan",
            "segment",
            "stage",
            "percist_threshold",
            "sul_note",
        }:
            if key.startswith("suv_max_") or row[key] is None:
                continue
            unit = "g/ml{SUVbw}" if key.startswith("suv") else "g" if key.startswith("tlg") else "ml"
            unit = "g/ml{SUVlbm(Janma)}" if key.startswith("sul") else unit
            assert value_of(group, key, {}) == (row[key], unit), key
        # The images are the slices of the series measured in which the lesion lies.
        volume = series[session[0]]
        mask = lesion_mask() if row["segment"].endswith("_1") else None
        slices = [volume.dicom_files[z] for z in (range(8, 12) if mask is None else np.nonzero(mask)[0])]
        expected = {pydicom.dcmread(file).SOPInstanceUID for file in slices}
        assert {image.referenced_sop_instance_uid for image in group.source_images} == expected
        assert group.tracking_uid == tracking_uid(volume.series_uid, row["segment"]) or session != [
            "original"
        ]
    assert not rows
    by_lesion = {group.tracking_identifier: set() for group in groups}
    for group in groups:
        by_lesion[group.tracking_identifier].add(group.tracking_uid)
    assert [len(uids) for uids in by_lesion.values()] == [1, 1]
    assert len(set.union(*by_lesion.values())) == 2


def test_the_document_says_what_made_it_and_what_it_is_for(capsys, tmp_path):
    scan = scan_of(tmp_path / "scan", PatientName="Müller^Ärmel", SpecificCharacterSet="ISO_IR 100")
    out = tmp_path / "out"
    lesions = tmp_path / "lesions.nii.gz"
    ran(capsys, "denoise", scan, "-o", out, "--lesions", lesions, "--format", "dicom", *EXACT)
    path = out / "measurements" / "measurements.dcm"
    assert complaints(path, "Comprehensive3DSR") == []
    ds = pydicom.dcmread(path)
    source = pydicom.dcmread(next(scan.iterdir()))
    for keyword in ("PatientID", "StudyInstanceUID", "StudyDate", "AccessionNumber", "PatientBirthDate"):
        assert ds[keyword].value == source[keyword].value
    assert str(ds.PatientName) == "Müller^Ärmel" and ds.SpecificCharacterSet == "ISO_IR 192"
    assert (ds.Modality, ds.CompletionFlag, ds.VerificationFlag) == ("SR", "PARTIAL", "UNVERIFIED")
    assert "Research use" in ds.SeriesDescription and ds.SeriesNumber == source.SeriesNumber + 2000
    text = texts_of(ds)
    summary = json.loads((out / "summary.json").read_text())
    for expected in (
        "Research use only. Not for diagnosis or treatment.",
        f"model SHA-256 {summary['model']['sha256']}",
        "strength 1",
        "SUVbw = BQML value x",
        summary["versions"]["drmc"],
    ):
        assert expected in text, expected
    listed = [
        (series.SeriesInstanceUID, len(series.ReferencedSOPSequence))
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
    ]
    denoised = pydicom.dcmread(out / "denoised" / "IM0001.dcm").SeriesInstanceUID
    assert listed == [(source.SeriesInstanceUID, GRID.shape[0]), (denoised, GRID.shape[0])]
    # A result with the report is replaced and resumed like any other, and its folder is still one scan.
    again = ran(
        capsys, "denoise", tmp_path / "scan", "-o", out, "--lesions", lesions, "--format", "dicom", *EXACT
    )
    assert "denoised" in again and pydicom.dcmread(path).SOPInstanceUID != ds.SOPInstanceUID
    ran(capsys, "suv", out)
    ran(capsys, "denoise", scan, "-o", out, "--format", "dicom", *EXACT)
    assert not path.exists()


def test_quantify_writes_the_same_numbers(capsys, tmp_path):
    scan = scan_of(tmp_path / "scan")
    out, lesions = tmp_path / "out", tmp_path / "lesions.nii.gz"
    ran(capsys, "denoise", scan, "-o", out, "--lesions", lesions, "--format", "dicom", *EXACT)
    first = highdicom.sr.srread(out / "measurements" / "measurements.dcm").content
    ran(capsys, "quantify", out, "--lesions", lesions, "--dicom-sr", tmp_path / "again.dcm")
    assert complaints(tmp_path / "again.dcm", "Comprehensive3DSR") == []
    again = highdicom.sr.srread(tmp_path / "again.dcm").content
    pairs = list(zip(first.get_image_measurement_groups(), again.get_image_measurement_groups(), strict=True))
    assert len(pairs) == 4
    for number, (before, after) in enumerate(pairs):
        assert before.tracking_uid == after.tracking_uid
        values = [[one.value for one in group.get_measurements()] for group in (before, after)]
        if number % 2:  # the denoised image is now that of the series, with 16 bits a voxel
            assert values[1][:6] == pytest.approx(values[0][:6], rel=1e-3, abs=1e-3)
        else:
            assert values[1] == values[0]
        images = [[one.referenced_sop_instance_uid for one in g.source_images] for g in (before, after)]
        assert images[0] == images[1]
    # An image that is no series has no place in the report, and the report says so.
    ran(capsys, "denoise", scan, "-o", tmp_path / "nrrd", "--format", "nrrd", *EXACT)
    ran(capsys, "quantify", tmp_path / "nrrd", "--lesions", lesions, "--dicom-sr", tmp_path / "half.dcm")
    half = pydicom.dcmread(tmp_path / "half.dcm")
    assert "no numbers of the denoised image" in texts_of(half)
    assert len(highdicom.sr.srread(tmp_path / "half.dcm").content.get_image_measurement_groups()) == 2


@pytest.mark.parametrize("kind", ["lbm", "lbmjames128", "lbmjanma", "bsa", "ibw"])
def test_every_suv_type_has_the_codes_of_dicom(capsys, tmp_path, kind):
    from pydicom.sr.codedict import codes

    scan = scan_of(tmp_path / "scan")
    path = tmp_path / "sr.dcm"
    arguments = ("--lesions", tmp_path / "lesions.nii.gz", "--dicom-sr", path, "--suv-type", kind)
    found = json.loads(ran(capsys, "quantify", scan, *arguments, "--json"))
    assert complaints(path, "Comprehensive3DSR") == []
    group = highdicom.sr.srread(path).content.get_image_measurement_groups()[0]
    measured = [one for one in group.get_measurements() if one.name.meaning.startswith("SUV")]
    known = {getattr(codes.cid7469, name).value for name in codes.cid7469.dir()}
    units = {getattr(codes.cid85, name).value for name in codes.cid85.dir()}
    assert len(measured) == (5 if kind == "lbmjanma" else 8)  # with SUL
    assert {one.name.value for one in measured} <= known and {one.unit.value for one in measured} <= units
    assert measured[0].value == found["segments"][0]["suv_mean"]


def test_what_cannot_be_written_is_refused(capsys, tmp_path, case):
    refused = main(["quantify", str(case["low"]), "--lesions", str(case["lesions"]), "--dicom-sr", "x.dcm"])
    assert refused == 2 and "has no DICOM header" in capsys.readouterr().err
    scan = scan_of(tmp_path / "scan")
    lesions = tmp_path / "lesions.nii.gz"
    target = next(scan.iterdir())
    before = target.read_bytes()
    for path, words in ((target, "over an input"), (tmp_path / "no" / "sr.dcm", "folder that exists")):
        assert main(["quantify", str(scan), "--lesions", str(lesions), "--dicom-sr", str(path)]) == 2
        assert words in capsys.readouterr().err
    assert target.read_bytes() == before
