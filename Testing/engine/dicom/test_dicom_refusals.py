"""Folders and files that are no PET series are refused, each in one line that names what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from drmc.pet.reading import read_volume
from pydicom.uid import (
    generate_uid,
)
from support.engine.refusals import refusal
from support.engine.synthetic_dicom import rewrite, write_series


def test_folders_without_a_scan(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "is empty" in refusal(tmp_path)
    (tmp_path / "series").mkdir()
    assert "1 sub-folders" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    assert "no DICOM image" in refusal(tmp_path)
    assert "no DICOM, NIfTI" in refusal(tmp_path / "notes.txt")


@pytest.mark.parametrize("modality", ["CT", "NM", "MR"])
def test_other_modalities_are_named(tmp_path, modality):
    write_series(tmp_path, Modality=modality, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    line = refusal(tmp_path)
    assert f"holds a {modality} series (Modality (0008,0060)" in line and "PET series" in line


def test_screenshots_are_no_series(tmp_path):
    write_series(tmp_path, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    assert "no PET image storage" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["DYNAMIC", "GATED"])
def test_dynamic_and_gated_series(tmp_path, kind):
    write_series(tmp_path, SeriesType=[kind, "IMAGE"])
    line = refusal(tmp_path)
    assert "SeriesType (0054,1000)" in line and kind in line and "static" in line


def test_projections(tmp_path):
    write_series(tmp_path, SeriesType=["WHOLE BODY", "REPROJECTION"])
    assert "REPROJECTION" in refusal(tmp_path)


def test_time_slices_alone_make_no_dynamic_series(tmp_path):
    """GE writes the number of beds there."""
    write_series(tmp_path, NumberOfTimeSlices=6, NumberOfSlices=5)
    assert read_volume(tmp_path).geometry.shape[0] == 5


def test_a_dynamic_stack_that_does_not_say_so(tmp_path):
    uid = generate_uid()
    same = {"SeriesInstanceUID": uid, "FrameOfReferenceUID": uid}
    write_series(tmp_path, **same)
    write_series(tmp_path, names="B{}.dcm".format, AcquisitionTime="110500", **same)
    line = refusal(tmp_path)
    assert "dynamic or gated" in line and "(0020,0032)" in line


def test_duplicated_slices(tmp_path):
    files = write_series(tmp_path)
    shutil.copy(files[2], tmp_path / "copy.dcm")
    line = refusal(tmp_path)
    assert "duplicated slices" in line and "copy.dcm" in line and "IM0002.dcm" in line


def test_missing_slices(tmp_path):
    files = write_series(tmp_path, slices=8)
    files[3].unlink()
    line = refusal(tmp_path)
    assert "slices are missing" in line and "6.000 mm" in line and "IM0002.dcm" in line


def test_steps_that_grow_are_no_grid(tmp_path):
    write_series(tmp_path, slices=60, rows=2, positions=lambda i: 3.0 * i + 0.003 * i * i)
    assert "even grid" in refusal(tmp_path)


def test_slices_missing_at_an_end_are_told(tmp_path):
    write_series(tmp_path, NumberOfSlices=9)
    assert any("announces 9 slices, 5 are here" in notice for notice in read_volume(tmp_path).notices)


def test_sheared_slices(tmp_path):
    write_series(tmp_path, ImagePositionPatient=lambda i: [0.5 * i, 0.0, 3.0 * i])
    assert "shifted against each other" in refusal(tmp_path)


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_a_truncated_file_is_named_wherever_it_ends(tmp_path):
    files = write_series(tmp_path, rows=20, columns=20)
    whole = files[2].read_bytes()
    for size in [0, 50, 131, 132, 200, *range(300, len(whole), 97), len(whole) - 2]:
        files[2].write_bytes(whole[:size])
        line = refusal(tmp_path)
        assert "truncated" in line and files[2].name in line, (size, line)
    files[2].write_bytes(whole)
    assert read_volume(tmp_path).geometry.shape[0] == 5


def test_a_truncated_compressed_file(tmp_path):
    files = write_series(tmp_path, rle=True)
    _cut(files[1], files[1].stat().st_size - 40)
    assert "IM0001.dcm" in refusal(tmp_path)


def test_pixel_data_of_the_wrong_size(tmp_path):
    files = write_series(tmp_path)
    rewrite(files[0], PixelData=b"\0" * 500)
    assert "500 bytes of pixel data where 6x7 voxels of 16 bits need 84" in refusal(tmp_path)


def test_lossy_compression_is_told(tmp_path):
    write_series(tmp_path, LossyImageCompression="01")
    assert any("(0028,2110)" in notice for notice in read_volume(tmp_path).notices)


@pytest.mark.parametrize(
    ("changes", "tag"),
    [
        ({"RescaleSlope": None}, "(0028,1053)"),
        ({"RescaleSlope": -1.0}, "(0028,1053)"),
        ({"PixelSpacing": None}, "(0028,0030)"),
        ({"ImagePositionPatient": None}, "(0020,0032)"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "(0020,0037)"),
        ({"BitsAllocated": 12}, "(0028,0100)"),
        ({"NumberOfFrames": 2}, "(0028,0008)"),
        ({"SeriesInstanceUID": None}, "(0020,000E)"),
    ],
)
def test_damaged_elements_are_named(tmp_path, changes, tag):
    for file in write_series(tmp_path):
        rewrite(file, **changes)
    assert tag.lower() in refusal(tmp_path).lower()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", [4.0, 4.0]),
        ("ImageOrientationPatient", [0, 1, 0, -1, 0, 0]),
        ("FrameOfReferenceUID", "1.2.3"),
        ("PatientWeight", 90),
        ("Units", "CNTS"),
        ("RescaleIntercept", 5),
    ],
)
def test_one_slice_that_does_not_belong(tmp_path, keyword, value):
    rewrite(write_series(tmp_path)[3], **{keyword: value})
    assert keyword in refusal(tmp_path)


def test_another_matrix(tmp_path):
    uid = generate_uid()
    same = {"SeriesInstanceUID": uid, "FrameOfReferenceUID": uid}
    write_series(tmp_path, slices=2, **same)
    write_series(tmp_path, slices=1, rows=9, origin=(-10, -20, 36), names="B{}.dcm".format, **same)
    assert "Rows (0028,0010) differs" in refusal(tmp_path)


def test_infinite_voxels(tmp_path):
    write_series(tmp_path, np.full((3, 4, 5), 30_000.0), RescaleSlope=1e38, RescaleIntercept=0)
    for file in tmp_path.iterdir():
        rewrite(file, PixelData=np.full((4, 5), 30_000, "<i2").tobytes())
    line = refusal(tmp_path)
    assert "NaN or infinite" in line and "(0028,1053)" in line


@pytest.mark.parametrize(
    ("overrides", "tag"),
    [
        ({"PatientWeight": None}, "(0010,1030)"),
        ({"RadionuclideTotalDose": None}, "(0018,1074)"),
        ({"CorrectedImage": ["DECY", "NORM"]}, "(0028,0051)"),
        ({"injections": 2}, "(0054,0016)"),
        ({"injections": 0}, "(0018,1074)"),
        ({"Units": "PROPCNTS"}, "(0054,1001)"),
    ],
)
def test_what_the_suv_rules_refuse_arrives(tmp_path, overrides, tag):
    write_series(tmp_path, **overrides)
    assert tag in refusal(tmp_path)
