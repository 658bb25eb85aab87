"""Brains, procedural and from tissue maps: volumes, sides, folds without speckles, one seed one brain."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.errors import InputError
from drmc.simulation.anatomy import Head, Phantom
from drmc.simulation.brain_maps import read_maps
from drmc.simulation.organs import ORGANS, organ_mask
from support.engine.synthetic_patients import centroid

BRAIN = ("gray_matter", "white_matter", "deep_gray", "cerebellum", "brainstem", "csf")
SPACING = (2.0, 2.0, 2.0)
SHAPE, ORIGIN = (90, 105, 90), (-98.0, -104.0, -89.0)


@cache
def head(seed: int, maps: Path | None = None) -> Phantom:
    return Head(seed, maps=maps).rasterize(SHAPE, SPACING, ORIGIN)


def milliliters(phantom: Phantom, organ: str) -> float:
    return float(organ_mask(phantom.organs, organ).sum()) * 8 / 1000


@pytest.mark.parametrize("seed", [3, 4])
def test_a_procedural_brain_has_human_volumes_and_no_speckles(seed):
    phantom = head(seed)
    assert 700 < milliliters(phantom, "gray_matter") < 1000
    assert 450 < milliliters(phantom, "white_matter") < 750
    for organ, bodies in (("gray_matter", 1), ("white_matter", 2)):  # white matter: cerebrum and cerebellum
        mask = organ_mask(phantom.organs, organ).numpy().astype(np.uint8)
        parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask), True))
        sizes = np.sort(np.bincount(parts[parts > 0]))
        assert sizes[-bodies:].sum() / sizes.sum() > 0.98, organ


def test_the_head_has_gray_matter_around_white_and_no_lesions():
    phantom = head(3)
    names = (*BRAIN, "skull", "muscle", "fat", "skin", "eye", "air")
    assert all(organ_mask(phantom.organs, name).any() for name in names)
    assert not phantom.lesions.any() and phantom.facts["lesions"] == []
    assert phantom.facts["brain"] == "procedural" and Head.diaphragm_mm is None
    suv = lambda organ: float(phantom.activity[organ_mask(phantom.organs, organ)].median())
    assert suv("gray_matter") > 1.5 * suv("white_matter")
    assert torch.equal(phantom.activity, Head(3).rasterize(SHAPE, SPACING, ORIGIN).activity)
    assert not torch.equal(phantom.activity, head(4).activity)


def test_a_slab_of_a_head_is_the_slab_of_the_whole():
    z, nz = slice(30, 60), 30
    slab = Head(3).rasterize((nz, *SHAPE[1:]), SPACING, (ORIGIN[0] + 60.0, *ORIGIN[1:]))
    assert float((slab.organs == head(3).organs[z]).float().mean()) > 0.9999
    assert float((slab.activity - head(3).activity[z]).abs().max()) < 2e-3


def test_another_tracer_leaves_the_brain_dark():
    phantom = Head(3, tracer="DOTATATE").rasterize((40, 50, 45), (4.0, 4.0, 4.0), ORIGIN)
    suv = lambda organ: float(phantom.activity[organ_mask(phantom.organs, organ)].median())
    assert suv("gray_matter") < 0.5 < suv("salivary")


# ---- from maps


@pytest.fixture(scope="module")
def maps(data_folder) -> Path:
    return data_folder / "mni_brain"


def test_a_brain_from_maps_is_a_warped_one_of_human_size(maps):
    first, second = head(3, maps), head(4, maps)
    for phantom in (first, second):
        assert phantom.facts["brain"] == "ICBM152"
        assert all(organ_mask(phantom.organs, name).any() for name in (*BRAIN, "skull", "skin"))
        assert 700 < milliliters(phantom, "gray_matter") < 1250
        assert 400 < milliliters(phantom, "white_matter") < 800
        assert 60 < milliliters(phantom, "cerebellum") < 260
        z, y, _ = centroid(organ_mask(phantom.organs, "cerebellum"), SPACING, ORIGIN)
        assert z < -30 and y > 25  # below and behind
        suv = lambda organ, p=phantom: float(p.activity[organ_mask(p.organs, organ)].median())
        assert suv("gray_matter") > 1.5 * suv("white_matter")
        assert organ_mask(phantom.organs, "skull").any(0).any(0).sum() > 60
        assert float(phantom.activity.min()) >= 0
    brains = [organ_mask(phantom.organs, "white_matter") for phantom in (first, second)]
    overlap = 2 * float((brains[0] & brains[1]).sum()) / float(brains[0].sum() + brains[1].sum())
    assert 0.2 < overlap < 0.85
    mirrored = organ_mask(first.organs, "white_matter").flip(2)
    assert not torch.equal(mirrored, brains[0])  # the template is symmetric, a patient is not


def test_a_brain_from_maps_is_the_same_again_and_in_a_slab(maps):
    slab = Head(3, maps=maps).rasterize((30, *SHAPE[1:]), SPACING, (ORIGIN[0] + 60.0, *ORIGIN[1:]))
    whole = head(3, maps)
    assert float((slab.organs == whole.organs[30:60]).float().mean()) > 0.9999
    assert float((slab.activity - whole.activity[30:60]).abs().max()) < 2e-3


def write_maps(folder: Path, *, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1), origin=(40.0, 40.0, -40.0)) -> None:
    """A ball of white matter in a shell of gray, with gray on one side of the middle: the left, x > 0."""
    axis = np.arange(81.0)
    physical = [origin[a] + direction[4 * a] * axis for a in range(3)]  # LPS
    x, y, z = physical[0][None, None], physical[1][None, :, None], physical[2][:, None, None]
    radius = np.sqrt(x**2 + y**2 + z**2)
    gray = ((radius < 30) & (radius > 25)) | ((np.abs(x - 12) < 5) & (np.abs(y) < 5) & (np.abs(z) < 5))
    for name, mask in (("gm", gray), ("wm", (radius < 30) & ~gray)):
        image = sitk.GetImageFromArray((mask * 255).astype(np.uint8))
        image.SetDirection([float(v) for v in direction])
        image.SetOrigin(origin)
        sitk.WriteImage(image, str(folder / f"mni_icbm152_{name}_test.nii.gz"))


def test_maps_are_turned_to_lps(tmp_path):
    write_maps(tmp_path)
    maps = read_maps(tmp_path)
    gray = maps.volumes[0]
    index = (
        (gray[37:44, 37:44, 18:63] > 0.9).nonzero().float().mean(0)
    )  # of the marker: the shell is elsewhere
    assert maps.origin[0] == pytest.approx(-40) and float(index[2]) + 18 + maps.origin[0] == pytest.approx(
        12, abs=2
    )
    assert maps.middle == pytest.approx((0, 0, 0), abs=1.5)
    assert float(maps.volumes[2][40, 40, 40]) == pytest.approx(-30, abs=3)  # distance to the outline
    assert float(maps.volumes[2][40, 40, 5]) == pytest.approx(5, abs=3)


def test_a_folder_without_the_maps_is_refused_in_one_line(tmp_path):
    def refused() -> str:
        read_maps.cache_clear()
        with pytest.raises(InputError) as refusal:
            Head(1, maps=tmp_path)
        assert "\n" not in str(refusal.value) and str(tmp_path) in str(refusal.value)
        return str(refusal.value)

    assert "holds no mni_icbm152_gm" in refused()
    write_maps(tmp_path)
    (tmp_path / "mni_icbm152_wm_test.nii.gz").unlink()
    assert "holds no mni_icbm152_wm" in refused()
    (tmp_path / "mni_icbm152_wm_test.nii.gz").write_bytes(b"not an image")
    assert "cannot be read" in refused()


def test_maps_of_different_grids_are_refused(tmp_path):
    write_maps(tmp_path)
    small = sitk.GetImageFromArray(np.zeros((10, 10, 10), np.uint8))
    sitk.WriteImage(small, str(tmp_path / "mni_icbm152_wm_test.nii.gz"))
    read_maps.cache_clear()
    with pytest.raises(InputError, match="one grid of 1 mm"):
        read_maps(tmp_path)


def test_labels_of_the_brain_have_no_left_side():
    assert not any(ORGANS[name].paired for name in BRAIN)
