"""The lesions as a DICOM segmentation, as the project's reader, highdicom and a checker find it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drmc.cli.main import main
from drmc.imaging.files import write_image
from drmc.pet.reading import read_volume
from drmc.report.structured_report import tracking_uid
from drmc.segments.reading import read_segments
from drmc.segments.writing import write_segmentation
from pydicom.sr.codedict import codes
from support.engine.denoised_series import VALID
from support.engine.dicom_checker import complaints
from support.engine.dicom_segmentations import ORIENTATIONS
from support.engine.synthetic_dicom import write_series

highdicom = pytest.importorskip("highdicom")
pytestmark = pytest.mark.usefixtures("models")
EXACT = ("--device", "cpu", "--precision", "fp32", "--model", "tiny")
SHAPE = (9, 13, 11)  # rows x columns are no multiple of 8: frames begin within a byte


def scan_of(folder: Path, **arguments) -> Path:
    """A valid series whose slices have a step of 3 mm and whose pixels are not square."""
    array = np.random.default_rng(1).gamma(20.0, 200.0, SHAPE)
    header = {**VALID, "NumberOfSlices": SHAPE[0], **arguments}
    write_series(folder, array, spacing=(2.5, 2.0), positions=3.0, **header)
    return folder


def masks() -> dict[str, np.ndarray]:
    """A random mask, one with an empty slice within, the liver."""
    random = np.random.default_rng(4).random(SHAPE) > 0.5
    gap = np.zeros(SHAPE, bool)
    gap[2, 3:5, 1] = gap[6, 0, 0] = True
    liver = np.zeros(SHAPE, bool)
    liver[8, -1, -1] = True
    return {"Knoten, links": random & ~gap & ~liver, "gap": gap, "Liver": liver}


def lesions_of(folder: Path, scan: Path) -> Path:
    from drmc.segments.segment import Segment

    path = folder / "lesions.seg.nrrd"
    segments = [Segment(name, mask) for name, mask in masks().items()]
    write_segmentation(path, segments, read_volume(scan).geometry)
    return path


def ran(capsys, *arguments) -> str:
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_both_readers_find_the_very_masks(capsys, tmp_path, orientation):
    scan = scan_of(tmp_path / "scan", orientation=ORIENTATIONS[orientation])
    path = tmp_path / "seg.dcm"
    ran(capsys, "quantify", scan, "--lesions", lesions_of(tmp_path, scan), "--dicom-seg", path)
    volume = read_volume(scan)
    segments, notices = read_segments(path, volume.geometry, volume.frame_of_reference, volume.series_uid)
    assert notices == []
    assert [segment.name for segment in segments] == list(masks())
    for segment, mask in zip(segments, masks().values(), strict=True):
        np.testing.assert_array_equal(segment.mask, mask)

    seg = highdicom.seg.segread(path)
    sources = [pydicom.dcmread(file).SOPInstanceUID for file in volume.dicom_files]
    read = seg.get_pixels_by_source_instance(sources, ignore_spatial_locations=False)
    np.testing.assert_array_equal(read, np.stack([*masks().values()], axis=-1))
    assert seg.NumberOfFrames == sum(int(mask.any(axis=(1, 2)).sum()) for mask in masks().values())
    assert complaints(path, "Segmentation") == []


def test_a_run_writes_it_beside_series_and_report(capsys, tmp_path):
    scan = scan_of(tmp_path / "scan", PatientName="Müller^Ärmel", SpecificCharacterSet="ISO_IR 100")
    out, lesions = tmp_path / "out", lesions_of(tmp_path, scan)
    ran(capsys, "denoise", scan, "-o", out, "--lesions", lesions, "--dicom", "--dicom-seg", *EXACT)
    path = out / "segmentation" / "segmentation.dcm"
    assert complaints(path, "Segmentation") == []
    seg, source = pydicom.dcmread(path), pydicom.dcmread(next(scan.iterdir()))
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert seg[keyword].value == source[keyword].value
    assert str(seg.PatientName) == "Müller^Ärmel"
    assert (seg.Modality, seg.SegmentationType) == ("SEG", "BINARY")
    assert "Research use" in seg.SeriesDescription and seg.SeriesNumber == source.SeriesNumber + 3000
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    kinds = [one.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for one in seg.SegmentSequence]
    assert kinds == ["Lesion", "Lesion", "Liver"]
    categories = [one.SegmentedPropertyCategoryCodeSequence[0] for one in seg.SegmentSequence]
    assert {one.CodingSchemeDesignator for one in categories} == {"SCT"}
    of_cid_7150 = [getattr(codes.cid7150, name).value for name in codes.cid7150.dir()]
    assert all(one.CodeValue in of_cid_7150 for one in categories)
    # A lesion has one tracking UID in both objects.
    report = highdicom.sr.srread(out / "measurements" / "measurements.dcm").content
    groups = {
        group.tracking_identifier: group.tracking_uid for group in report.get_image_measurement_groups()
    }
    assert {one.TrackingID: one.TrackingUID for one in seg.SegmentSequence} == groups
    assert groups["gap"] == tracking_uid(source.SeriesInstanceUID, "gap")
    # It is one of the outputs: replaced, removed, and resumed.
    summary = json.loads((out / "summary.json").read_text())
    assert "segmentation" in summary["outputs"] and summary["settings"]["dicom_seg"] is True
    ran(capsys, "suv", out)
    ran(capsys, "denoise", scan, "-o", out, "--lesions", lesions, "--dicom-seg", *EXACT)
    assert path.is_file() and not (out / "denoised").exists()
    ran(capsys, "denoise", scan, "-o", out, "--lesions", lesions, *EXACT)
    assert not path.parent.exists()


def test_a_batch_leaves_out_complete_scans(capsys, tmp_path):
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    lesions = lesions_of(tmp_path, scan_of(cohort / "p1"))
    batch = ("denoise", cohort, "-o", tmp_path / "out", "--batch", "--resume", "--lesions", lesions, *EXACT)
    batch = [str(lesions.parent / "{name}.seg.nrrd") if one is lesions else one for one in batch]
    lesions.rename(tmp_path / "p1.seg.nrrd")
    assert "1 done" in ran(capsys, *batch)
    assert "1 done" in ran(capsys, *batch, "--dicom-seg")
    assert "1 skipped" in ran(capsys, *batch, "--dicom-seg")
    assert (tmp_path / "out" / "p1" / "segmentation" / "segmentation.dcm").is_file()


def test_what_cannot_be_written_is_refused(capsys, tmp_path, case):
    for arguments, words in (
        (["denoise", case["low"], "-o", tmp_path / "out", "--dicom-seg"], "no lesions to write"),
        (
            ["denoise", case["low"], "-o", tmp_path / "out", "--lesions", case["lesions"], "--dicom-seg"],
            "has no DICOM header",
        ),
        (["quantify", case["low"], "--lesions", case["lesions"], "--dicom-seg", "x"], "has no DICOM header"),
    ):
        assert main([*map(str, arguments)]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    scan = scan_of(tmp_path / "scan")
    labels = np.zeros(SHAPE, np.float32)
    labels[4, 4:8, 4:8] = 1
    write_image(tmp_path / "labels.nii.gz", labels, read_volume(scan).geometry)
    target = next(scan.iterdir())
    before = target.read_bytes()
    quantify = ["quantify", str(scan), "--lesions", str(tmp_path / "labels.nii.gz"), "--dicom-seg"]
    for path, words in ((target, "over an input"), (tmp_path / "no" / "seg.dcm", "folder that exists")):
        assert main([*quantify, str(path)]) == 2
        error = capsys.readouterr().err
        assert words in error and "--dicom-seg" in error
    assert target.read_bytes() == before
