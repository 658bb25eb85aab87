"""A made-up torso in SUV that stands for a real scan, and a small scanner for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from drmc.simulation.centers import CENTERS

SPACING = (6.0, 6.0, 6.0)
SHAPE = (80, 44, 60)
ORIGIN = (-210.0, -90.0, -700.0)  # x, y, z: the body is off the scanner's axis
SCANNER = replace(
    CENTERS["C1"],
    voxel_mm=(8.0, 8.0, 8.0),
    matrix=56,
    reconstruction_matrix=56,
    system_psf_mm=(8.0, 8.0, 8.0),
    modelled_psf_mm=(8.0, 8.0, 8.0),
    views=60,
    subsets=6,
    iterations=4,
    post_filter_mm=(8.0, 8.0, 8.0),
    count_multiplier=0.05,
)


def torso() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """SUV of a body with liver, lungs, heart and bladder, and each one's mask, (z, y, x); z to the head."""
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SPACING, strict=True)), indexing="ij")
    x, y, z = x - 180.0, y - 132.0, z - 240.0
    ball = lambda cx, cy, cz, a, b, c: ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 + ((z - cz) / c) ** 2 <= 1
    parts = {
        "body": (x / 160) ** 2 + (y / 110) ** 2 <= 1,
        "liver": ball(-75, -10, -20, 70, 70, 70),
        "lung": (ball(-80, 0, 120, 55, 75, 80) | ball(80, 0, 120, 55, 75, 80)) & (z > 55),
        "heart": ball(15, -35, 85, 38, 38, 38),
        "bladder": ball(0, -20, -190, 25, 25, 25),
    }
    suv = 0.75 * parts["body"].astype(np.float32)
    for name, value in (("liver", 2.1), ("lung", 0.45), ("heart", 1.7), ("bladder", 12.0)):
        suv[parts[name]] = value
    return suv, parts
