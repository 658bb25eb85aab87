"""The shipped model of organs on a real scan without ground truth: what any reader would see at once.

GE Discovery ST, skull base to thigh, a sarcoma in the left thigh. Places were read off the image, in mm from
the first voxel along z (to the head), y (to the back) and x (to the left). Skips where the scan or the model
is not there; a folder in DRMC_MODELS gives another one of that name.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.models.card import ModelEntry
from drmc.models.registry import find_model
from drmc.organs.segmenter import Segmenter
from drmc.organs.table import by_name, classes
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from support import REPOSITORY

MODEL = "drmc-organs"
ANCHORS = {
    "liver": (499, 307, 245),
    "heart": (578, 279, 356),
    "urinary_bladder": (204, 334, 310),
    "kidney_right": (399, 353, 248),
    "kidney_left": (411, 352, 379),
}
VOLUMES_ML = {
    "liver": (900, 2600),
    "spleen": (60, 450),
    "kidney_left": (80, 280),
    "kidney_right": (80, 280),
    "heart": (350, 1000),
    "urinary_bladder": (30, 700),
}
LUNGS_ML, BRAIN_BASE_ML = (1200, 6000), 60
LIVER_SUV = (2.05, 0.25)
FROM_HEAD_TO_FOOT = ("thyroid_gland", "heart", "liver", "kidney_left", "urinary_bladder")
BONES = ("hip_left", "hip_right", "femur_left", "femur_right", "sacrum", "vertebrae")
AGREEMENT = {
    **dict.fromkeys(("liver", "lung_left", "lung_right", "urinary_bladder"), 0.9),
    **dict.fromkeys(("kidney_left", "kidney_right", "heart", "spleen"), 0.8),
}
"""Least Dice between labels at full and at low dose."""


@pytest.fixture(scope="module")
def model() -> ModelEntry:
    try:
        return find_model(MODEL)
    except InputError:
        pytest.skip(f"no model {MODEL} is installed")


@pytest.fixture(scope="module")
def scan_folder(data_folder, model) -> Path:
    return data_folder / "ge_wb_sts001" / "image"


@pytest.fixture(scope="module")
def volume(scan_folder) -> PETVolume:
    return read_volume(scan_folder)


@pytest.fixture(scope="module")
def segmenter(model) -> Segmenter:
    return Segmenter.from_model(model, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def labels(volume, segmenter) -> np.ndarray:
    return segmenter.segment(volume.suv_array(), volume.geometry).labels


def index_of(key: str) -> int:
    return by_name()[key].index


def ml(labels: np.ndarray, key: str, volume: PETVolume) -> float:
    return float((labels == index_of(key)).sum()) * volume.geometry.voxel_ml


def place_of(key: str, volume: PETVolume) -> tuple[int, ...]:
    """The voxel of an anchor."""
    return tuple(round(mm / s) for mm, s in zip(ANCHORS[key], volume.geometry.spacing_zyx, strict=True))


def middle(labels: np.ndarray, key: str) -> np.ndarray:
    """Centroid (z, y, x) in voxels."""
    return np.argwhere(labels == index_of(key)).mean(0)


def test_the_places_are_what_they_are_said_to_be(data_folder):
    """Whatever the model: hot bladder and kidneys, an even liver, a hot wall around the left ventricle."""
    volume = read_volume(data_folder / "ge_wb_sts001" / "image")
    assert volume.geometry.direction == Geometry((1, 1, 1)).direction
    suv = volume.suv_array()

    def around(key: str, reach: int = 1) -> np.ndarray:
        return suv[tuple(slice(place - reach, place + reach + 1) for place in place_of(key, volume))]

    assert around("urinary_bladder").mean() > 10
    assert around("kidney_left").mean() > 3 and around("kidney_right").mean() > 3
    assert around("liver").mean() == pytest.approx(LIVER_SUV[0], abs=0.4)
    assert around("heart", 5).max() > 8 and around("heart").mean() < 4


def test_what_is_in_the_field_is_found_and_the_brain_is_not_invented(labels, volume):
    wanted = ("liver", "heart", "urinary_bladder", "spleen", "aorta")
    for key in (*wanted, "kidney_left", "kidney_right", "lung_left", "lung_right"):
        assert (labels == index_of(key)).any(), key
    assert ml(labels, "brain", volume) < BRAIN_BASE_ML


@pytest.mark.parametrize("key", ANCHORS)
def test_a_place_in_an_organ_has_its_label(labels, volume, key):
    found = int(labels[place_of(key, volume)])
    assert found == index_of(key), classes()[found - 1].name if found else "background"


@pytest.mark.parametrize("key", VOLUMES_ML)
def test_volumes_are_those_of_an_adult(labels, volume, key):
    low, high = VOLUMES_ML[key]
    assert low <= ml(labels, key, volume) <= high


def test_both_lungs_together_have_the_volume_of_an_adults(labels, volume):
    both = sum(ml(labels, key, volume) for key in ("lung_left", "lung_right"))
    assert LUNGS_ML[0] <= both <= LUNGS_ML[1]


def test_the_livers_uptake_is_that_read_by_hand(labels, volume):
    mean, tolerance = LIVER_SUV
    assert volume.suv_array()[labels == index_of("liver")].mean() == pytest.approx(mean, abs=tolerance)


def test_left_is_left_and_the_head_is_up(labels):
    x = {key: middle(labels, key)[2] for key in ("liver", "spleen", "kidney_left", "kidney_right")}
    assert x["liver"] < x["spleen"] and x["kidney_right"] < x["kidney_left"]
    heights = [middle(labels, key)[0] for key in FROM_HEAD_TO_FOOT if (labels == index_of(key)).any()]
    assert heights == sorted(heights, reverse=True) and len(heights) >= 4


def test_the_tumor_in_the_thigh_is_neither_bladder_nor_bone(labels, volume, data_folder):
    mask = sitk.ReadImage(str(data_folder / "ge_wb_sts001" / "GTV_Mass_fullgrid.nii.gz"))
    tumor = sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "LPS")) > 0
    hot = tumor & (volume.suv_array() > 2.5)
    assert hot.sum() > 1000
    found = labels[hot]
    assert not (found == index_of("urinary_bladder")).any()
    assert np.isin(found, [index_of(key) for key in BONES]).mean() < 0.05


def dice(one: np.ndarray, other: np.ndarray, key: str) -> float:
    first, second = one == index_of(key), other == index_of(key)
    return float(2 * (first & second).sum() / max(1, first.sum() + second.sum()))


@pytest.mark.parametrize("code", ["RAS", "LAI"])
def test_axes_that_are_flipped_by_the_header_change_no_label(labels, volume, segmenter, code):
    turned = sitk.DICOMOrient(volume.geometry.to_image(volume.suv_array()), code)
    geometry = Geometry.from_image(turned)
    found = segmenter.segment(sitk.GetArrayFromImage(turned), geometry).labels
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(geometry.to_image(found), "LPS"))
    assert (back == labels).mean() > 0.9995
    for one in classes():
        if (labels == one.index).sum() > 100:
            assert dice(back, labels, one.key) > 0.98, one.name


@pytest.fixture(scope="module")
def low_doses(scan_folder, tmp_path_factory, segmenter) -> dict[float, np.ndarray]:
    """Labels of the scan measured again by a simulated scanner, by dose reduction factor."""
    folder = tmp_path_factory.mktemp("semi-real")
    centers = json.loads((REPOSITORY / "Resources" / "Scanners" / "organs-4mm.json").read_text())
    centers["centers"] = {"O1": centers["centers"]["O1"]}
    (folder / "o1.json").write_text(json.dumps(centers))
    arguments = ["simulate", "--device", "cpu", "--centers", str(folder / "o1.json"), "--patients", "1"]
    arguments += ["--semi-real", str(scan_folder), "--drf", "4,12", "-o", str(folder / "data")]
    assert cli.main(arguments) == 0
    (case,) = read_manifest(folder / "data")
    found = {}
    for factor, path in ((1.0, case.full), *case.low.items()):
        image = case.read(path)
        found[factor] = segmenter.segment(image.suv_array(), image.geometry).labels
    return found


@pytest.mark.parametrize("factor", [4.0, 12.0])
@pytest.mark.parametrize("key", AGREEMENT)
def test_a_low_dose_gives_the_labels_of_the_full_one(low_doses, factor, key):
    assert dice(low_doses[factor], low_doses[1.0], key) > AGREEMENT[key]
