"""The table of organs, and the simulator's labels in its classes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from drmc.organs.table import LEFT, ORGANS, RIGHT, by_name, classes, opposite, organs
from drmc.simulation import organs as simulated
from drmc.simulation.organ_classes import BACKGROUND, class_table, to_classes
from drmc.simulation.tracers import TRACERS


def test_there_are_23_organs_and_further_classes_behind_them():
    assert ORGANS == len(organs()) == 23 and len(classes()) == 31
    assert [one.index for one in classes()] == list(range(1, 32))
    assert all(one.counts == (one.index <= 23) for one in classes())


def test_names_keys_and_codes_with_side_are_unique():
    for of in (lambda one: one.name, lambda one: one.key, lambda one: (one.code, one.side)):
        assert len({of(one) for one in classes()}) == len(classes())
    assert by_name()["kidney_left"] is by_name()["left kidney"]


def test_a_pair_is_each_others_opposite():
    for one in classes():
        other = opposite(one)
        assert (other is None) == (one.side == "")
        if other is not None:
            assert {one.side, other.side} == {LEFT, RIGHT} and opposite(other) is one


def test_colors_volumes_and_tracers_make_sense():
    for one in classes():
        assert all(0 <= part <= 255 for part in one.color)
        assert 0 < one.plausible_ml[0] < one.plausible_ml[1]
        assert set(one.tracers) <= set(TRACERS)


def test_a_terminology_entry_is_as_slicer_writes_it():
    assert by_name()["left kidney"].terminology == (
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left"
        "~Anatomic codes - DICOM master list~^^~^^"
    )


def test_every_organ_of_the_simulator_is_in_one_class_or_in_none():
    used = [name for one in classes() for name in one.simulated if one.side in ("", LEFT)]
    assert len(used) == len(set(used))
    assert set(used) | BACKGROUND == set(simulated.ORGANS) and not set(used) & BACKGROUND


@pytest.mark.parametrize(
    ("name", "side", "key"),
    [
        ("lung", 1, "lung_left"),
        ("lung", -1, "lung_right"),
        ("renal_pelvis", 1, "kidney_left"),
        ("sacrum", 0, "sacrum"),
        ("pelvis_marrow", -1, "hip_right"),
        ("vertebra_process", 0, "vertebrae"),
        ("myocardium", 0, "heart"),
        ("ureter", 0, None),
        ("disc", 0, None),
    ],
)
def test_labels_of_the_simulator_become_classes(name, side, key):
    label = np.array([simulated.organ_label(name, side)], np.uint8)
    assert to_classes(label)[0] == (0 if key is None else by_name()[key].index)


def test_values_that_the_simulator_does_not_use_are_background():
    used = {value for name in simulated.ORGANS for value in simulated.organ_labels(name)}
    assert not class_table()[sorted(set(range(256)) - used)].any()


def test_the_table_costs_neither_torch_nor_simpleitk():
    code = "import drmc.organs.table as t, sys; t.classes(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "SimpleITK", "numpy"} & set(loaded.split())
