"""Where a network of organs is unsure, and in how much of each organ."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from drmc.organs.certainty import UNSURE, unsure_shares, unsure_voxels
from drmc.organs.table import by_name

CLASSES = 32
LIVER, SPLEEN = by_name()["liver"].index, by_name()["spleen"].index


def literal_entropy(scores: np.ndarray) -> np.ndarray:
    """-sum p log p / log K with p the softmax, in float64."""
    weights = np.exp(scores.astype(np.float64))
    p = weights / weights.sum(axis=0)
    return -(p * np.log(p)).sum(axis=0) / np.log(len(scores))


def test_a_voxel_is_unsure_where_its_normalized_entropy_is_above_the_threshold():
    rng = np.random.default_rng(3)
    scores = (rng.normal(size=(CLASSES, 6, 7, 8)) * rng.uniform(0, 9, (6, 7, 8))).astype(np.float32)
    entropy = literal_entropy(scores)
    clear = np.abs(entropy - UNSURE) > 1e-5
    found = unsure_voxels(scores)
    assert 0.2 < found.mean() < 0.8 and clear.mean() > 0.99
    assert (found == (entropy > UNSURE))[clear].all()
    assert (unsure_voxels(scores + np.float32(1000)) == found)[clear].mean() > 0.99  # softmax forgets it


@pytest.mark.parametrize(("alike", "unsure"), [(1, False), (2, False), (3, True), (CLASSES, True)])
def test_a_border_between_two_classes_is_sure_and_three_alike_are_not(alike, unsure):
    scores = np.full((CLASSES, 1, 1, 1), -30.0, np.float32)
    scores[:alike] = 5.0
    assert unsure_voxels(scores).item() is unsure


def test_the_share_is_that_of_each_organs_own_voxels():
    labels = np.zeros((4, 5, 10), np.uint8)
    labels[:2], labels[3] = LIVER, SPLEEN
    unsure = np.zeros(labels.shape, bool)
    unsure[0, :, :3] = unsure[2] = True  # of the liver, and of no organ
    assert unsure_shares(labels, unsure) == {"liver": pytest.approx(15 / 100), "spleen": 0.0}


def test_it_takes_little_memory_beside_the_scores():
    scores = np.random.default_rng(0).normal(size=(CLASSES, 64, 24, 24)).astype(np.float32)
    tracemalloc.start()
    unsure_voxels(scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes / 8
