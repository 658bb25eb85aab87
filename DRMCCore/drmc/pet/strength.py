"""Strength: the share of the network's residual that is added, denoised = scan + strength x residual."""

from __future__ import annotations

import math

import numpy as np

from drmc.errors import InputError

PRESETS = {"low": 0.5, "standard": 0.75, "high": 1.0}
"""Strengths by name. The default is "high": the whole residual, as the network was trained."""

FULL = 1.0


def parse_strength(value: str | float) -> float:
    """The strength that a name of PRESETS, or a number from 0 to 1, stands for. Raises InputError."""
    text = str(value).strip()
    if text.lower() in PRESETS:
        return PRESETS[text.lower()]
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not 0 <= strength <= 1:
        raise InputError(f"strength {text}: give a number from 0 to 1, or {', '.join(PRESETS)}")
    return abs(strength)  # -0 is 0


def strength_text(strength: float) -> str:
    """The strength with its name where it has one: "0.5 (low)", "0.6"."""
    name = next((name for name, value in PRESETS.items() if value == strength), None)
    return f"{strength:g}" + (f" ({name})" if name else "")


def add_residual(stored: np.ndarray, residual: np.ndarray, strength: float = FULL) -> np.ndarray:
    """The denoised image: stored values + strength x residual, float32, never clipped.

    Voxels to which nothing is added keep their bits, as all do at strength 0. A residual that is not finite
    gives values that are not, at any strength.

    Args:
        stored: the scan, float32 (z, y, x).
        residual: at full strength, in the units of `stored`, float32 (z, y, x).
        strength: from 0 to 1.
    """
    added = residual if strength == FULL else np.float32(strength) * residual
    return np.where(added == 0, stored, stored + added).astype(np.float32, copy=False)
