"""PET volumes: geometry, what an image's values mean by its side-car, and files that must be refused."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.errors import InputError
from drmc.imaging.files import read_image, write_image
from drmc.imaging.formats import image_kind, stem
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from drmc.suv.decision import SUVDecision
from hypothesis import example, given, settings
from hypothesis import strategies as st

F18 = 6586.2
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
GRID = Geometry((4, 5, 6), (1.5, 2.5, 3.25), (-10.0, 20.5, 33.0), OBLIQUE)
BIDS = {
    "Units": "Bq/mL",
    "PatientWeight": 70,
    "InjectedRadioactivity": 370,
    "InjectedRadioactivityUnits": "MBq",
    "TracerRadionuclide": "F18",
    "InjectionStart": 0,
    "ScanStart": 3600,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 3600,
}
PLAIN = 70_000 / (3.7e8 * 2 ** (-3600 / F18))


def values(shape=(4, 5, 6), high: float = 12.0) -> np.ndarray:
    return np.random.default_rng(11).uniform(-0.5, high, shape).astype(np.float32)


def scan(folder: Path, sidecar: dict | None = None, name: str = "pet.nii.gz", array=None) -> Path:
    path = folder / name
    write_image(path, values() if array is None else array, GRID if array is None else Geometry(array.shape))
    if sidecar is not None:
        (folder / f"{stem(path)}.json").write_text(json.dumps(sidecar))
    return path


def refusal(path: Path, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------- geometry


def test_geometry_is_that_of_simpleitk():
    array = values()
    image = GRID.to_image(array)
    assert Geometry.from_image(image) == GRID
    assert image.GetPixel(2, 3, 1) == array[1, 3, 2]
    assert GRID.spacing_zyx == (3.25, 2.5, 1.5) and GRID.voxel_ml == pytest.approx(0.0121875)
    with pytest.raises(ValueError, match="shape"):
        GRID.to_image(array[1:])


def test_geometries_match_where_their_voxels_lie():
    def moved(**changes) -> Geometry:
        return Geometry(**{"shape": GRID.shape, "spacing": GRID.spacing, "origin": GRID.origin,
                           "direction": GRID.direction, **changes})  # fmt: skip

    assert GRID.matches(moved(origin=(-10.0004, 20.5, 33.0)))
    assert not GRID.matches(moved(origin=(-10.01, 20.5, 33.0)))
    assert not GRID.matches(moved(spacing=(1.501, 2.5, 3.25)))
    assert GRID.matches(moved(spacing=(1.501, 2.5, 3.25)), tolerance=0.01)
    assert not GRID.matches(moved(direction=Geometry(GRID.shape).direction))
    assert not GRID.matches(moved(shape=(4, 6, 5)))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "ä b.nii.gz"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 7, 5), (3, 1, 1)])
def test_writing_and_reading_keeps_every_bit_and_the_grid(tmp_path, name, shape):
    array, grid = values(shape), Geometry(shape, GRID.spacing, GRID.origin, GRID.direction)
    write_image(tmp_path / name, array, grid)
    volume = read_volume(tmp_path / name, units="SUV")
    assert volume.array.tobytes() == array.tobytes() and volume.geometry.matches(grid, tolerance=1e-4)
    assert volume.kind == image_kind(name) and volume.dicom_files == []
    assert [p.name for p in tmp_path.iterdir()] == [name], "no temporary file is left"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha"])
def test_endings_in_upper_case(tmp_path, name):
    write_image(tmp_path / name, values(), GRID)
    (tmp_path / name).rename(tmp_path / name.upper())
    assert np.array_equal(read_volume(tmp_path / name.upper(), units="suv").array, values())


def test_metadata_is_kept_where_the_format_can(tmp_path):
    write_image(tmp_path / "a.nrrd", values(), GRID, metadata={"Units": "SUV"})
    assert read_image(tmp_path / "a.nrrd").GetMetaData("Units") == "SUV"


def test_writing_where_nothing_can_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_image(tmp_path / "missing" / "a.nrrd", values(), GRID)
    with pytest.raises(InputError, match=r"\.nii\.gz"):
        write_image(tmp_path / "a.png", values(), GRID)


# ---------------------------------------------------------------------------------------- SUV of a volume


def test_suv_and_back():
    array = values(high=30_000.0)
    volume = PETVolume("BQML", SUVDecision(2.5e-4), Path("x"), "dicom", array=array, geometry=GRID)
    assert np.array_equal(volume.suv_array(), (array.astype(np.float64) * 2.5e-4).astype(np.float32))
    assert volume.from_suv(volume.suv_array()) == pytest.approx(array, rel=1e-6)
    assert not volume.from_suv(np.zeros_like(array)).any()
    factors = SUVDecision(2.5, factor_per_slice=(1.0, 2.0, 3.0, 4.0))
    per_slice = PETVolume("BQML", factors, Path("x"), "dicom", array=array, geometry=GRID)
    assert np.array_equal(per_slice.suv_array()[2], array[2] * 3)
    with pytest.raises(ValueError, match="shape"):
        volume.from_suv(array[:2])


# ---------------------------------------------------------------------------------------- units and side-cars


@pytest.mark.parametrize("units", ["SUV", "g/ml", "suv"])
def test_a_sidecar_that_says_suv(tmp_path, units):
    volume = read_volume(scan(tmp_path, {"Units": units, "TracerName": "FDG", "BodyWeight": 82.5}))
    assert (volume.suv.factor, volume.suv.rule, volume.units) == (1.0, "sidecar", "SUV")
    assert np.array_equal(volume.suv_array(), volume.array)
    assert volume.header["tracer"] == "FDG" and volume.suv.facts["weight_kg"] == 82.5


def test_the_sidecar_of_a_simulated_case(tmp_path):
    (tmp_path / "pet.json").write_text('{"Units": "SUV"}')
    assert read_volume(scan(tmp_path, name="low_x4.nii.gz")).suv.rule == "sidecar"
    (tmp_path / "low_x4.json").write_text('{"Units": "Bq/mL", "SUVFactor": 0.5}')
    assert read_volume(tmp_path / "low_x4.nii.gz").suv.factor == 0.5, "the file's own side-car comes first"


def test_a_sidecar_with_the_factor(tmp_path):
    volume = read_volume(scan(tmp_path, {"Units": "Bq/mL", "SUVFactor": 0.00025}))
    assert (volume.suv.factor, volume.units) == (0.00025, "BQML")
    volume = read_volume(scan(tmp_path, {"Units": "Bq/mL", "SUVFactor": [1, 2, 3, 6], "SUVType": "SUVbw"}))
    assert volume.suv.factor_per_slice == (1.0, 2.0, 3.0, 6.0) and volume.suv.factor == 3.0
    assert "3 values for 4 slices" in refusal(scan(tmp_path, {"Units": "Bq/mL", "SUVFactor": [1, 2, 3]}))


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, PLAIN),
        ({"InjectedRadioactivity": 3.7e8, "InjectedRadioactivityUnits": "Bq"}, PLAIN),
        ({"InjectedRadioactivityUnits": None}, PLAIN),
        ({"TracerRadionuclide": "Ga68"}, 70_000 / 3.7e8 * 2 ** (3600 / 4057.7)),
        ({"RadionuclideHalfLife": 6588}, 70_000 / 3.7e8 * 2 ** (3600 / 6588)),
        ({"ImageDecayCorrectionTime": 0}, 70_000 / 3.7e8),
        ({"ImageDecayCorrected": False, "FrameDuration": [300]}, PLAIN * 1.015872),
        ({"InjectionStart": -60, "ImageDecayCorrectionTime": 3540}, PLAIN),
        ({"BodyWeight": 70, "PatientWeight": None}, PLAIN),
    ],
)
def test_a_bids_sidecar(tmp_path, changes, factor):
    sidecar = {key: value for key, value in {**BIDS, **changes}.items() if value is not None}
    assert read_volume(scan(tmp_path, sidecar)).suv.factor == pytest.approx(factor, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Units": None}, '"Units"'),
        ({"Units": "kcps"}, '"Units"'),
        ({"PatientWeight": None}, '"PatientWeight" is missing'),
        ({"PatientWeight": 0}, '"PatientWeight"'),
        ({"InjectedRadioactivity": None}, '"InjectedRadioactivity" is missing'),
        ({"InjectedRadioactivity": "much"}, '"InjectedRadioactivity"'),
        ({"InjectedRadioactivityUnits": "mCi"}, "MBq"),
        ({"TracerRadionuclide": None}, '"RadionuclideHalfLife"'),
        ({"RadionuclideHalfLife": -1}, '"RadionuclideHalfLife"'),
        ({"ImageDecayCorrected": None}, "true or false"),
        ({"ImageDecayCorrectionTime": None}, '"ImageDecayCorrectionTime"'),
        ({"ImageDecayCorrected": False}, '"FrameDuration"'),
        ({"InjectionStart": 9000}, '"InjectionStart"'),
        ({"SUVFactor": 0}, '"SUVFactor"'),
        ({"SUVFactor": "NaN"}, '"SUVFactor"'),
        ({"ImageDecayCorrectionTime": 1e9}, "factor"),
    ],
)
def test_a_sidecar_that_does_not_suffice_names_its_key(tmp_path, changes, words):
    sidecar = {key: value for key, value in {**BIDS, **changes}.items() if value is not None}
    line = refusal(scan(tmp_path, sidecar))
    assert words in line and "pet.json" in line.replace("RadionuclideTotalDose", "pet.json")


@pytest.mark.parametrize("text", ["{", "[1, 2]", "\xff\xfe", "[" * 100_000])
def test_a_sidecar_that_is_none(tmp_path, text):
    path = scan(tmp_path)
    path.with_name("pet.json").write_text(text, encoding="latin-1")
    assert "JSON" in refusal(path)


def test_other_suv_types_need_the_patient(tmp_path):
    patient = {"PatientWeight": 70, "PatientSize": 1.75, "PatientSex": "Female"}
    path = scan(tmp_path, {"Units": "SUV", **patient})
    lean = 1.07 * 70 - 148 * 0.16
    assert read_volume(path, suv_type="lbmjames128").suv.factor == pytest.approx(lean / 70)
    stored = scan(tmp_path, {"Units": "SUV", "SUVType": "SUVlbm", **patient})
    assert read_volume(stored).suv.factor == pytest.approx(70 / lean)
    line = refusal(scan(tmp_path, {"Units": "SUV"}), suv_type="lbm")
    assert '"PatientWeight" is missing: this SUV type needs it' in line and line.count("pet.json") == 1
    assert "PatientSize" in refusal(scan(tmp_path, {"Units": "SUV", "PatientWeight": 70}), suv_type="bsa")
    (tmp_path / "pet.json").unlink()
    assert "needs" in refusal(tmp_path / "pet.nii.gz", suv_type="lbm") or "side-car" in refusal(
        tmp_path / "pet.nii.gz", suv_type="lbm"
    )


def test_without_a_sidecar_units_are_said(tmp_path):
    path = scan(tmp_path)
    line = refusal(path)
    assert "does not say its units" in line and "pet.json" in line and "--units suv" in line
    assert read_volume(path, units="suv").units == "SUV" and not read_volume(path, units="suv").notices
    activity = scan(tmp_path, name="bq.nii.gz", array=values(high=30_000.0))
    line = refusal(activity)
    assert "bq.json" in line and "--units suv" in line
    assert read_volume(activity, units="suv").suv.factor == 1.0, "the caller knows better"
    assert "bq.json" in refusal(activity, units="bqml")
    assert "do" in refusal(scan(tmp_path, name="zero.nii.gz", array=np.zeros((3, 3, 3), np.float32)))
    assert "furlongs" in refusal(path, units="furlongs")


@pytest.mark.parametrize("name", ["k.nii.gz", "k.nrrd", "k.mha"])
def test_an_activity_in_the_range_of_suv_is_not_taken_for_one(tmp_path, name):
    """kBq/ml (PMOD, STIR) has the values of an SUV: refused as unclear, accepted where it is stated."""
    path = scan(tmp_path, name=name, array=values(high=15.0))
    assert "does not say its units" in refusal(path)
    assert "kBq/ml by the caller, and nothing gives its SUV" in refusal(path, units="kbqml")
    card = {**BIDS, "Units": "kBq/mL"}
    path.with_name("k.json").write_text(json.dumps(card))
    known = read_volume(path)
    assert known.suv.factor == pytest.approx(1000 * PLAIN, rel=1e-9) and known.units == "KBQML"
    path.with_name("k.json").write_text(json.dumps({k: v for k, v in card.items() if k != "Units"}))
    assert read_volume(path, units="kbqml").suv.factor == known.suv.factor


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("Bq/ml", 1.0),
        ("BQML", 1.0),
        ("kBq/cc", 1e3),
        ("KBQ/ML", 1e3),
        ("kBq/cm3", 1e3),
        ("MBq/mL", 1e6),
        ("nCi/cc", 37.0),
        ("uCi/ml", 3.7e4),
        ("\u00b5Ci/ml", 3.7e4),
    ],
)
def test_units_of_activity_by_their_names(tmp_path, text, scale):
    path = scan(tmp_path, {**BIDS, "Units": text})
    assert read_volume(path).suv.factor == pytest.approx(PLAIN * scale, rel=1e-9)
    path.with_name("pet.json").write_text(json.dumps({"Units": text, "SUVFactor": 0.5}))
    assert read_volume(path).suv.factor == 0.5, "SUVFactor is the SUV of one stored unit"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("voxel units", "kBq/ml", "holds kBq/ml by its field voxel units"),
        ("units", "counts", "says by its field units that it holds 'counts'"),
        ("VoxelValueUnits", "CodeValue:kBq/ml|CodingSchemeDesignator:UCUM|CodeMeaning:x", "kBq/ml"),
    ],
)
def test_a_unit_that_a_field_states_is_never_guessed_away(tmp_path, key, value, words):
    write_image(tmp_path / "a.nrrd", values(), GRID, metadata={key: value})
    assert words in refusal(tmp_path / "a.nrrd")


def test_what_is_asked_without_effect_is_said(tmp_path):
    path = scan(tmp_path, {"Units": "SUV"})
    said = " ".join(read_volume(path, accept_rule="ST", series_uid="1.2.3").notices)
    assert "rule ST was accepted but has no effect" in said and "series UID has no effect" in said
    with pytest.raises(InputError, match="accept one of"):
        read_volume(path, accept_rule="NONSENSE")


def test_a_field_that_says_suv_is_held_to_be_one(tmp_path):
    field = np.zeros((12, 30, 30), np.float32)
    field[:, 5:25, 5:25] = 5000.0
    write_image(tmp_path / "a.nrrd", field, Geometry(field.shape, (4.0, 4.0, 4.0)), metadata={"units": "SUV"})
    assert "a.nrrd: units SUV: say what the voxels are with --units" in refusal(tmp_path / "a.nrrd")
    assert read_volume(tmp_path / "a.nrrd", accept_rule="SUV").suv.warnings


def test_a_sidecar_that_a_dataset_names_counts_for_any_image(tmp_path):
    pet = scan(tmp_path, name="patient7.nii.gz")
    (tmp_path / "pet.json").write_text(json.dumps({"Units": "Bq/mL", "SUVFactor": 0.5}))
    named = read_volume(pet, case=tmp_path / "pet.json")
    assert named.suv.factor == 0.5 and any("which the dataset names" in text for text in named.notices)
    pet.with_name("patient7.json").write_text('{"Units": "SUV"}')
    assert read_volume(pet, case=tmp_path / "pet.json").suv.factor == 1.0, "its own side-car comes first"


def test_a_case_s_sidecar_is_that_of_no_other_image(tmp_path):
    """pet.json belongs to pet.nii.gz or to the images of a case, not to whatever else lies in the folder."""
    card = {"Units": "Bq/mL", "SUVFactor": 0.01}
    pet = scan(tmp_path, card)
    other = scan(tmp_path, name="other_suv.nii.gz")
    assert "pet.json in the same folder is that of another image: not used" in refusal(other)
    asked = read_volume(other, units="suv")
    assert asked.suv.factor == 1.0 and any("not used" in text for text in asked.notices)
    assert read_volume(pet).suv.factor == 0.01 and read_volume(pet).suv.facts["sidecar"] == "pet.json"
    assert "not used" in refusal(scan(tmp_path, name="full.nii.gz")), "pet.json is that of pet.nii.gz"
    pet.unlink()
    assert "not used" in refusal(other)
    case = read_volume(tmp_path / "full.nii.gz")
    assert case.suv.factor == 0.01 and any("by pet.json of the case" in text for text in case.notices)


@pytest.mark.parametrize(
    ("changes", "uptake"),
    [
        ({"TimeZero": "10:00:00", "FrameTimesStart": [3600]}, 3600),  # TimeZero is the injection
        ({"InjectionStart": -3600, "ScanStart": 0, "FrameTimesStart": [0]}, 3600),  # TimeZero is the scan
        ({"InjectionStart": -3600, "ScanStart": 0, "FrameTimesStart": [600]}, 4200),
        ({"FrameTimesStart": 4200}, 4200),
        ({"ScanStart": None, "FrameTimesStart": [3600]}, 3600),
        ({}, 3600),
    ],
)
def test_the_times_of_a_bids_sidecar_count_from_time_zero(tmp_path, changes, uptake):
    frame = {"ImageDecayCorrected": False, "FrameDuration": [180]}
    card = {key: value for key, value in {**BIDS, **frame, **changes}.items() if value is not None}
    del card["ImageDecayCorrectionTime"]
    x = math.log(2) / F18 * 180
    expected = 70_000 / 3.7e8 * 2 ** (uptake / F18) * x / (1 - math.exp(-x))
    found = read_volume(scan(tmp_path, card)).suv
    assert found.factor == pytest.approx(expected, rel=1e-9) and found.facts["uptake_minutes"] == uptake / 60
    assert ("FrameTimesStart" in found.source) == ("FrameTimesStart" in card)


def test_a_frame_before_the_scan_is_asked_about(tmp_path):
    card = {**BIDS, "ImageDecayCorrected": False, "FrameDuration": [180], "FrameTimesStart": [0]}
    path = scan(tmp_path, card)
    assert '"FrameTimesStart" 0 s lies before "ScanStart" 3600 s' in refusal(path)
    taken = read_volume(path, accept_rule="CLOCK").suv
    assert taken.facts["uptake_minutes"] == 0.0 and any("FrameTimesStart" in text for text in taken.warnings)


def test_the_caller_and_the_sidecar_must_agree(tmp_path):
    path = scan(tmp_path, {"Units": "SUV"})
    assert read_volume(path, units="SUV").suv.factor == 1.0
    assert "correct one" in refusal(path, units="bqml")
    without = scan(tmp_path, {key: value for key, value in BIDS.items() if key != "Units"}, name="b.nii.gz")
    assert read_volume(without, units="bqml").suv.factor == pytest.approx(PLAIN, rel=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "units"),
    [
        ("sample units", "SUV", "SUV"),
        ("VoxelValueUnits", "CodeValue:{SUVbw}g/ml|CodingSchemeDesignator:UCUM|CodeMeaning:SUV", "SUV"),
        ("voxel units", "Bq/ml", None),
        ("voxel units", "{SUVlbm}g/ml", None),
    ],
)
def test_units_in_the_image_itself(tmp_path, key, value, units):
    write_image(tmp_path / "a.nrrd", values(high=900.0), GRID, metadata={key: value})
    if units is None:
        assert key in refusal(tmp_path / "a.nrrd")
    else:
        assert read_volume(tmp_path / "a.nrrd").units == units


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(tmp_path, value):
    array = values()
    array[1, 2, 3] = value
    path = scan(tmp_path, {"Units": "SUV"}, array=array)
    assert "1 voxels that are NaN or infinite" in refusal(path)


def test_doubles_beyond_single_precision(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 3, 3), 1e300)), str(tmp_path / "a.nrrd"))
    assert "NaN or infinite" in refusal(tmp_path / "a.nrrd", units="suv")


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float64, np.int32])
def test_other_pixel_types_become_float32(tmp_path, kind):
    array = np.arange(60).reshape(3, 4, 5).astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "a.nii.gz"))
    volume = read_volume(tmp_path / "a.nii.gz", units="suv")
    assert volume.array.dtype == np.float32 and np.array_equal(volume.array, array)


def test_images_that_are_no_scalar_volume(tmp_path):
    def write(image: sitk.Image, name: str) -> Path:
        sitk.WriteImage(image, str(tmp_path / name))
        return tmp_path / name

    scalar = sitk.GetImageFromArray(values())
    assert "4-D (6x5x4x2)" in refusal(write(sitk.JoinSeries([scalar, scalar]), "d4.nii.gz"), units="suv")
    assert "2-D" in refusal(write(scalar[:, :, 1], "d2.mha"), units="suv")
    assert "2 values per voxel" in refusal(write(sitk.Compose([scalar, scalar]), "vector.nrrd"), units="suv")
    complex_image = sitk.RealAndImaginaryToComplex(scalar, scalar)
    assert "complex" in refusal(write(complex_image, "complex.nii.gz"), units="suv")
    single = read_volume(write(sitk.JoinSeries([scalar]), "d41.mha"), units="suv")
    assert single.geometry.shape == (4, 5, 6)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_truncated_and_empty_images(tmp_path, name, capfd):
    array = np.random.default_rng(2).uniform(0, 10, (8, 16, 16)).astype(np.float32)
    path = scan(tmp_path, {"Units": "SUV"}, name=name, array=array)
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:size])
        assert name in refusal(path)
    assert capfd.readouterr() == ("", ""), "no chatter of the libraries"


def test_a_nifti_with_a_damaged_stream(tmp_path):
    path = scan(tmp_path, {"Units": "SUV"}, array=np.ones((8, 16, 16), np.float32))
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 0xFF  # the checksum
    path.write_bytes(raw)
    assert "CRC check failed" in refusal(path)
    path.write_bytes(gzip.compress(b"no image at all" * 100))
    assert "pet.nii.gz" in refusal(path)


def test_a_geometry_that_is_none(tmp_path):
    header = (
        "ObjectType = Image\nNDims = 3\nDimSize = {}\nElementSpacing = {}\n"
        "ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
    path = tmp_path / "a.mha"
    for size, spacing in (("2 2 2", "1 1 0"), ("2 0 2", "1 1 1"), ("2 2 2", "1 nan 1")):
        path.write_bytes(header.format(size, spacing).encode() + np.ones(8, np.float32).tobytes())
        assert "a.mha" in refusal(path, units="suv")


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.nrrd").write_text("NRRD0004\nbut no more")
    assert "a.nrrd" in refusal(tmp_path / "a.nrrd")
    assert "does not exist" in refusal(tmp_path / "b.nii.gz")
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "b.nrrd")


@pytest.mark.parametrize(
    ("name", "kind", "base"),
    [
        ("x.nii.gz", "nifti", "x"),
        ("x.y.NII", "nifti", "x.y"),
        ("x.seg.nrrd", "nrrd", "x.seg"),
        ("x.mha", "mha", "x"),
        ("x.dcm", None, "x"),
    ],
)
def test_names(name, kind, base):
    assert image_kind(name) == kind and stem(f"/some/where/{name}") == base


@settings(max_examples=60, deadline=None)
@example({"InjectedRadioactivity": 1.8e302})  # finite in MBq, not in Bq
@given(
    st.dictionaries(
        st.sampled_from(
            [*BIDS, "SUVFactor", "SUVType", "FrameDuration", "RadionuclideHalfLife", "PatientSize"]
        ),
        st.one_of(
            st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.lists(st.floats(), max_size=2)
        ),
    )
)
def test_any_sidecar_gives_a_usable_factor_or_a_refusal(tmp_path_factory, changes):
    from drmc.suv.sidecar import decide_sidecar

    sidecar = {**BIDS, **changes}
    for stored in ("SUV", "BQML"):
        try:
            decision = decide_sidecar(sidecar, stored, "bw", "x.json", 4)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert 0 < decision.factor < math.inf
            json.dumps(decision.to_dict(), allow_nan=False)
