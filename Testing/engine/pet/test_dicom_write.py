"""The denoised series in DICOM: the same SUV and place as the source, what is kept and what is new."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drmc.errors import InputError
from drmc.pet import dicom_writing
from drmc.pet.dicom_writing import plan_series, write_series
from drmc.pet.reading import read_volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.engine import synthetic_dicom
from support.engine.denoised_series import (
    EQUIPMENT,
    GE,
    PHILIPS,
    SIEMENS,
    VALID,
    VENDORS,
    denoised,
    source,
    within_half_a_step,
    written,
)
from support.engine.denoising_cases import tree

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
    "StudyInstanceUID FrameOfReferenceUID SeriesDate SeriesTime AcquisitionDate AcquisitionTime Units "
    "PatientName "
    "PatientID PatientBirthDate PatientWeight AccessionNumber StudyDate FrameReferenceTime "
    "ActualFrameDuration "
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


# ---- values given by hand


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        ({"PatientWeight": None}, {"PatientWeight": "70"}),
        ({"RadionuclideTotalDose": 1.0e8}, {"RadionuclideTotalDose": "3.7e8"}),
        (
            {"injections": 0},
            {"RadionuclideTotalDose": "3.7e8", "RadionuclideHalfLife": "6586.2",
             "RadiopharmaceuticalStartTime": "10:00:00"},
        ),
        ({"RadiopharmaceuticalStartDateTime": "20240229113000"}, {"RadiopharmaceuticalStartDateTime": ""}),
        ({"AcquisitionTime": None, "SeriesTime": None},
         {"AcquisitionTime": "110000", "SeriesTime": "110000"}),
        ({"Units": "GML", "SUVType": "BW"}, {"SUVType": "LBM"}),
        ({**PHILIPS, "PatientWeight": None, "PhilipsActivityConcentrationScaleFactor": 1.8},
         {"PatientWeight": "70"}),
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
