"""Reading PET series: reference objects, real scans, geometry, values and header facts."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drmc.dicom import finding
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from support.engine.refusals import refusal
from support.engine.synthetic_dicom import PET_CLASS, SECRETS, write_series

REFERENCE_OBJECTS = {
    "DRO_0_0": "ST",
    "DRO_1_0": "ST",
    "DRO_2_0": "GML",
    "DRO_2_1": "GML",
    "DRO_2_2": "GML",
    "DRO_2_3": "CM2ML",
    "DRO_2_4": "PHILIPS_SSF",
    "DRO_2_5": "ST",
    "DRO_3_0": "ST",
    "DRO_3_1": "ADMIN",
    "DRO_3_2": "BACK",
    "DRO_3_3": "PRIVATE",
    "DRO_3_4": "NONE",
    "DRO_4_0": "ST",
    "DRO_4_1": "ST",
    "DRO_4_2": "ST",
    "DRO_5_0": "ST",
}


# ---- real data


@pytest.fixture(scope="module")
def reference_objects(data_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reference_objects")
    with tarfile.open(data_folder / "ibsi_suv_dro" / "IBSI_SUV_DRO_v1.1.tar.xz") as archive:
        for member in archive:
            if member.isfile() and ("/PT/" in member.name or "/mask/" in member.name):
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.extractfile(member).read())
    return folder / "DRO"


@pytest.mark.parametrize("name", REFERENCE_OBJECTS)
def test_ibsi_reference_objects(reference_objects, name):
    volume = read_volume(reference_objects / name / "PT")
    mask = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(reference_objects / name / "mask" / "DRO_mask.nii.gz"))) > 0
    )
    values = volume.suv_array()[mask]
    tolerance = 0.04 if name == "DRO_2_3" else 0.005  # DRO_2_3 is stored in steps of 0.01
    assert [values.min(), np.median(values), values.max()] == pytest.approx([0.2, 1.0, 4.0], abs=tolerance)
    assert volume.suv.rule == REFERENCE_OBJECTS[name]


@pytest.fixture(scope="module")
def whole_body(data_folder) -> PETVolume:
    return read_volume(data_folder / "ge_wb_sts001" / "image")


def test_whole_body_factor(whole_body):
    assert whole_body.suv.factor == pytest.approx(0.00024290298, rel=2e-8)
    assert (whole_body.suv.rule, whole_body.units, whole_body.kind) == ("ST", "BQML", "dicom")
    assert whole_body.suv.facts["uptake_minutes"] == pytest.approx(45.2, abs=0.05)
    assert whole_body.suv_array().max() == pytest.approx(66.52, abs=0.005)
    assert not whole_body.suv.warnings, (
        "one bed after the other is no contradiction, its decay factors are GE's"
    )
    back = next(c for c in whole_body.suv.candidates if c["rule"] == "BACK")
    assert not back["plausible"]


def test_whole_body_geometry_and_voxels_are_those_of_itk(whole_body, data_folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(data_folder / "ge_wb_sts001" / "image")))
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    image = reader.Execute()
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    geometry = whole_body.geometry
    assert geometry.shape == image.GetSize()[::-1] == (267, 128, 128)
    assert geometry.origin == pytest.approx(image.GetOrigin(), abs=1e-9)
    assert geometry.direction == pytest.approx(image.GetDirection(), abs=1e-12)
    assert geometry.spacing == pytest.approx(image.GetSpacing(), abs=1e-9)
    assert np.array_equal(whole_body.array, sitk.GetArrayFromImage(image).astype(np.float32))
    assert any("irregular slice steps 3.19 to 3.29 mm" in notice for notice in whole_body.notices)


def test_whole_body_lesion(whole_body, data_folder):
    mask = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(data_folder / "ge_wb_sts001" / "GTV_Mass_fullgrid.nii.gz")))
        > 0
    )
    values = whole_body.suv_array()[mask]
    assert values.size == 5095
    assert [values.mean(), values.max()] == pytest.approx([2.5552, 7.9107], abs=1e-3)


@pytest.mark.parametrize("name", ["STS_001", "STS_002"])
def test_crops_that_hold_suv(data_folder, name):
    volume = read_volume(data_folder / "ibsi_sts_suv" / "dicom" / name / "PET" / "image")
    assert (volume.suv.factor, volume.suv.rule, volume.units) == (1.0, "GML", "GML")
    values = volume.suv_array()
    assert np.array_equal(values, volume.array)
    if name == "STS_001":  # the same crop, published as NIfTI: rows run the other way there
        image = sitk.DICOMOrient(
            sitk.ReadImage(str(data_folder / "ibsi_sts_suv" / name / "PET_image.nii.gz")), "LPS"
        )
        published = sitk.GetArrayFromImage(image)
        assert published.shape == values.shape
        assert np.abs(published - values).max() < 1e-3


# ---- geometry and values


def test_each_slice_has_its_own_slope(tmp_path):
    array = np.random.default_rng(1).uniform(0, 1, (6, 4, 5)) * 10.0 ** np.arange(6)[:, None, None]
    files = write_series(tmp_path, array)
    slopes = np.array([float(pydicom.dcmread(file).RescaleSlope) for file in files])
    assert len(set(slopes)) == 6
    volume = read_volume(tmp_path)
    assert np.all(np.abs(volume.array - array) <= (0.51 * slopes)[:, None, None])
    stored = np.stack([pydicom.dcmread(file).pixel_array for file in files]).astype(np.float64)
    assert np.array_equal(volume.array, (stored * slopes[:, None, None]).astype(np.float32))
    assert volume.array.dtype == np.float32 and volume.dicom_files == files


def test_negative_values_and_unsigned_storage(tmp_path):
    array = np.linspace(-500.0, 900.0, 60).reshape(3, 4, 5)
    write_series(tmp_path / "signed", array)
    assert read_volume(tmp_path / "signed").array.min() == pytest.approx(-500.0, abs=0.05)
    write_series(tmp_path / "unsigned", array + 500.0, signed=False)
    assert read_volume(tmp_path / "unsigned").array.max() == pytest.approx(1400.0, abs=0.05)


def test_bits_above_those_stored_are_ignored(tmp_path):
    files = write_series(tmp_path, np.full((3, 4, 5), 1000.0), RescaleSlope=1.0)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.BitsStored, ds.HighBit = 12, 11
        ds.PixelData = np.full((4, 5), -7 & 0x0FFF | 0xA000, "<u2").tobytes()
        ds.save_as(file)
    assert np.all(read_volume(tmp_path).array == -7.0)


def test_order_comes_from_the_positions(tmp_path):
    """Neither names nor instance numbers nor the order on the disk matter."""
    array = np.random.default_rng(3).uniform(0, 2e4, (9, 4, 5))
    shuffled = np.random.default_rng(4).permutation(9)
    write_series(tmp_path / "a", array)
    write_series(
        tmp_path / "b", array, names=lambda i: f"{shuffled[i]:03d}", InstanceNumber=lambda i: int(shuffled[i])
    )
    first, second = read_volume(tmp_path / "a"), read_volume(tmp_path / "b")
    assert np.array_equal(first.array, second.array) and first.geometry == second.geometry
    assert [int(file.name) for file in second.dicom_files] == shuffled.tolist()
    assert first.suv.factor == second.suv.factor


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 1, 0),
        (1, 0, 0, 0, 0, -1),
        (0, 1, 0, 0, 0, -1),
        (-1, 0, 0, 0, -1, 0),
        (0.8, 0.6, 0, -0.6, 0.8, 0),
    ],
)
def test_orientations_as_itk_has_them(tmp_path, orientation):
    files = write_series(tmp_path, orientation=tuple(map(float, orientation)))
    image = sitk.ReadImage([str(file) for file in files])
    geometry = read_volume(tmp_path).geometry
    assert geometry.direction == pytest.approx(image.GetDirection(), abs=1e-9)
    assert geometry.origin == pytest.approx(image.GetOrigin(), abs=1e-9)
    assert geometry.spacing == pytest.approx(image.GetSpacing(), abs=1e-9) == (4.0, 5.0, 3.0)


def test_slightly_irregular_steps_are_told(tmp_path):
    write_series(tmp_path, positions=lambda i: 3.27 * i + 0.02 * (i % 2), slices=6)
    volume = read_volume(tmp_path)
    assert volume.geometry.spacing[2] == pytest.approx((3.27 * 5 + 0.02) / 5)
    assert any("irregular slice steps" in notice for notice in volume.notices)


def test_one_slice_is_a_volume(tmp_path):
    (file,) = write_series(tmp_path, slices=1)
    volume = read_volume(file)
    assert volume.geometry.shape == (1, 6, 7) and volume.geometry.spacing[2] == 3.0
    assert any("one slice" in notice for notice in volume.notices)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, "rle"])
def test_transfer_syntaxes(tmp_path, syntax):
    array = np.random.default_rng(5).uniform(0, 2e4, (4, 6, 7))
    files = write_series(tmp_path / "plain", array)
    if syntax == "rle":
        write_series(tmp_path / "other", array, rle=True)
    else:
        (tmp_path / "other").mkdir()
        for file in files:
            ds = pydicom.dcmread(file)
            if syntax == ExplicitVRBigEndian:
                ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
            ds.file_meta.TransferSyntaxUID = syntax
            big = syntax == ExplicitVRBigEndian
            pydicom.dcmwrite(
                tmp_path / "other" / file.name,
                ds,
                implicit_vr=syntax == ImplicitVRLittleEndian,
                little_endian=not big,
                force_encoding=True,
            )
    assert np.array_equal(read_volume(tmp_path / "plain").array, read_volume(tmp_path / "other").array)


# ---- choosing files


def test_other_files_and_other_modalities_are_ignored_with_a_notice(tmp_path):
    write_series(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    write_series(tmp_path, names="CT{}.dcm".format, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    volume = read_volume(tmp_path)
    assert volume.geometry.shape == (5, 6, 7)
    assert any("1 files that are no DICOM" in n for n in volume.notices)
    assert any("ignored: 1 CT" in n for n in volume.notices)


def test_two_series_are_listed_and_one_can_be_chosen(tmp_path):
    first, second, third = generate_uid(), generate_uid(), generate_uid()
    write_series(tmp_path, np.full((3, 4, 5), 1.0), SeriesInstanceUID=first)
    write_series(
        tmp_path,
        np.full((4, 4, 5), 2.0),
        SeriesInstanceUID=second,
        names="NAC{}.dcm".format,
        CorrectedImage=["DECY"],
    )
    # Beside an uncorrected one the only corrected series is meant, and both are named.
    (notice,) = (text for text in read_volume(tmp_path).notices if "passed over" in text)
    assert f"was taken: {first} (PT, 3 images, attenuation-corrected, BQML)" in notice
    assert f"passed over: {second} (PT, 4 images, not attenuation-corrected, BQML)" in notice
    write_series(tmp_path, np.full((5, 4, 5), 3.0), SeriesInstanceUID=third, names="PSF{}.dcm".format)
    line = refusal(tmp_path)
    assert f"{first} (PT, 3 images, attenuation-corrected, BQML)" in line
    assert f"{third} (PT, 5 images, attenuation-corrected, BQML)" in line and "--series" in line
    assert read_volume(tmp_path, series_uid=first).array.max() == pytest.approx(1.0, rel=1e-4)
    assert "attenuation-corrected" in refusal(tmp_path, series_uid=second)
    assert "has no series 1.2.3" in refusal(tmp_path, series_uid="1.2.3")
    assert read_volume(tmp_path / "IM0000.dcm").geometry.shape[0] == 3, "a file stands for its series"
    assert "choose one" in refusal(tmp_path / "IM0000.dcm", series_uid=second)


def test_series_are_listed_with_their_description_unless_it_names_somebody(tmp_path):
    named = {"PatientName": "Mustermann^Eva", "PatientID": "SECRET-4711", "ReferringPhysicianName": "Dr.^Who"}
    descriptions = ["PET WB corrected", "PET Mustermann", "PET_eva_1", "PET SECRET4711", "PET Dr Who"]
    for number, description in enumerate(descriptions):
        write_series(tmp_path, SeriesDescription=description, names=f"{number}-{{}}.dcm".format, **named)
    line = refusal(tmp_path)
    assert "5 images, attenuation-corrected, BQML, 'PET WB corrected')" in line
    said = re.sub(r"[\d.]{20,}", "", line)  # a random UID may hold any number
    assert not re.search("mustermann|eva|4711|who", said.lower())


def test_old_files_without_preamble(tmp_path):
    for file in write_series(tmp_path):
        ds = pydicom.Dataset()
        ds.update(pydicom.dcmread(file))
        ds.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    assert read_volume(tmp_path).geometry.shape == (5, 6, 7)


# ---- header facts


@pytest.mark.parametrize("block", [0x10, 0x2A, None])
def test_private_values_in_any_block(tmp_path, block):
    write_series(tmp_path, Units="CNTS", PhilipsSUVScaleFactor="0.000728", private_block=block)
    decision = read_volume(tmp_path).suv
    assert decision.factor == 0.000728
    assert any("no creator" in notice for notice in decision.notices) == (block is None)


def test_private_values_of_another_creator_are_left_alone(tmp_path):
    for file in write_series(tmp_path, GEScanDateTime="20240229113000", private_block=0x10):
        ds = pydicom.dcmread(file)
        ds[0x0009, 0x0010].value = "SOMEBODY ELSE"
        ds.save_as(file)
    assert "PRIVATE" not in [c["rule"] for c in read_volume(tmp_path).suv.candidates]


def test_values_that_break_their_vr_are_refused_not_raised(tmp_path):
    for file in write_series(tmp_path):
        raw = file.read_bytes()
        weight = raw.index(b"\x10\x00\x30\x10DS") + 8
        file.write_bytes(raw[:weight] + b"fat " + raw[weight + 4 :])
    assert "PatientWeight (0010,1030) is 'fat" in refusal(tmp_path)


def test_nothing_that_leaves_names_the_patient(tmp_path):
    write_series(tmp_path, Manufacturer="UIH", ManufacturerModelName="uEXPLORER", RadionuclideHalfLife=6588)
    volume = read_volume(tmp_path)
    text = json.dumps([volume.header, volume.suv.to_dict(), volume.notices], allow_nan=False)
    assert "uEXPLORER" in text and not any(secret in text for secret in SECRETS)


def test_every_slice_gives_its_own_times(tmp_path):
    """No file stands for the series: with one acquisition per bed the lowest slice may be the last."""
    write_series(
        tmp_path,
        SeriesTime="113000",
        AcquisitionTime=lambda i: f"11{20 - 5 * i:02d}00",
        FrameReferenceTime=lambda i: 149605.0 + 300_000.0 * (4 - i),
    )
    volume = read_volume(tmp_path)
    assert volume.suv.rule == "BACK" and volume.suv.reference_time.startswith("2024-02-29T11:00:00")


def test_slices_that_were_not_decay_corrected(tmp_path):
    array = np.full((4, 3, 3), 1e4)
    write_series(
        tmp_path,
        array,
        DecayCorrection="NONE",
        CorrectedImage=["ATTN"],
        AcquisitionTime=lambda i: f"11{5 * i:02d}00",
    )
    volume = read_volume(tmp_path)
    factors = np.array(volume.suv.factor_per_slice)
    assert factors[1:] / factors[:-1] == pytest.approx(2 ** (300 / 6586.2), rel=1e-9)
    suv = volume.suv_array()
    assert suv[:, 0, 0] == pytest.approx(volume.array[:, 0, 0] * factors, rel=1e-6)
    assert volume.from_suv(suv) == pytest.approx(volume.array, rel=1e-6)


def test_has_dicom_looks_at_content(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"not at all" * 50)
    assert not finding.has_dicom(tmp_path)
    write_series(tmp_path, names=str, slices=1)
    assert finding.has_dicom(tmp_path) and finding.is_dicom(tmp_path / "0") and PET_CLASS.endswith(".128")


@pytest.mark.parametrize(
    ("method", "told"), [("NONE", True), ("none", True), ("measured,AC_CT", False), (None, False)]
)
def test_a_header_that_contradicts_itself_on_attenuation_is_told(tmp_path, method, told):
    write_series(tmp_path, AttenuationCorrectionMethod=method)
    found = [text for text in read_volume(tmp_path).notices if "(0054,1101)" in text]
    assert bool(found) == told
