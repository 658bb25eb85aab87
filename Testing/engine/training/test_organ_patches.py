"""Patches, loss and validation of an organ training against slow forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drmc.datasets.manifest import read_manifest, select
from drmc.networks.organ_unet import OrganUNet
from drmc.organs.table import by_name, classes
from drmc.training.tasks.organ_cases import OrganCase, class_weights
from drmc.training.tasks.organ_loss import class_shares, organ_loss, soft_loss
from drmc.training.tasks.organ_sampler import OrganSampler
from drmc.training.tasks.organ_settings import CONDITIONS, OrganSettings
from drmc.training.tasks.organ_validation import OrganValidation, measured
from support.engine.small_organs import SUV, TINY_UNET, make_organ_dataset, tiny_organ_config

PLAIN = OrganSettings(
    plane=(24, 32),
    conditions=(1.0, 0.0, 0.0, 0.0),
    organ_fraction=0.0,
    dose_mixing=0.0,
    rotation=0.0,
    stretch=1.0,
    elastic_mm=0.0,
    cut_fraction=0.0,
    changed=0.0,
    blind_fraction=0.0,
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    dataset: Path = make_organ_dataset(tmp_path_factory.mktemp("organs"), patients=3)
    return select(read_manifest(dataset), "train", ("A",))


def drawn(cases, count=12, **changes):
    sampler = OrganSampler(cases, replace(OrganSettings(plane=(24, 32)), **changes), patch=16, seed=1)
    return [sampler.draw(step, "A", 0) for step in range(count)]


def test_a_patch_is_determined_by_its_counter(cases):
    one, two = (OrganSampler(cases, OrganSettings(plane=(24, 32)), patch=16, seed=seed) for seed in (1, 1))
    first = one.draw(7, "A", 1)
    two.draw(3, "A", 0)
    second = two.draw(7, "A", 1)
    assert torch.equal(first.inputs, second.inputs) and torch.equal(first.labels, second.labels)
    assert not torch.equal(first.inputs, one.draw(7, "A", 2).inputs)


def test_without_changes_a_patch_is_a_shifted_part_of_the_image(cases):
    sampler = OrganSampler(cases, PLAIN, patch=16, seed=1)
    one = OrganCase(cases["A"][0])
    frame = one.frame(CONDITIONS[0])
    for step in range(4):
        patch = sampler.draw(step, "A", 0)
        inside = patch.labels == by_name()["liver"].index
        if inside.sum() > 200:
            value = float(torch.median(patch.inputs[0][inside]))
            assert value == pytest.approx(np.arcsinh(2 * SUV["liver"] / frame.mean), rel=0.15)


def test_labels_go_with_the_image_when_it_is_turned_and_bent(cases):
    """Lungs are darker and the liver is brighter than the muscle around them, wherever they are moved to."""
    liver, lungs = by_name()["liver"].index, [by_name()[f"lung_{side}"].index for side in ("left", "right")]
    seen = 0
    for patch in drawn(cases, changed=0.0, conditions=(1.0, 0.0, 0.0, 0.0)):
        body = patch.inputs[0] > 0.5
        muscle = patch.inputs[0][body & (patch.labels == 0)].median()
        for value, sign in ((liver, 1), (lungs[0], -1), (lungs[1], -1)):
            inside = patch.labels == value
            if inside.sum() > 100:
                difference = sign * (patch.inputs[0][inside] - muscle)
                assert (difference > 0).float().mean() > 0.8
                seen += 1
    assert seen > 5


def test_sides_are_never_exchanged(cases):
    left, right = (by_name()[f"lung_{side}"].index for side in ("left", "right"))
    seen = 0
    for patch in drawn(cases, count=20):
        x = [torch.nonzero(patch.labels == value)[:, 2].float() for value in (left, right)]
        if all(len(one) > 50 for one in x):
            assert x[0].mean() > x[1].mean()
            seen += 1
        told = patch.inputs[2][0, 0]
        assert bool((told.diff() > 0).all()) or not told.any()
    assert seen > 3


def test_the_network_is_told_where_the_middle_is(cases):
    """With a turned and stretched patch the position channel is 0 where the body's middle has gone."""
    for patch in drawn(cases, count=8, blind_fraction=0.0, rotation=0.0, elastic_mm=0.0, changed=0.0):
        body = (patch.inputs[0] > 0.7).float().sum((0, 1))
        if body.sum() > 1000 and body[0] == 0 and body[-1] == 0:
            middle = float((body * torch.arange(len(body))).sum() / body.sum())
            told = float(np.interp(0.0, patch.inputs[2][0, 0].numpy(), np.arange(len(body))))
            assert told == pytest.approx(middle, abs=1.5)


def test_a_cut_patch_ends_in_air_and_background(cases):
    ended = 0
    sampler = OrganSampler(cases, replace(PLAIN, cut_fraction=1.0), patch=40, seed=1)
    for step in range(8):
        patch = sampler.draw(step, "A", 0)
        empty = ~(patch.inputs[0] != 0).flatten(1).any(1)
        assert not patch.labels[empty].any()
        ended += bool(empty.any())
    assert ended > 2


# ---- loss


def slow_loss(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, dice_weight: float) -> float:
    """Voxel by voxel and class by class."""
    exponentials = np.exp(scores - scores.max(0))
    p = exponentials / exponentials.sum(0)
    K = len(weights)
    total = norm = 0.0
    for voxel in np.ndindex(labels.shape):
        k = labels[voxel]
        total -= weights[k] * np.log(p[(k, *voxel)])
        norm += weights[k]
    dices = []
    for k in range(1, K):
        truth = labels == k
        if truth.any():
            dices.append((2 * p[k][truth].sum() + 1) / (p[k].sum() + truth.sum() + 1))
    return total / norm + dice_weight * (1 - (np.mean(dices) if dices else 1.0))


@pytest.mark.parametrize("present", [4, 1])
def test_the_loss_is_that_of_the_slow_form(present):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(4, 3, 4, 5)), rng.integers(0, present, (3, 4, 5))
    weights = np.array([1.0, 2.0, 3.0, 8.0])
    tensors = torch.from_numpy(scores), torch.from_numpy(labels), torch.from_numpy(weights)
    for dice_weight in (0.0, 1.0, 0.3):
        found = float(organ_loss(*tensors, dice_weight))
        assert found == pytest.approx(slow_loss(scores, labels, weights, dice_weight), rel=1e-9)
        hard = torch.nn.functional.one_hot(tensors[1], 4).movedim(-1, 0).double()
        assert float(soft_loss(tensors[0], hard, tensors[2], dice_weight)) == pytest.approx(found, rel=1e-9)


def test_the_shares_of_cubes_are_means_of_an_image_of_each_class():
    labels = torch.randint(0, 7, (8, 12, 16))
    labels[:4] = 2  # whole cubes of one class
    images = torch.nn.functional.one_hot(labels, 9).movedim(-1, 0).float()
    assert torch.equal(class_shares(labels, 9, 4), torch.nn.functional.avg_pool3d(images, 4))


def test_small_organs_weigh_more():
    weights = class_weights(8.0)
    by = {one.key: weights[one.index] for one in classes()}
    assert weights[0] == 1 and by["liver"] == 1 and by["adrenal_gland_left"] == 8
    assert 1 < by["spleen"] < by["thyroid_gland"] <= 8


# ---- validation


def test_measures_of_a_validation_are_those_counted_by_hand():
    truth = np.zeros((10, 10, 20), np.uint8)
    found = truth.copy()
    liver, left, right, spleen = (
        by_name()[k].index for k in ("liver", "kidney_left", "kidney_right", "spleen")
    )
    truth[:5, :, :5] = liver  # 250 voxels
    found[:5, :, :4] = liver  # 200 of them
    truth[:5, :, 10:12] = left  # 100
    found[:5, :, 10:12] = left
    found[:5, :1, 10:12] = right  # 10 of them on the wrong side
    truth[:5, :, 15:17] = right
    found[:5, :, 15:17] = right
    found[8:, :, :] = spleen  # 400 voxels, absent
    scores = measured(found, truth)
    dices = [2 * 200 / 450, 2 * 90 / 190, 2 * 100 / 210, 0]  # as in an evaluation: what is invented has 0
    assert scores["dice"] == pytest.approx(np.mean(dices))
    assert scores["false_organs"] == pytest.approx(1 / 20)
    assert scores["side_error"] == pytest.approx(10 / 200)


def test_a_validation_puts_labels_in_order_as_those_of_a_scan_are(cases, monkeypatch):
    truth = OrganCase(cases["A"][0]).labels()
    stray = truth.copy()
    stray[1:4, :2, :3] = by_name()["stomach"].index  # absent; 1.2 ml, of which a scan's labels would be rid

    def scores(network, image, frame, length, *, compute_dtype=None):
        found = np.stack([stray == k for k in range(len(classes()) + 1)]).astype(np.float32)
        return found, tuple(slice(0, n) for n in truth.shape)

    monkeypatch.setattr("drmc.training.tasks.organ_validation.body_scores", scores)
    config = tiny_organ_config(Path(), Path())
    found = OrganValidation({"A": cases["A"][:1]}, config).measure(OrganUNet(TINY_UNET))
    assert measured(stray, truth)["false_organs"] > 0 and found["false_organs"]["A"] == 0
