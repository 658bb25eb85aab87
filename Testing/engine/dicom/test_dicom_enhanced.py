"""Multi-frame PET: the same decision and the same voxels as the classic series, and what is refused."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drmc.errors import InputError
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from support.engine.dicom_checker import complaints
from support.engine.synthetic_dicom import SECRETS, VENDORS, write_series
from support.engine.synthetic_enhanced import real_world

ARRAY = np.random.default_rng(11).uniform(0.0, 2e4, (5, 6, 7)) * 10.0 ** np.arange(5)[:, None, None]
FORMS = ("enhanced", "legacy")
PLAIN = 70_000 / (3.7e8 * 2 ** (-3600 / 6586.2))  # SUVbw per Bq/ml of the synthetic scan


def written(
    folder: Path, form: str = "enhanced", change: Callable[[Dataset], None] | None = None, **header
) -> PETVolume:
    """The synthetic scan in one of its forms, read back."""
    write_series(folder / form, ARRAY, form=form, change=change, **header)
    return read_volume(folder / form)


def refusal(folder: Path, form: str = "enhanced", change=None, **header) -> str:
    with pytest.raises(InputError) as caught:
        written(folder, form, change, **header)
    line = str(caught.value)
    assert "\n" not in line and not any(secret in line for secret in SECRETS)
    return line


def groups(ds: Dataset) -> list[Dataset]:
    return list(ds.PerFrameFunctionalGroupsSequence)


# ---------------------------------------------------------------------------------------- the same decision


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_form_of_a_scan_gives_the_same_decision_and_voxels(tmp_path, vendor):
    header = VENDORS[vendor]
    classic, enhanced, legacy = (written(tmp_path, form, **header) for form in ("classic", *FORMS))
    assert legacy.suv.to_dict() == classic.suv.to_dict(), "it has all that the classic slices say"
    assert enhanced.suv.factor == pytest.approx(classic.suv.factor, rel=1e-7)
    assert enhanced.suv.type == classic.suv.type and enhanced.units == classic.units
    assert enhanced.suv.rule in (classic.suv.rule, "DCDT")
    if classic.suv.factor_per_slice is not None:
        assert enhanced.suv.factor_per_slice == pytest.approx(classic.suv.factor_per_slice, rel=1e-12)
    said = [w for w in classic.suv.warnings + enhanced.suv.warnings if "AT_MIN" not in w and "BACK" not in w]
    assert not said
    for form in (enhanced, legacy):
        assert form.geometry == classic.geometry
        assert np.allclose(form.array, classic.array, rtol=1e-6, atol=0)
        assert len(form.dicom_files) == 1
        for key in ("manufacturer", "model", "frame_duration_s", "slices", "spacing_mm"):
            assert form.header.get(key) == classic.header.get(key)


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_an_independent_converter_writes(tmp_path, vendor):
    """Highdicom decides by itself what goes into functional groups and what stays unassigned."""
    legacy = pytest.importorskip("highdicom.legacy")
    needed = {"StudyID": "", "StudyDate": "20240229", "StudyTime": "110000", "ReferringPhysicianName": ""}
    files = write_series(tmp_path / "classic", ARRAY, SeriesNumber=1, **needed, **VENDORS[vendor])
    converted = legacy.LegacyConvertedEnhancedPETImage(
        [pydicom.dcmread(file) for file in reversed(files)],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    (tmp_path / "converted").mkdir()
    converted.save_as(tmp_path / "converted" / "image.dcm")
    classic, found = read_volume(tmp_path / "classic"), read_volume(tmp_path / "converted")
    assert found.suv.to_dict() == classic.suv.to_dict()
    assert np.array_equal(found.array, classic.array) and found.geometry == classic.geometry


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_the_synthetic_images_keep_to_the_standard(tmp_path, vendor, form):
    (file,) = write_series(tmp_path, ARRAY, form=form, **VENDORS[vendor])
    assert not complaints(file, "PETImage")


@pytest.mark.parametrize("form", ["classic", *FORMS])
@pytest.mark.parametrize("units", ["CPS", "PROPCNTS"])
def test_units_that_cannot_become_suv(tmp_path, form, units):
    line = refusal(tmp_path, form, Manufacturer="GE MEDICAL SYSTEMS", Units=units)
    assert units in line and ("(0040,08EA)" if form == "enhanced" else "(0054,1001)") in line


def test_the_dose_of_enhanced_pet_is_in_mbq(tmp_path):
    volume = written(tmp_path)
    assert volume.suv.factor == pytest.approx(PLAIN, rel=1e-9) and volume.suv.facts["dose_bq"] == 3.7e8


# ---------------------------------------------------------------------------------------- reference time


def test_the_decay_correction_time_of_enhanced_pet_decides(tmp_path):
    """Reconstructed again an hour later, or begun before the scan: neither moves the reference time."""
    for series_time in ("120000", "104000", None):
        volume = written(tmp_path / str(series_time), SeriesTime=series_time, SeriesDate=None)
        assert volume.suv.rule == "DCDT" and volume.suv.factor == pytest.approx(PLAIN, rel=1e-9)
        assert "(0018,9701)" in volume.suv.source
        assert bool(volume.suv.warnings) == (series_time == "104000")


def test_without_its_decay_correction_time_it_is_decided_as_a_classic_series(tmp_path):
    volume = written(tmp_path, change=lambda ds: ds.pop("DecayCorrectionDateTime"))
    assert volume.suv.rule == "ST" and volume.suv.factor == pytest.approx(PLAIN, rel=1e-9)
    # It may have been any time, the injection among them: that travels with the numbers.
    assert any("(0018,9701) is missing" in warning for warning in volume.suv.warnings)

    def damaged(ds):
        ds.DecayCorrectionDateTime = "20250229110000"

    volume = written(tmp_path / "damaged", change=damaged)
    assert volume.suv.rule == "ST" and any("(0018,9701)" in warning for warning in volume.suv.warnings)


def test_a_stated_time_zone_is_used(tmp_path):
    def utc(ds):
        ds.TimezoneOffsetFromUTC = "+0100"
        ds.DecayCorrectionDateTime = "20240229100000+0000"

    volume = written(tmp_path, change=utc)
    assert volume.suv.factor == pytest.approx(PLAIN, rel=1e-9)
    assert volume.suv.reference_time == "2024-02-29T11:00:00"


def test_a_decay_factor_that_fits_no_frame_time_is_warned_of(tmp_path):
    def other(ds):
        for group in groups(ds):
            group.PETFrameCorrectionFactorsSequence[0].DecayFactor = 1.3

    assert any(
        "DecayFactor (0054,1321)" in warning for warning in written(tmp_path, change=other).suv.warnings
    )


# ---------------------------------------------------------------------------------------- values


def test_the_slope_of_the_real_world_value_counts(tmp_path):
    """SUV and activity are both offered: activity is read; the modality rescale is for displays."""

    def two(ds):
        for group in groups(ds):
            activity = group.RealWorldValueMappingSequence[0]
            one = Dataset()
            one.RescaleIntercept, one.PixelRepresentation, one.Units = 0, 1, "GML"
            suv = real_world(one, ("{SUVbw}g/ml", "SUV"), activity.RealWorldValueSlope * PLAIN)
            group.RealWorldValueMappingSequence = [suv, activity]

    def suv_only(ds):
        two(ds)
        for group in groups(ds):
            del group.RealWorldValueMappingSequence[1]

    plain, both, suv = (written(tmp_path / str(i), change=c) for i, c in enumerate((None, two, suv_only)))
    assert both.units == "BQML" and np.array_equal(both.array, plain.array)
    assert (suv.units, suv.suv.factor) == ("GML", 1.0)
    assert np.allclose(suv.suv_array(), plain.suv_array(), rtol=1e-6)


def test_shared_groups_stand_for_every_frame(tmp_path):
    def shared(ds):
        common = ds.SharedFunctionalGroupsSequence[0]
        common.RealWorldValueMappingSequence = groups(ds)[0].RealWorldValueMappingSequence
        for group in groups(ds):
            del group.RealWorldValueMappingSequence

    slope = 0.123456789012345678  # more digits than a DS holds

    def steep(ds):
        shared(ds)
        common = ds.SharedFunctionalGroupsSequence[0]
        common.RealWorldValueMappingSequence[0].RealWorldValueSlope = slope

    volume = written(tmp_path, change=steep)
    stored = pydicom.dcmread(volume.dicom_files[0]).pixel_array
    assert np.array_equal(volume.array, (stored * slope).astype(np.float32))


def test_frames_in_any_order(tmp_path):
    order = [3, 0, 4, 2, 1]

    def shuffled(ds):
        voxels = np.frombuffer(ds.PixelData, "<i2").reshape(5, -1)
        ds.PixelData = np.ascontiguousarray(voxels[order]).tobytes()
        ds.PerFrameFunctionalGroupsSequence = [groups(ds)[i] for i in order]

    for form in FORMS:
        plain = written(tmp_path / "plain", form, **VENDORS["Siemens beds with their own times"])
        mixed = written(tmp_path / "mixed", form, shuffled, **VENDORS["Siemens beds with their own times"])
        assert np.array_equal(mixed.array, plain.array) and mixed.geometry == plain.geometry
        assert mixed.suv.factor == plain.suv.factor


def test_compressed_frames(tmp_path):
    plain = written(tmp_path)
    write_series(tmp_path / "rle", ARRAY, form="enhanced", rle=True)
    assert np.array_equal(read_volume(tmp_path / "rle").array, plain.array)


def test_a_concatenation_is_one_image(tmp_path):
    def part(number, total=2):
        def change(ds):
            ds.ConcatenationUID, ds.InConcatenationNumber, ds.InConcatenationTotalNumber = (
                "1.2.3",
                number,
                total,
            )
            first, last = (0, 2) if number == 1 else (2, 5)
            ds.PerFrameFunctionalGroupsSequence = groups(ds)[first:last]
            ds.PixelData = ds.PixelData[first * 84 : last * 84]
            ds.NumberOfFrames = last - first

        return change

    plain = written(tmp_path)
    same = dict.fromkeys(("SeriesInstanceUID", "FrameOfReferenceUID"), generate_uid())
    for number in (2, 1):
        write_series(
            tmp_path / "parts",
            ARRAY,
            form="enhanced",
            change=part(number),
            names=f"{number}{{}}".format,
            **same,
        )
    assert np.array_equal(read_volume(tmp_path / "parts").array, plain.array)
    whole = read_volume(tmp_path / "parts")
    assert len(whole.dicom_files) == 2 and whole.notices == plain.notices
    (tmp_path / "parts" / "10").unlink()
    with pytest.raises(InputError, match="only parts 2 of a concatenation of 2"):
        read_volume(tmp_path / "parts")


# ---------------------------------------------------------------------------------------- choosing


def test_a_series_and_its_conversion_are_listed_and_chosen_by_uid(tmp_path):
    classic, legacy = generate_uid(), generate_uid()
    write_series(tmp_path, ARRAY, SeriesInstanceUID=classic)
    write_series(tmp_path, ARRAY, form="legacy", SeriesInstanceUID=legacy, names="all{}.dcm".format)
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path)
    line = str(caught.value)
    assert f"{classic} (PT, 5 images, attenuation-corrected, BQML)" in line and "--series" in line
    assert f"{legacy} (PT, 5 frames of Legacy Converted Enhanced PET, attenuation-corrected, BQML)" in line
    first, second = read_volume(tmp_path, series_uid=classic), read_volume(tmp_path, series_uid=legacy)
    assert np.array_equal(first.array, second.array) and len(second.dicom_files) == 1
    assert np.array_equal(read_volume(tmp_path / "all0.dcm").array, first.array)


# ---------------------------------------------------------------------------------------- refusals


def each(**values) -> Callable[[Dataset], None]:
    """Sets elements of FrameContentSequence, each a function of the frame's index."""

    def change(ds):
        for index, group in enumerate(groups(ds)):
            for key, value in values.items():
                setattr(group.FrameContentSequence[0], key, value(index))

    return change


def top(**values) -> Callable[[Dataset], None]:
    def change(ds):
        for key, value in values.items():
            setattr(ds, key, value)

    return change


def kind(**values) -> Callable[[Dataset], None]:
    return lambda ds: top(**values)(ds.SharedFunctionalGroupsSequence[0].PETFrameTypeSequence[0])


def without(keyword: str) -> Callable[[Dataset], None]:
    """Removes a functional group, shared or per frame."""

    def change(ds):
        for group in (ds.SharedFunctionalGroupsSequence[0], *groups(ds)):
            group.pop(keyword, None)

    return change


def mapping(**values) -> Callable[[Dataset], None]:
    return lambda ds: top(**values)(groups(ds)[2].RealWorldValueMappingSequence[0])


def _twice(ds: Dataset) -> None:
    sequence = groups(ds)[1].RealWorldValueMappingSequence
    sequence.append(copy.deepcopy(sequence[0]))


def _one_place(ds: Dataset) -> None:
    groups(ds)[3].PlanePositionSequence = groups(ds)[2].PlanePositionSequence
    groups(ds)[3].FrameContentSequence[0].FrameAcquisitionDateTime = "20240229110500"


def _gap(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[2]
    ds.NumberOfFrames = 4
    ds.PixelData = ds.PixelData[: 84 * 2] + ds.PixelData[84 * 3 :]


REFUSALS = {
    "several stacks": (each(StackID=lambda i: str(i // 3)), "(0020,9056)", "several stacks"),
    "dynamic": (each(TemporalPositionIndex=lambda i: i % 2 + 1), "(0020,9128)", "dynamic"),
    "dynamic by its type": (
        kind(FrameType=["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"]),
        "(0008,9007)",
        "static",
    ),
    "gated": (kind(FrameType=["ORIGINAL", "PRIMARY", "RESP_GATED", "NONE"]), "(0008,9007)", "static"),
    "cardiac": (top(CardiacSynchronizationTechnique="RETROSPECTIVE"), "(0018,9037)", "static"),
    "projection": (kind(VolumeBasedCalculationTechnique="MAX_IP"), "(0008,9207)", "MAX_IP"),
    "no volume": (kind(VolumetricProperties="DISTORTED"), "(0008,9206)", "DISTORTED"),
    "transmission": (top(CountsSource="TRANSMISSION"), "(0054,1002)", "TRANSMISSION"),
    "no position": (without("PlanePositionSequence"), "(0020,0032)", "missing"),
    "no orientation": (without("PlaneOrientationSequence"), "(0020,0037)", "missing"),
    "no spacing": (without("PixelMeasuresSequence"), "(0028,0030)", "missing"),
    "one place twice": (_one_place, "(0020,0032)", "frame 3 and IM0000.dcm frame 4"),
    "a gap": (_gap, "(0020,0032)", "frame 2 is 6.000 mm"),
    "frames missing": (top(NumberOfFrames=7), "(5200,9230)", "damaged"),
    "no groups": (lambda ds: ds.pop("PerFrameFunctionalGroupsSequence"), "(5200,9230)", "damaged"),
    "no unit": (without("RealWorldValueMappingSequence"), "(0040,08EA)", "not known"),
    "a unit of metabolism": (
        lambda ds: [
            top(CodeValue="umol/min/ml")(g.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0])
            for g in groups(ds)
        ],
        "(0040,08EA)",
        "not known",
    ),
    "two lines": (_twice, "(0040,9096)", "one straight line"),
    "no slope": (
        lambda ds: groups(ds)[2].RealWorldValueMappingSequence[0].pop("RealWorldValueSlope"),
        "(0040,9225)",
        "",
    ),
    "negative slope": (mapping(RealWorldValueSlope=-1.0), "(0040,9225)", ""),
    "intercept": (mapping(RealWorldValueIntercept=5.0), "(0040,9224)", "it is 0"),
    "not attenuation-corrected": (top(AttenuationCorrected="NO"), "(0018,9758)", "lacks ATTN"),
    "nobody knows whether decay-corrected": (lambda ds: ds.pop("DecayCorrected"), "(0018,9758)", "restore"),
    "two injections": (
        lambda ds: ds.RadiopharmaceuticalInformationSequence.append(
            copy.deepcopy(ds.RadiopharmaceuticalInformationSequence[0])
        ),
        "(0054,0016)",
        "2 injections",
    ),
    "no dose": (
        lambda ds: ds.RadiopharmaceuticalInformationSequence[0].pop("RadionuclideTotalDose"),
        "(0018,1074)",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_the_tag(tmp_path, case):
    change, tag, said = REFUSALS[case]
    line = refusal(tmp_path, change=change)
    assert tag in line and said in line, line
    assert len(line) < 420 + len(str(tmp_path))


def test_a_converted_gated_series(tmp_path):
    assert "GATED" in refusal(tmp_path, "legacy", SeriesType=["GATED", "IMAGE"])


def test_two_images_of_one_series(tmp_path):
    same = dict.fromkeys(("SeriesInstanceUID", "FrameOfReferenceUID"), generate_uid())
    for number in range(2):
        write_series(tmp_path, ARRAY, form="enhanced", names=f"{number}{{}}".format, **same)
    with pytest.raises(InputError, match="2 multi-frame images of one series"):
        read_volume(tmp_path)


def test_a_truncated_multi_frame_file(tmp_path):
    (file,) = write_series(tmp_path / "whole", ARRAY, form="enhanced")
    content = file.read_bytes()
    for size in range(140, len(content) - 2, len(content) // 25):
        folder = tmp_path / str(size)
        folder.mkdir()
        shutil.copy(file, folder)
        (folder / file.name).write_bytes(content[:size])
        with pytest.raises(InputError, match="truncated"):
            read_volume(folder)
