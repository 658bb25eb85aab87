"""Reference regions of PERCIST: where they lie, what they measure, and which thresholds follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drmc.imaging.distances import distance_from
from drmc.imaging.geometry import Geometry
from drmc.measures.candidates import liver_sphere, percist_threshold
from drmc.measures.physiological import GROWN_MM, hot_organs, tracer_of
from drmc.measures.references import blood_pool_reference, blood_pool_threshold, liver_reference
from drmc.organs.table import by_name
from drmc.segments.segment import Segment
from support.engine.labeled_torso import GEOMETRY, labeled_torso


@pytest.fixture(scope="module")
def torso():
    suv, organs, lesions = labeled_torso()
    named = {name: Segment(name, mask) for name, mask in organs.items()}
    return suv, named, [Segment(name, mask) for name, mask in lesions.items()]


def test_the_sphere_is_that_of_percist_within_the_right_lobe_and_off_the_lesion(torso):
    suv, organs, lesions = torso
    found = liver_reference(suv, GEOMETRY, organs["liver"], lesions)
    by_hand = liver_sphere(GEOMETRY, found.center_mm)  # what a user who clicks there gets
    np.testing.assert_array_equal(found.segment.mask, by_hand.mask)
    liver = organs["liver"].mask
    assert not (found.segment.mask & ~liver).any()
    assert not any((found.segment.mask & lesion.mask).any() for lesion in lesions)
    at = GEOMETRY.matrix[0, 3] + GEOMETRY.spacing[0] * np.argwhere(liver)[:, 2].mean()
    assert found.center_mm[0] < at  # x runs to the left
    inside = suv[found.segment.mask].astype(np.float64)
    assert (found.mean, found.sd) == (inside.mean(), inside.std())
    assert found.mean == pytest.approx(2.1, rel=0.02)
    threshold = percist_threshold(suv, found.segment)
    assert threshold.suv == pytest.approx(1.5 * inside.mean() + 2 * inside.std())


def test_no_other_place_with_the_organs_median_is_more_even(torso):
    suv, organs, lesions = torso
    found = liver_reference(suv, GEOMETRY, organs["liver"], lesions)
    liver, marked = organs["liver"].mask, sum(lesion.mask for lesion in lesions).astype(bool)
    deep = distance_from(~(liver & ~marked), GEOMETRY.spacing_zyx) > 25
    right = np.arange(liver.shape[2]) < np.argwhere(liver & ~marked)[:, 2].mean()
    median = np.median(suv[liver])
    for z, y, x in np.argwhere(deep & right):
        place = GEOMETRY.matrix @ [x, y, z, 1]
        values = suv[liver_sphere(GEOMETRY, place[:3]).mask].astype(np.float64)
        if abs(values.mean() - median) <= 0.05 * median:
            assert values.std() / values.mean() >= found.variation * (1 - 1e-9)


def test_the_cylinder_lies_in_the_descending_aorta(torso):
    suv, organs, _lesions = torso
    found = blood_pool_reference(suv, GEOMETRY, organs["aorta"], organs["heart"])
    mask = found.segment.mask
    assert not (mask & ~organs["aorta"].mask).any()
    size = np.ptp(np.argwhere(mask), axis=0) * GEOMETRY.spacing_zyx
    assert size[0] <= 20 and (size[1:] <= 10).all()
    heart = np.argwhere(organs["heart"].mask)
    places = np.argwhere(mask)
    assert places[:, 1].min() > heart[:, 1].mean()  # y runs to the back
    assert heart[:, 0].min() <= places[:, 0].mean() <= heart[:, 0].max()
    threshold = blood_pool_threshold(found)
    assert threshold.suv == pytest.approx(2 * found.mean + 2 * found.sd) and threshold.factor == 2


def test_turned_axes_give_the_same_regions_in_space(torso):
    suv, organs, lesions = torso
    flipped = replace(
        GEOMETRY,
        origin=tuple((GEOMETRY.matrix @ [0, 0, GEOMETRY.shape[0] - 1, 1])[:3]),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    )
    turn = lambda one: Segment(one.name, one.mask[::-1])
    here = blood_pool_reference(suv, GEOMETRY, organs["aorta"], organs["heart"], lesions)
    there = blood_pool_reference(
        suv[::-1], flipped, turn(organs["aorta"]), turn(organs["heart"]), [turn(one) for one in lesions]
    )
    assert here.center_mm[:2] == pytest.approx(there.center_mm[:2])
    sphere = liver_reference(suv[::-1], flipped, turn(organs["liver"]), [turn(one) for one in lesions])
    assert sphere.mean == pytest.approx(2.1, rel=0.02)


def test_an_organ_without_room_has_no_reference(torso):
    suv, organs, _lesions = torso
    small = np.zeros(suv.shape, bool)
    small[30:32, 20:23, 20:23] = True
    assert liver_reference(suv, GEOMETRY, Segment("liver", small)) is None
    assert blood_pool_reference(suv, GEOMETRY, Segment("aorta", small), None) is None
    everywhere = Segment("all", np.ones(suv.shape, bool))
    assert liver_reference(suv, GEOMETRY, organs["liver"], [everywhere]) is None


def test_organs_grow_by_six_millimeters_and_only_those_that_shine():
    mask = np.zeros((30, 30, 30), bool)
    mask[15, 15, 15] = True
    geometry = Geometry(mask.shape, (2.0, 3.0, 4.0))
    organs = [(by_name()[name], Segment(name, mask)) for name in ("urinary bladder", "spleen", "left lung")]
    hot, notices = hot_organs(organs, geometry, "FDG")
    assert notices == [] and [one.name for one in hot] == ["urinary bladder"]
    z, y, x = np.indices(mask.shape)
    squares = (4 * (z - 15)) ** 2 + (3 * (y - 15)) ** 2 + (2 * (x - 15)) ** 2
    np.testing.assert_array_equal(hot[0].mask, squares <= GROWN_MM**2)
    assert [one.name for one in hot_organs(organs, geometry, "PSMA-11")[0]] == ["urinary bladder", "spleen"]
    assert "not known" in hot_organs(organs, geometry, None)[1][0]


@pytest.mark.parametrize(
    ("text", "tracer"),
    [
        ("FDG -- fluorodeoxyglucose", "FDG"),
        ("Fluorodeoxyglucose F^18^", "FDG"),
        ("68Ga-PSMA-11", "PSMA-11"),
        ("[68Ga]Ga-DOTA-TATE", "DOTATATE"),
        ("FAPI-04", "FAPI"),
        ("Solution", None),
        (None, None),
    ],
)
def test_tracers_are_known_by_what_headers_call_them(text, tracer):
    assert tracer_of(text) == tracer
