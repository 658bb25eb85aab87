"""Scores of organ labels, against slow and literal forms and closed ones."""

from __future__ import annotations

import numpy as np
import pytest
from drmc.evaluation.organs.scores import scan_scores
from drmc.evaluation.organs.surfaces import surface, surface_distances
from drmc.imaging.geometry import Geometry
from drmc.organs.table import by_name

SPACING = (3.0, 2.0, 2.5)  # z, y, x
SHAPE = (14, 20, 18)
INDEX = {key: one.index for key, one in by_name().items()}


def ball(shape, center, radius_mm, spacing=SPACING) -> np.ndarray:
    at = np.indices(shape).transpose(1, 2, 3, 0)
    return (((at - center) * spacing) ** 2).sum(-1) <= radius_mm**2


def literal_surface(mask) -> np.ndarray:
    """Voxels with a neighbor outside, one by one; beyond the image nothing is known."""
    found = np.zeros_like(mask)
    for place in np.argwhere(mask):
        for axis in range(3):
            for step in (-1, 1):
                other = place.copy()
                other[axis] += step
                if 0 <= other[axis] < mask.shape[axis] and not mask[tuple(other)]:
                    found[tuple(place)] = True
    return found


def literal_distances(one, other, spacing) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.argwhere(literal_surface(mask)) * spacing for mask in (one, other))
    apart = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return apart.min(1), apart.min(0)


def geometry(shape, spacing=SPACING) -> Geometry:
    return Geometry(shape, tuple(reversed(spacing)))


@pytest.mark.parametrize("seed", range(4))
def test_surfaces_and_distances_are_those_of_the_literal_form(seed):
    rng = np.random.default_rng(seed)
    one, other = (
        ball(SHAPE, rng.uniform(4, 10, 3), rng.uniform(8, 14)) & (rng.random(SHAPE) > 0.05) for _ in range(2)
    )
    assert (surface(one) == literal_surface(one)).all()
    found = surface_distances(one, other, SPACING)
    for mine, wanted in zip(found, literal_distances(one, other, SPACING), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-4)


def test_an_organ_that_the_end_of_the_image_cuts_has_no_surface_there():
    mask = np.zeros(SHAPE, bool)
    mask[:5, 4:9, 4:9] = True
    found = surface(mask)
    assert not found[0, 5:8, 5:8].any() and found[4, 5:8, 5:8].all() and found[0, 4].any()
    whole = np.ones(SHAPE, bool)
    assert surface_distances(whole, whole, SPACING) is None


def scores(found, reference, key="liver", spacing=SPACING, **images) -> dict:
    labels = [np.where(mask, INDEX[key], 0).astype(np.uint8) for mask in (found, reference)]
    return scan_scores(*labels, geometry(found.shape, spacing), **images)["organs"].get(key)


def test_every_measure_of_two_balls():
    found, reference = ball(SHAPE, (7, 9, 8), 13), ball(SHAPE, (6, 10, 9), 11)
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    one = scores(found, reference, corrected_zyx=image, truth_zyx=2 * image + 1)
    both = (found & reference).sum()
    assert one["dice"] == pytest.approx(2 * both / (found.sum() + reference.sum()))
    apart = np.concatenate(literal_distances(found, reference, SPACING))
    assert one["surface_dice"] == pytest.approx((apart <= 4).mean()) and one["surface_dice_fine"] is None
    assert one["hd95_mm"] == pytest.approx(np.percentile(apart, 95), abs=1e-4)
    assert one["volume_error"] == pytest.approx(found.sum() / reference.sum() - 1)
    assert one["reference_ml"] == pytest.approx(reference.sum() * 0.015)
    assert one["suv_error"] == pytest.approx(image[found].mean() / image[reference].mean() - 1, rel=1e-5)
    truth = 2 * image + 1
    assert one["suv_error_truth"] == pytest.approx(
        truth[found].mean() / truth[reference].mean() - 1, rel=1e-5
    )
    centers = [np.argwhere(mask).mean(0) * SPACING for mask in (found, reference)]
    assert one["centroid_mm"] == pytest.approx(np.linalg.norm(centers[0] - centers[1]))


def test_concentric_balls_are_as_far_apart_as_their_radii():
    shape, spacing = (44, 44, 44), (1.0, 1.0, 1.0)
    inner, outer = (ball(shape, (21.5,) * 3, radius, spacing) for radius in (12, 17))
    one = scores(outer, inner, spacing=spacing)
    assert one["hd95_mm"] == pytest.approx(5, abs=0.7) and one["surface_dice"] < 0.05
    near = scores(ball(shape, (21.5,) * 3, 15, spacing), inner, spacing=spacing)
    assert near["surface_dice"] == 1.0
    assert one["dice"] == pytest.approx(2 / (1 + (17 / 12) ** 3), abs=0.02)


def test_what_is_missed_invented_or_too_little_to_count():
    nothing, organ = np.zeros(SHAPE, bool), ball(SHAPE, (7, 9, 8), 11)
    speck = np.zeros(SHAPE, bool)
    speck[3, 3, 3:9] = True  # .09 ml
    assert scores(nothing, nothing) is None
    missed = scores(nothing, organ)
    assert missed["dice"] == missed["surface_dice"] == 0 and missed["volume_error"] == -1
    assert missed["hd95_mm"] is missed["centroid_mm"] is None
    invented = scores(organ, nothing, key="gallbladder")
    assert invented["dice"] == invented["surface_dice_fine"] == 0 and invented["volume_error"] is None
    for found, reference in ((speck, nothing), (organ, speck), (nothing, speck)):
        assert scores(found, reference)["dice"] is None


def test_sides_are_counted_over_all_pairs():
    reference = np.zeros(SHAPE, np.uint8)
    reference[2:12, 4:14, 2:6] = INDEX["kidney_right"]
    reference[2:12, 4:14, 10:14] = INDEX["kidney_left"]
    reference[2:12, 16:18, 2:14] = INDEX["liver"]
    found = reference.copy()
    found[2:4, 4:14, 2:6] = INDEX["kidney_left"]
    found[2:4, 4:14, 10:14] = INDEX["lung_right"]  # wrong, but no side of the same organ
    one = scan_scores(found, reference, geometry(SHAPE))
    assert one["side_error"] == pytest.approx(80 / 800)
    assert scan_scores(found, np.zeros_like(found), geometry(SHAPE))["side_error"] is None
