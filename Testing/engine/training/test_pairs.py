"""Pairs kept on disk are those in memory, and what training aims at is what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.datasets.manifest import read_manifest, select
from drmc.errors import InputError
from drmc.networks.protocol import INPUT_SCALE
from drmc.training.loop import train
from drmc.training.objectives import charbonnier
from drmc.training.pairs import Pair, Wanted, fingerprint, kept_pairs, load_pairs
from drmc.training.virtual_spots import PEAKS_SUV, draw_spots
from support.engine.small_training import (
    CENTERS,
    checkpoint,
    made_pair,
    make_dataset,
    same,
    sampler_of,
    tiny_config,
    write_nifti,
)

ALL = Wanted(lesions=True, noise_free=True)


@pytest.fixture
def dataset(tmp_path) -> Path:
    """The small dataset with a second dose, an image without noise and lesions in every case."""
    folder = make_dataset(tmp_path / "data")
    manifest = json.loads((folder / "dataset.json").read_text())
    for entry in manifest["cases"]:
        place = folder / entry["id"]
        full = sitk.GetArrayFromImage(sitk.ReadImage(str(place / "full.nii.gz")))
        write_nifti(
            place / "lower.nii.gz",
            full + 0.5 * np.sign(full) * np.sin(np.arange(full.size)).reshape(full.shape),
        )
        write_nifti(place / "noise_free.nii.gz", 0.9 * full)
        labels = np.zeros(full.shape, np.uint8)
        labels[12:15, 12:15, 16:19] = 1
        image = sitk.GetImageFromArray(labels)
        image.SetSpacing((2.0,) * 3)
        sitk.WriteImage(image, str(place / "lesions.nii.gz"))
        entry["low"]["9"] = f"{entry['id']}/lower.nii.gz"
        entry |= {name: f"{entry['id']}/{name}.nii.gz" for name in ("noise_free", "lesions")}
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


def equal(one: Pair, other: Pair) -> bool:
    arrays = all(
        (a is None) == (b is None) and (a is None or (np.array_equal(a, b) and a.dtype == b.dtype))
        for a, b in (
            (getattr(one, f), getattr(other, f)) for f in vars(one) if f not in ("case_id", "lesions")
        )
        if isinstance(a, (np.ndarray, type(None)))
    )
    lesions = [tuple(map(np.ndarray.tolist, pair.lesions)) for pair in (one, other)]
    return arrays and lesions[0] == lesions[1] and one.dose_reduction_factor == other.dose_reduction_factor


def test_kept_pairs_are_those_in_memory_and_are_read_only_once(dataset, tmp_path):
    case = read_manifest(dataset)[0]
    made, kept = load_pairs(case, wanted=ALL), kept_pairs(case, tmp_path / "kept", wanted=ALL)
    assert [pair.dose_reduction_factor for pair in made] == [4.0, 9.0]
    assert len(made[0].lesions) == 1 and made[0].lesion_mask.sum() == 27 + 6 * 9
    assert all(equal(a, b) for a, b in zip(made, kept, strict=True))
    assert isinstance(kept[0].low, np.memmap) and not list((tmp_path / "kept").glob(".part-*"))
    case.full.with_name("low.nii.gz").write_bytes(b"")  # is not looked into again but for its content's hash
    with pytest.raises(InputError):
        kept_pairs(case, tmp_path / "kept", wanted=ALL)
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_pairs_of_two_centers_with_a_patient_of_one_name_are_kept_apart(dataset, tmp_path):
    cases = read_manifest(dataset)[:2]
    named = [replace(case, case_id=f"{center}/P0") for case, center in zip(cases, "AB", strict=True)]
    for _ in range(2):
        kept = [kept_pairs(case, tmp_path / "kept") for case in named]
        assert [pairs[0].case_id for pairs in kept] == ["A/P0", "B/P0"]
        for case, pairs in zip(cases, kept, strict=True):
            assert all(equal(a, b) for a, b in zip(load_pairs(case), pairs, strict=True))
    assert len(list((tmp_path / "kept").iterdir())) == 2


@pytest.mark.parametrize("name", ["low", "noise_free"])
@pytest.mark.parametrize("change", ["moved", "flipped", "cut"])
def test_an_image_that_lies_elsewhere_is_not_learned_from(name, change, dataset):
    case = read_manifest(dataset)[0]
    path = case.low[4.0] if name == "low" else case.noise_free
    image = sitk.ReadImage(str(path))
    if change == "moved":
        image.SetOrigin((0.0, 0.0, 20.0))
    elif change == "flipped":
        image = sitk.Flip(image, (False, False, True))
    else:
        image = image[:-1]
    sitk.WriteImage(image, str(path))
    with pytest.raises(InputError, match=f"{case.case_id}: {name} .* lie on different grids") as refusal:
        load_pairs(case, wanted=ALL)
    assert "\n" not in str(refusal.value)


def test_a_header_that_was_rounded_is_the_same_place(dataset):
    case = read_manifest(dataset)[0]
    image = sitk.ReadImage(str(case.low[4.0]))
    image.SetOrigin((0.004, 0.0, -0.01))
    sitk.WriteImage(image, str(case.low[4.0]))
    assert load_pairs(case)[0].low.shape == load_pairs(case)[0].full.shape


def test_a_changed_image_gets_new_arrays(dataset, tmp_path):
    case = read_manifest(dataset)[0]
    before = kept_pairs(case, tmp_path / "kept")[0]
    image = sitk.ReadImage(str(case.low[4.0]))
    sitk.WriteImage(image + 0.25, str(case.low[4.0]))
    after = kept_pairs(case, tmp_path / "kept")[0]
    assert not np.array_equal(before.low, after.low) and np.array_equal(before.full, after.full)


def test_a_run_from_kept_pairs_takes_the_same_steps(dataset, tmp_path):
    plain = tiny_config(dataset, tmp_path / "plain", target="expected_full", lesion_weight=3.0)
    train(plain)
    train(replace(plain, output=str(tmp_path / "other"), prepared=str(tmp_path / "kept")))
    one, other = (checkpoint(tmp_path / name)["sites"] for name in ("plain", "other"))
    assert same(one, other)
    # the folder of a machine is named in nothing that is handed on, and may move before a run continues
    for name in ("tiny.json", "config.json", "training.jsonl"):
        assert str(tmp_path) not in (tmp_path / "other" / name).read_text(encoding="utf-8"), name
    train(replace(plain, output=str(tmp_path / "other"), prepared=str(tmp_path / "moved")))
    train(replace(plain, output=str(tmp_path / "full"), target="full"))
    assert not same(one, checkpoint(tmp_path / "full")["sites"])


def test_the_expected_full_dose_is_the_mean_of_full_doses_for_a_low_dose():
    """Poisson counts, low is a tenth of the events: the mean of full doses with one low dose is that one."""
    rng = np.random.default_rng(4)
    mean, factor, shape = 200.0, 10.0, (9, 9, 9)
    low_counts = rng.poisson(mean / factor, shape)
    rest = np.stack([rng.poisson(mean * (1 - 1 / factor), shape) for _ in range(3000)]).mean(0)
    low, full = low_counts * factor / mean, (low_counts + rest) / mean
    pair = made_pair(full, low)
    pair.noise_free, pair.dose_reduction_factor = np.ones(shape, np.float32), factor
    options = {"patch": 9, "flips": False, "scale_range": 1.0}
    drawn = sampler_of({"A": [pair]}, target="expected_full", **options).draw(0, "A", 0)
    assert np.abs(drawn.target * INPUT_SCALE - full).max() < 5 * np.sqrt(0.9 * mean / 3000) / mean
    drawn = sampler_of({"A": [pair]}, target="noise_free", **options).draw(0, "A", 0)
    assert drawn.target == pytest.approx(np.full(shape, 1 / INPUT_SCALE)) and drawn.weight is None


def test_the_expected_full_dose_of_a_dose_between_is_the_best_linear_estimate_of_the_full():
    """Poisson counts: the slope of full over mixed dose is 1 / D of the mixture, whatever the mixture."""
    rng = np.random.default_rng(5)
    mean, factor, shape = 300.0, 20.0, (40, 40, 40)
    low_counts = rng.poisson(mean / factor, shape)
    full = (low_counts + rng.poisson(mean * (1 - 1 / factor), shape)) / mean
    pair = made_pair(full, low_counts * factor / mean)
    pair.noise_free, pair.dose_reduction_factor = np.ones(shape, np.float32), factor
    options = {"patch": 40, "flips": False, "scale_range": 1.0, "dose_mixing": 1.0, "target": "expected_full"}
    sampler, slopes = sampler_of({"A": [pair]}, **options), []
    for step in range(6):
        drawn = sampler.draw(step, "A", 0)
        mixed, target = (image.ravel() * INPUT_SCALE - 1 for image in (drawn.low, drawn.target))
        slopes.append(float(mixed @ target / (mixed @ mixed)))
        assert np.allclose(target, slopes[-1] * mixed, atol=1e-5)
        assert mixed @ (full.ravel() - 1) / (mixed @ mixed) == pytest.approx(slopes[-1], abs=0.02)
    assert min(slopes) < 0.2 and max(slopes) > 0.5 and all(1 / factor < slope < 1 for slope in slopes)


def test_virtual_spots_are_in_input_and_target_with_their_noise_and_weight():
    rng = np.random.default_rng(6)
    shape = (24, 24, 24)
    pair = made_pair(np.ones(shape), 1 + 0.1 * rng.standard_normal(shape))
    pair.noise_free, pair.dose_reduction_factor = np.ones(shape, np.float32), 10.0
    pair.lesion_mask = np.zeros(shape, bool)
    pair.lesion_mask[3, 4, 5] = True
    options = {"patch": 24, "flips": False, "scale_range": 1.0, "target": "noise_free", "lesion_weight": 4.0}
    plain, spotted, half = (sampler_of({"A": [pair]}, spots=spots, **options) for spots in (0.0, 1.0, 0.5))
    changed = 0
    for step in range(40):
        before, after = plain.draw(step, "A", 0), spotted.draw(step, "A", 0)
        uptake = (after.target - before.target) * INPUT_SCALE
        assert uptake.min() >= 0 and 0.2 < uptake.max() < 6 * PEAKS_SUV[1]
        noise = [(drawn.low - drawn.target) * INPUT_SCALE for drawn in (before, after)]
        ratio = np.minimum(np.sqrt(1 + uptake), 3)
        assert np.allclose(noise[1], ratio * noise[0], atol=1e-5)
        weighed = after.weight > 1
        assert weighed[3, 4, 5] and weighed[uptake > 0.5 * uptake.max()].all() and not weighed.all()
        assert after.weight.min() == 1 and 4 <= after.weight.max() <= 16
        again = half.draw(step, "A", 0)
        changed += not np.array_equal(again.target, before.target)
    assert 10 <= changed <= 30


def test_there_are_no_virtual_spots_in_air():
    air = np.full((24, 24, 24), 0.05, np.float32)
    spots = draw_spots(np.random.default_rng(1), air, (2, 2, 2))
    assert not spots.uptake.any() and not spots.weight.any()


def test_faint_spots_weigh_more():
    body, strongest = np.ones((48, 48, 48), np.float32), {}
    for seed in range(60):
        spots = draw_spots(np.random.default_rng(seed), body, (2, 2, 2))
        for weight in np.unique(spots.weight[spots.weight > 0]):
            strongest.setdefault(float(weight), []).append(spots.uptake[spots.weight == weight].max())
    assert set(strongest) >= {1.0, 4.0} and all(1 <= weight <= 4 for weight in strongest)
    # up to the factor by which overlapping spots add up
    assert np.median(strongest[1.0]) > 3.5 and np.median(strongest[4.0]) < 1.5
    usual, more = (draw_spots(np.random.default_rng(1), body, (2, 2, 2), *given) for given in ((), (10.0,)))
    assert np.array_equal(usual.uptake, more.uptake)
    assert (more.weight >= usual.weight).all() and (more.weight[usual.weight == 4] > 9.9).any()
    assert more.weight.max() <= 10


def test_lesions_weigh_more_where_they_are():
    full = np.ones((8, 8, 8), np.float32)
    pair = made_pair(full, full)
    pair.lesion_mask = np.zeros(full.shape, bool)
    pair.lesion_mask[2:4, 5, 1] = True
    weight = sampler_of({"A": [pair]}, patch=8, flips=False, lesion_weight=4.0).draw(0, "A", 0).weight
    assert np.array_equal(weight, np.where(pair.lesion_mask, 4, 1)) and weight.dtype == np.float32
    less = sampler_of({"A": [pair]}, patch=8, flips=False, lesion_weight=0.5).draw(0, "A", 0).weight
    assert np.array_equal(less, np.where(pair.lesion_mask, 0.5, 1))
    residual, wanted = torch.zeros(8, 8, 8), torch.from_numpy(full)
    plain = charbonnier(residual, wanted, 1e-3)
    assert charbonnier(residual, wanted, 1e-3, 0, torch.from_numpy(weight)) / plain == pytest.approx(
        1 + 3 * 2 / 512
    )
    inner = charbonnier(residual, wanted, 1e-3, 2, torch.from_numpy(weight))
    assert inner == pytest.approx(float(plain))  # the lesion lies in the margin


def test_the_loss_of_a_patch_is_divided_by_its_noise():
    """A squared loss with the power 2 does not depend on the strength of the noise."""
    noise = np.random.default_rng(7).standard_normal((16, 16, 16))
    losses = {}
    for balance in (0.0, 1.0, 2.0):
        for strength in (0.2, 0.4):
            pair = made_pair(np.ones(noise.shape), 1 + strength * noise)
            options = {"patch": 16, "scale_range": 1.0, "noise_balance": balance}
            low, target, weight = sampler_of({"A": [pair]}, **options).draw(0, "A", 0)
            losses[balance, strength] = np.mean((1 if weight is None else weight) * (low - target) ** 2)
    ratio = {balance: losses[balance, 0.4] / losses[balance, 0.2] for balance in (0.0, 1.0, 2.0)}
    assert ratio == {0.0: pytest.approx(4), 1.0: pytest.approx(2), 2.0: pytest.approx(1)}
    same = sampler_of({"A": [made_pair(np.ones(noise.shape), np.ones(noise.shape))]}, noise_balance=2.0)
    assert np.isfinite(same.draw(0, "A", 0).weight).all()


def test_a_pattern_is_one_center(dataset, tmp_path):
    cases = read_manifest(dataset)
    pooled = select(cases, "train", ("*",))
    assert [case.center for case in pooled["*"]] == ["A", "A", "B", "B"]
    assert fingerprint(pooled) == fingerprint(select(cases, "train", CENTERS))
    with pytest.raises(InputError, match="center R"):
        select(cases, "train", ("R*",))
    train(tiny_config(dataset, tmp_path / "out", centers=("*",), steps=2))
    assert (tmp_path / "out" / "tiny.pt").is_file()


def test_what_the_data_cannot_give_is_refused(dataset, tmp_path):
    case = replace(read_manifest(dataset)[0], noise_free=None)
    with pytest.raises(InputError, match="has no image without noise; simulate with --noise-free"):
        load_pairs(case, wanted=ALL)
    with pytest.raises(InputError, match="target"):
        tiny_config(dataset, tmp_path, target="truth")
