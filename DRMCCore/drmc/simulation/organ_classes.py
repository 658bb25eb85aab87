"""From the simulator's label maps to the classes of `drmc.organs.table`."""

from __future__ import annotations

from functools import cache

import numpy as np

from drmc.organs.table import LEFT as LEFT_SIDE
from drmc.organs.table import MIDDLE, classes
from drmc.simulation.organs import ORGANS, organ_label

BACKGROUND = frozenset(
    (
        *("fat", "muscle", "skin", "breast", "brown_fat", "fluid", "air", "metal"),
        *("blood_pool", "vessel", "ureter", "disc", "rib", "sternum", "skull", "cortical_bone"),
        *("tonsil", "tongue", "eye", "lacrimal", "thymus", "gonad"),
    )
)
"""Organs of the simulator that belong to no class."""


@cache
def class_table() -> np.ndarray:
    """The class of each label value of the simulator: uint8 (256,).

    Gas in stomach and bowel and vessels in liver and lung bear the label of their organ. Lesions have the
    label of their host.
    """
    table = np.zeros(256, np.uint8)
    for one in classes():
        for name in one.simulated:
            if ORGANS[name].paired:
                table[organ_label(name, 1 if one.side == LEFT_SIDE else -1)] = one.index
            elif one.side == MIDDLE:
                table[organ_label(name)] = one.index
            else:
                raise ValueError(f"{one.name}: the simulator's {name} has no sides")
    return table


def to_classes(labels_zyx: np.ndarray) -> np.ndarray:
    """The classes (uint8) of a label map of the simulator (uint8), of any shape."""
    return class_table()[labels_zyx]
