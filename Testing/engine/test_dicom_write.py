"""The denoised series in DICOM: the same SUV and place as the source, valid by an independent checker, never half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drmc.denoising import inputs, outputs, resume
from drmc.denoising.batch import run_batch
from drmc.denoising.pipeline import run
from drmc.denoising.request import DenoiseRequest, LoadedModel
from drmc.errors import CanceledError, InputError
from drmc.pet import dicom_writing
from drmc.pet.dicom_writing import Equipment, plan_series, write_series
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from engine import synthetic_dicom
from engine.synthetic_dicom import SECRETS, rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_pipeline import case, models, tree  # noqa: F401  (fixtures)

EQUIPMENT = Equipment("tiny", "0123456789abcdef" * 4)
SHAPE = (5, 6, 7)
# What a valid series has besides what the SUV needs.
VALID = {
    "PatientName": "Muster^Secret",
    "PatientBirthDate": "19330317",
    "PatientID": "SECRET-4711",
    "AccessionNumber": "ACC-SECRET-12",
    "ReferringPhysicianName": "",
    "StudyDate": "20240229",
    "StudyTime": "100000",
    "StudyID": "1",
    "SeriesNumber": 4,
    "SeriesDescription": "PET AC",
    "BodyPartExamined": "WHOLEBODY",
    "PatientPosition": "FFP",
    "PositionReferenceIndicator": "",
    "CountsSource": "EMISSION",
    "NumberOfSlices": SHAPE[0],
    "ImageIndex": lambda i: i + 1,
    "DecayFactor": 1.0158,
}
SIEMENS = {"Manufacturer": "SIEMENS", "SiemensDecayCorrectionDateTime": "20240229105500"}
GE = {"Manufacturer": "GE MEDICAL SYSTEMS", "GEScanDateTime": "20240229105500.00"}
PHILIPS = {"Manufacturer": "Philips", "Units": "CNTS"}
VENDORS = {
    "plain": {},
    "siemens": SIEMENS,
    "ge": GE,
    "philips bq": {**PHILIPS, "Units": "BQML", "PhilipsSUVScaleFactor": 5e-4, "PhilipsActivityConcentrationScaleFactor": 1.8},
    "admin": {"DecayCorrection": "ADMIN"},
    "none": {
        "DecayCorrection": "NONE",
        "CorrectedImage": ["ATTN"],
        "AcquisitionTime": "11{:02d}00".format,
        "DecayFactor": None,
    },
    "gml": {"Units": "GML"},
    "gml lbm": {"Units": "GML", "SUVType": "LBMJANMA"},
    "cm2ml": {"Units": "CM2ML", "SUVType": "BSA"},
    "late series time": {"SeriesTime": "120000", "AcquisitionTime": "110000", "FrameReferenceTime": 148000.0},
    "zone": {"TimezoneOffsetFromUTC": "-0500"},
    "cropped": {"NumberOfSlices": 90},
}  # fmt: skip


def source(folder: Path, array: np.ndarray | None = None, **header: object) -> PETVolume:
    """A series on disk, valid but for what `header` says, as it is read."""
    accept = header.pop("accept_rule", None)
    synthetic_dicom.write_series(folder, array, **{**VALID, **header})
    return read_volume(folder, accept_rule=accept)


def denoised(volume: PETVolume, seed: int = 1) -> PETVolume:
    """The volume with other values: negative ones, an all-zero slice, peaks of all heights."""
    array = volume.array * np.random.default_rng(seed).uniform(-0.2, 1.3, volume.array.shape)
    array *= 10.0 ** -np.arange(len(array))[:, None, None]
    array[min(2, len(array) - 1)] = 0.0
    return replace(volume, array=array.astype(np.float32))


def written(volume: PETVolume, folder: Path) -> tuple[PETVolume, list[pydicom.Dataset]]:
    """The volume written to a new folder, read back, and its headers in slice order."""
    write_series(folder, volume, plan_series(volume), EQUIPMENT)
    again = read_volume(folder)
    return again, [pydicom.dcmread(file) for file in again.dicom_files]


def within_half_a_step(again: PETVolume, headers: list[pydicom.Dataset], expected: np.ndarray) -> bool:
    """Whether every voxel is as near as the slice's slope allows (and float32 on reading)."""
    slopes = np.array([float(ds.RescaleSlope) for ds in headers])[:, None, None]
    off = np.abs(again.array.astype(np.float64) - expected)
    return bool(np.all(off <= slopes * 0.5 * (1 + 1e-6) + 6e-8 * np.abs(expected)))


# ---- values, SUV and place


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32), fill=st.nothing())
)
def test_any_slice_survives_within_half_a_step(values):
    ds = pydicom.Dataset()
    dicom_writing._set_pixels(ds, values.astype(np.float64), dicom_writing.SeriesPlan("BQML"))
    slope = float(ds.RescaleSlope)
    stored = np.frombuffer(ds.PixelData, "<i2").reshape(values.shape)
    assert slope > 0 and len(str(ds["RescaleSlope"].value)) <= 16
    assert np.all(np.abs(stored * slope - values.astype(np.float64)) <= 0.5 * slope * (1 + 1e-6))
    assert (ds.SmallestImagePixelValue, ds.LargestImagePixelValue) == (stored.min(), stored.max())


@pytest.mark.parametrize("name", VENDORS)
def test_suv_values_and_place_are_the_source_s(tmp_path, name):
    volume = source(tmp_path / "source", **VENDORS[name])
    result = denoised(volume)
    again, headers = written(result, tmp_path / "denoised")
    assert again.suv.to_dict() == volume.suv.to_dict()
    assert again.geometry == volume.geometry and again.units == volume.units
    assert within_half_a_step(again, headers, result.array)
    assert again.array.min() < 0 and not again.array[2].any()
    assert len({float(ds.RescaleSlope) for ds in headers}) == len(headers)
    rules = {
        "siemens": "PRIVATE",
        "ge": "PRIVATE",
        "none": "NONE",
        "admin": "ADMIN",
        "late series time": "BACK",
    }
    assert volume.suv.rule == rules.get(name, volume.suv.rule)


@pytest.mark.parametrize(
    ("vendor", "home"),
    [(SIEMENS, (0x0071, "SIEMENS MED PT", 0x22)), (GE, (0x0009, "GEMS_PETD_01", 0x0D))],
    ids=["siemens", "ge"],
)
@pytest.mark.parametrize("block", [0x11, None], ids=["block 11", "no creator"])
def test_private_reference_times_survive_and_nothing_else_private(tmp_path, vendor, home, block):
    volume = source(tmp_path / "source", **vendor, private_block=block)
    for file in volume.dicom_files:
        ds = pydicom.dcmread(file)
        ds.private_block(0x0029, "ACME SECRETS", create=True).add_new(0x01, "LO", "x")
        ds.RadiopharmaceuticalInformationSequence[0].add_new((0x0029, 0x10), "LO", "ACME SECRETS")
        ds.save_as(file)
    again, headers = written(volume, tmp_path / "denoised")
    assert (again.suv.rule, again.suv.factor) == ("PRIVATE", volume.suv.factor)
    group, creator, element = home
    for ds in headers:
        value = ds.private_block(group, creator)[element]
        assert (
            value.VR == "DT" and value.value == vendor[next(key for key in vendor if key != "Manufacturer")]
        )
        private = []
        ds.walk(lambda _, e, private=private: private.append(e) if e.tag.is_private else None)
        assert len(private) == 2  # the value and its creator


def test_damaged_values_go_on_as_they_are(tmp_path):
    """A frame duration with a fraction is no IS, but the SUV rests on it."""
    late = VENDORS["late series time"]
    volume = source(tmp_path / "source", **late)
    for file in volume.dicom_files:
        content = file.read_bytes()
        assert content.count(b"300000") == 1
        file.write_bytes(content.replace(b"300000", b"3000.5"))
    volume = read_volume(tmp_path / "source", accept_rule="BACK")
    write_series(tmp_path / "denoised", volume, plan_series(volume), EQUIPMENT)
    again = read_volume(tmp_path / "denoised", accept_rule="BACK")
    assert again.suv.to_dict() == volume.suv.to_dict()


@pytest.mark.parametrize(
    ("ratio", "units", "said"),
    [
        ("agreeing", "BQML", "Bq/ml"),
        ("alone", "BQML", "Bq/ml"),
        ("contradicting", "GML", "times do not give"),
        ("missing", "GML", "no factor to Bq/ml"),
        ("missing and 1", "GML", "no factor to Bq/ml"),
    ],
)
def test_philips_counts_are_converted_with_the_same_suv(tmp_path, ratio, units, said):
    per_bq = source(tmp_path / "bq").suv.factor
    to_bq = None if "missing" in ratio else 1.25
    to_suv = {
        "agreeing": 1.25 * per_bq,
        "contradicting": 1.5 * per_bq,
        "missing": 7e-4,
        "missing and 1": 1.0,
    }.get(ratio)
    header = {"PhilipsSUVScaleFactor": to_suv, "PhilipsActivityConcentrationScaleFactor": to_bq}
    window = {"WindowCenter": 1000, "WindowWidth": 2000}
    if ratio == "contradicting":  # more than 5 % apart: by the caller's word alone
        with pytest.raises(InputError, match="--accept-suv PHILIPS"):
            source(tmp_path / "source", **PHILIPS, **header, **window)
        volume = read_volume(tmp_path / "source", accept_rule="PHILIPS")
    else:
        volume = source(tmp_path / "source", **PHILIPS, **header, **window)
    plan = plan_series(volume)
    again, headers = written(denoised(volume), tmp_path / "denoised")
    assert (again.units, plan.units) == (units, units)
    assert len(plan.notices) == 1 and said in plan.notices[0] and "7053" in plan.notices[0]
    assert not any(tag.group == 0x7053 for ds in headers for tag in ds.keys())
    assert headers[0].get("SUVType") == ("BW" if units == "GML" else None)
    expected = denoised(volume).array.astype(np.float64) * (to_bq if units == "BQML" else to_suv)
    assert within_half_a_step(again, headers, expected)
    assert again.suv.factor * (1.25 if units == "BQML" else to_suv) == pytest.approx(
        volume.suv.factor, rel=1e-5
    )
    assert float(headers[0].WindowWidth) == pytest.approx(2 * float(headers[0].WindowCenter))
    assert float(headers[0].WindowWidth) == pytest.approx(2000 * plan.gain)


def test_itk_reads_it_in_order_and_in_place(tmp_path):
    volume = source(
        tmp_path / "source", orientation=(0.8, 0.6, 0.0, -0.6, 0.8, 0.0), names=lambda i: f"{9 - i}"
    )
    result = denoised(volume)
    again, headers = written(result, tmp_path / "denoised")
    assert [file.name for file in again.dicom_files] == [f"IM{i + 1:04d}.dcm" for i in range(5)]
    reader = sitk.ImageSeriesReader()
    (series,) = reader.GetGDCMSeriesIDs(str(tmp_path / "denoised"))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "denoised"), series))
    image = reader.Execute()
    assert series == headers[0].SeriesInstanceUID
    assert image.GetSpacing() == pytest.approx(volume.geometry.spacing, abs=1e-9)
    assert image.GetOrigin() == pytest.approx(volume.geometry.origin, abs=1e-9)
    assert image.GetDirection() == pytest.approx(volume.geometry.direction, abs=1e-9)
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), again.array, rtol=1e-6)


# ---- what is kept, what is new


KEPT = (
    "StudyInstanceUID FrameOfReferenceUID SeriesDate SeriesTime AcquisitionDate AcquisitionTime Units PatientName "
    "PatientID PatientBirthDate PatientWeight AccessionNumber StudyDate FrameReferenceTime ActualFrameDuration "
    "DecayFactor DecayCorrection CorrectedImage ImagePositionPatient ImageOrientationPatient InstanceNumber "
    "RadiopharmaceuticalInformationSequence Manufacturer LossyImageCompression OperatorsName WindowWidth"
).split()


def test_what_is_kept_and_what_is_new(tmp_path):
    long = "Ganzkörper-PET mit einer sehr langen Beschreibung der Serie, 64 Ze"
    extra = {"SpecificCharacterSet": "ISO_IR 100", "OperatorsName": "Müller", "LossyImageCompression": "01"}
    window = {"WindowCenter": 1000, "WindowWidth": 2000}
    old = {"PixelPaddingValue": -5, "NumberOfFrames": 1, "DerivationDescription": "Filtered."}
    volume = source(tmp_path / "source", **extra, **window, **old, SeriesDescription=long)
    for file in volume.dicom_files:
        ds = pydicom.dcmread(file)
        ds.add_new((0x6000, 0x0010), "US", 6)
        ds.add_new((0x6000, 0x3000), "OW", b"\0\0")
        ds.IconImageSequence = [pydicom.Dataset()]
        ds.save_as(file)
    before = [pydicom.dcmread(file) for file in volume.dicom_files]
    _, after = written(denoised(volume), tmp_path / "denoised")
    for old_ds, ds in zip(before, after, strict=True):
        for keyword in KEPT:
            assert ds[keyword].value == old_ds[keyword].value, keyword
        assert not {"PixelPaddingValue", "NumberOfFrames", "IconImageSequence"} & set(ds.dir())
        assert not any(tag.group == 0x6000 for tag in ds.keys())
        assert list(ds.ImageType) == ["DERIVED", "PRIMARY"]
        assert len(ds.SeriesDescription) <= 64 and ds.SeriesDescription.startswith("Ganzkörper-PET mit")
        assert ds.SeriesDescription.endswith(" DRMC denoised - Research use")
        assert ds.SeriesNumber == 1004
        assert ds.DerivationDescription.startswith("Filtered. ") and "tiny" in ds.DerivationDescription
        assert ds.DerivationCodeSequence[0].CodeValue == "113087"
        assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == old_ds.SOPInstanceUID
        maker = ds.ContributingEquipmentSequence[-1]
        assert maker.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
        assert maker.ManufacturerModelName == "tiny" and "0123456789abcdef" in maker.SoftwareVersions[1]
        assert ds.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.ContentDate == ds.InstanceCreationDate > "2025"
        assert ds["SmallestImagePixelValue"].VR == "SS"
    uids = [ds.SOPInstanceUID for ds in after]
    series = {ds.SeriesInstanceUID for ds in after}
    assert len(set(uids)) == len(uids) and len(series) == 1
    assert not {*uids, *series} & {uid for ds in before for uid in (ds.SOPInstanceUID, ds.SeriesInstanceUID)}


def test_the_source_s_files_stay_as_they_are(tmp_path):
    volume = source(tmp_path / "source")
    before = tree(tmp_path / "source")
    written(denoised(volume), tmp_path / "denoised")
    assert tree(tmp_path / "source") == before


# ---- an independent checker


@pytest.fixture(scope="session")
def errors():
    """The distinct errors of dciodvfy (dicom3tools) on files."""
    if shutil.which("dciodvfy") is None:
        reason = "no dciodvfy: install dicom3tools"
        (pytest.fail if os.environ.get("DRMC_TEST_STRICT") == "1" else pytest.skip)(reason)

    def found(files: list[Path]) -> set[str]:
        lines: list[str] = []
        for file in files:
            done = subprocess.run(
                ["dciodvfy", str(file)], capture_output=True, text=True, errors="replace", check=False
            )
            lines += (done.stdout + done.stderr).splitlines()
        assert any("PETImage" in line for line in lines)
        return {line for line in lines if line.startswith("Error")}

    return found


@pytest.mark.parametrize("name", VENDORS)
def test_the_checker_finds_no_error(tmp_path, errors, name):
    again, _ = written(denoised(source(tmp_path / "source", **VENDORS[name])), tmp_path / "denoised")
    assert not errors(again.dicom_files[::2])


@pytest.mark.parametrize(
    "lacking",
    [
        {"CountsSource": None, "NumberOfSlices": None, "ImageIndex": None, "PatientPosition": None},
        {"BodyPartExamined": "KNEE", "PatientPosition": "HFDL", "StudyID": None, "StudyDate": None},
        {
            "BodyPartExamined": None,
            "SeriesType": ["WHOLEBODY", "IMAGE"],
            "NumberOfTimeSlices": 6,
            "TriggerTime": 0,
        },
        {
            "DecayCorrection": "NONE",
            "CorrectedImage": ["ATTN"],
            "SeriesDescription": None,
            "SeriesNumber": None,
        },
        {"RadionuclideCodeValue": None, "Laterality": "", "Manufacturer": None},
    ],
    ids=range(5),
)
def test_what_can_be_mended_honestly_is(tmp_path, errors, lacking):
    volume = source(tmp_path / "source", **lacking)
    again, headers = written(volume, tmp_path / "denoised")
    assert not errors(again.dicom_files[:1])
    assert again.suv.factor == volume.suv.factor
    if lacking.get("PatientPosition") == "HFDL":
        orientation = headers[0].PatientOrientationCodeSequence[0]
        assert orientation.PatientOrientationModifierCodeSequence[0].CodeMeaning == "left lateral decubitus"
        assert headers[0].PatientGantryRelationshipCodeSequence[0].CodeMeaning == "headfirst"


def test_a_real_whole_body_scan(tmp_path, data_folder, errors):
    volume = read_volume(data_folder / "ge_wb_sts001" / "image")
    again, headers = written(volume, tmp_path / "denoised")
    assert again.suv.to_dict() == volume.suv.to_dict() and again.geometry == volume.geometry
    assert within_half_a_step(again, headers, volume.array)
    assert errors(volume.dicom_files[:1]) and not errors(again.dicom_files[::13])


@pytest.mark.parametrize("name", ["DRO_2_5", "DRO_3_3", "DRO_3_4"])
def test_reference_objects(tmp_path, data_folder, errors, name):
    with tarfile.open(data_folder / "ibsi_suv_dro" / "IBSI_SUV_DRO_v1.1.tar.xz") as archive:
        (tmp_path / "source").mkdir()
        for member in archive:
            if member.isfile() and f"{name}/PT/" in member.name:
                (tmp_path / "source" / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    volume = read_volume(tmp_path / "source")
    again, _ = written(volume, tmp_path / "denoised")
    assert again.suv.rule == volume.suv.rule
    np.testing.assert_allclose(again.suv_array(), volume.suv_array(), atol=1e-4)
    # Study and frame of reference share a UID in these objects, and both have to stay.
    assert all("StudyInstanceUID has same value" in line for line in errors(again.dicom_files[:2]))


@pytest.mark.parametrize("name", ["SIEMENS", "GE_MEDICAL_AND_BQML", "PHILIPS_BQML", "PHILIPS_CNTS_AND_SUV"])
def test_headers_of_real_series(tmp_path, data_folder, errors, name):
    instances = json.loads((data_folder / "suv_headers" / f"{name}-instances.json").read_text())
    for one in instances:
        private = one.pop("PhilipsPETPrivateGroup")
        one["PhilipsSUVScaleFactor"] = private.get("SUVScaleFactor")
        one["PhilipsActivityConcentrationScaleFactor"] = private.get("ActivityConcentrationScaleFactor")
    keys = {key for one in instances for key in one}
    header = {key: (lambda i, key=key: instances[i].get(key)) for key in keys}
    header.update(
        NumberOfSlices=len(instances),
        RadiopharmaceuticalStartDateTime=header.get("RadiopharmaceuticalStartDateTime"),
    )
    array = np.random.default_rng(2).uniform(0.0, 2e4, (len(instances), 6, 7))
    volume = source(tmp_path / "source", array, **header)
    again, _ = written(volume, tmp_path / "denoised")
    assert not errors(again.dicom_files)
    np.testing.assert_allclose(again.suv_array(), volume.suv_array(), atol=1e-4 * volume.suv_array().max())


# ---- the one path from scan to denoised scan


def dicom_request(scan: Path, output: Path, **changes: object) -> DenoiseRequest:
    """Denoise to DICOM with the tiny model of the fixture."""
    start = DenoiseRequest(scan, output, model="tiny", device="cpu", precision="fp32", format="dicom")
    return replace(start, **changes)


def test_image_files_are_refused_before_any_work(models, case, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(inputs, "read_volume", None)
    with pytest.raises(InputError, match=r"no DICOM header.*--format nifti") as caught:
        run(dicom_request(case["low"], tmp_path / "out"))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_other_kinds_of_dicom_are_refused(tmp_path):
    volume = source(tmp_path / "source")
    for file in volume.dicom_files:
        rewrite(file, SOPClassUID="1.2.840.10008.5.1.4.1.1.130")
    with pytest.raises(InputError, match=r"classic PET.*SOPClassUID \(0008,0016\).*--format nifti") as caught:
        plan_series(volume)
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_a_run_writes_the_series_and_takes_it_away_again(models, tmp_path):  # noqa: F811
    source(tmp_path / "scan")
    output = tmp_path / "out"
    summary = run(dicom_request(tmp_path / "scan", output))
    names = {"denoised", "routing.csv", "report.html", "summary.json"}
    assert set(summary["outputs"]) == names == set(os.listdir(output))
    assert read_volume(output / "denoised").suv.factor == summary["suv"]["factor"]
    entry = LoadedModel(dicom_request(tmp_path / "scan", output)).entry
    assert resume.why_again(dicom_request(tmp_path / "scan", output), entry) is None
    (output / "denoised" / "IM0005.dcm").unlink()
    assert "gone" in resume.why_again(dicom_request(tmp_path / "scan", output), entry)
    run(dicom_request(tmp_path / "scan", output))  # replaces it
    assert len(os.listdir(output / "denoised")) == 5
    # Its own result is never written over, whole or in part.
    for scan in (output / "denoised", output / "denoised" / "IM0001.dcm"):
        with pytest.raises(InputError, match="written over the input"):
            run(dicom_request(scan, output))
    run(dicom_request(output / "denoised", output, format="nrrd"))
    assert len(os.listdir(output / "denoised")) == 5
    # Another form takes away what this one left.
    run(dicom_request(tmp_path / "scan", tmp_path / "b"))
    run(dicom_request(tmp_path / "scan", tmp_path / "b", format="nifti"))
    assert not (tmp_path / "b" / "denoised").exists()
    # Both at once hold the same voxels, within the integers' step.
    both = dicom_request(tmp_path / "scan", tmp_path / "both", format="nrrd", dicom=True)
    assert set(run(both)["outputs"]) == names | {"denoised.nrrd", "denoised.json"}
    series, image = (read_volume(tmp_path / "both" / name) for name in ("denoised", "denoised.nrrd"))
    assert series.geometry.matches(image.geometry) and series.suv.factor == image.suv.factor
    step = np.abs(image.array).max(axis=(1, 2), keepdims=True) / 32767
    assert (np.abs(series.array - image.array) <= 0.51 * step).all()
    assert resume.why_again(replace(both, dicom=False), entry) is not None


def test_a_folder_of_somebody_else_s_is_not_replaced(models, tmp_path):  # noqa: F811
    source(tmp_path / "scan")
    (tmp_path / "out" / "denoised").mkdir(parents=True)
    (tmp_path / "out" / "denoised" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        run(dicom_request(tmp_path / "scan", tmp_path / "out"))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "earlier results"])
@pytest.mark.parametrize("moment", ["slice", "move", "cancel"])
def test_an_interrupted_write_leaves_nothing(models, tmp_path, monkeypatch, existing, moment):  # noqa: F811
    source(tmp_path / "scan")
    output = tmp_path / "out"
    if existing:
        run(dicom_request(tmp_path / "scan", output))
    before = tree(tmp_path)
    written_slices: list[Path] = []
    save, move = dicom_writing._save, os.replace

    def save_some(ds, path):
        written_slices.append(path)
        if moment == "slice" and len(written_slices) == 3:
            raise OSError(28, "No space left on device")
        save(ds, path)

    def move_some(start, end):
        if moment == "move" and Path(end) == output / "report.html" and "aside" not in str(start):
            raise OSError(28, "No space left on device")
        move(start, end)

    monkeypatch.setattr(dicom_writing, "_save", save_some)
    monkeypatch.setattr(outputs.os, "replace", move_some)
    expected = CanceledError if moment == "cancel" else OSError
    with pytest.raises(expected):
        run(
            dicom_request(tmp_path / "scan", output),
            cancel=lambda: moment == "cancel" and len(written_slices) == 2,
        )
    assert len(written_slices) in (2, 3, 5)
    assert tree(tmp_path) == before and output.exists() == existing


def test_a_batch_refuses_what_is_no_dicom_and_does_the_rest(models, case, tmp_path):  # noqa: F811
    cohort = tmp_path / "cohort"
    source(cohort / "a")
    shutil.copy(case["low"], cohort / "b.nii.gz")

    class Silent:
        scan = progress = outcome = staticmethod(lambda *_: None)

    result = run_batch(dicom_request(cohort, tmp_path / "out"), Silent())
    assert [row["outcome"] for row in result["scans"]] == ["done", "refused"] and result["exit_code"] == 2
    assert len(os.listdir(tmp_path / "out" / "a" / "denoised")) == 5


# ---- values given by hand


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        ({"PatientWeight": None}, {"PatientWeight": "70"}),
        ({"RadionuclideTotalDose": 1.0e8}, {"RadionuclideTotalDose": "3.7e8"}),
        ({"injections": 0}, {"RadionuclideTotalDose": "3.7e8", "RadionuclideHalfLife": "6586.2", "RadiopharmaceuticalStartTime": "10:00:00"}),
        ({"RadiopharmaceuticalStartDateTime": "20240229113000"}, {"RadiopharmaceuticalStartDateTime": ""}),
        ({"AcquisitionTime": None, "SeriesTime": None}, {"AcquisitionTime": "110000", "SeriesTime": "110000"}),
        ({"Units": "GML", "SUVType": "BW"}, {"SUVType": "LBM"}),
        ({**PHILIPS, "PatientWeight": None, "PhilipsActivityConcentrationScaleFactor": 1.8}, {"PatientWeight": "70"}),
    ],
)  # fmt: skip
def test_the_series_carries_what_was_given_by_hand(tmp_path, wrong, given):
    """Read back without being told, it has the SUV that was decided with those values."""
    synthetic_dicom.write_series(tmp_path / "source", **{**VALID, **wrong})
    volume = read_volume(tmp_path / "source", header=given)
    (tmp_path / "out").mkdir()
    again, headers = written(volume, tmp_path / "out" / "series")
    assert np.abs(again.suv_array() - volume.suv_array()).max() < 1e-3 * volume.suv_array().max()
    if not volume.units == "CNTS":
        assert again.suv.factor == volume.suv.factor
    assert "given_by_hand" not in again.suv.facts
    for ds in headers:
        assert f"Given by hand for the SUV: {', '.join(given)}." in ds.DerivationDescription
