"""Effects that the reconstruction does not model: breathing, a mismatched attenuation map, calibration.

All are off by default. Breathing moves slices along the body axis, fully at the dome of the diaphragm and
less away from it; every phase of it has its share in the counts, while the truth that is stored stays that of
end expiration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from drmc.errors import InputError

REACH_MM = 110.0  # standard deviation of the motion's decay away from the diaphragm
PHASES = 9


@dataclass(frozen=True)
class Imperfections:
    """Imperfections of one scan. Raises InputError for values out of range."""

    breathing_mm: float = 0.0
    """Excursion of the diaphragm."""
    attenuation_mismatch_mm: float = 0.0
    """How much lower the diaphragm was in the attenuation map."""
    calibration_sd: float = 0.0
    """Standard deviation of the scanner's calibration; 1 = 100 %."""

    def __post_init__(self) -> None:
        limits = {"breathing_mm": 60, "attenuation_mismatch_mm": 60, "calibration_sd": 0.5}
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"{name} {getattr(self, name):g}: give a number from 0 to {most}")


def descend(
    volume: torch.Tensor, z_mm: torch.Tensor, diaphragm_mm: float, shifts_mm: list[float]
) -> torch.Tensor:
    """The mean of a volume (z, y, x) over positions of the diaphragm, `shifts_mm` below where it is.

    `z_mm` are the positions of the slices, ascending. Linear interpolation between slices.
    """
    nz, step = len(z_mm), float(z_mm[1] - z_mm[0])
    share = torch.exp(-(((z_mm - diaphragm_mm) / REACH_MM) ** 2) / 2)
    matrix = torch.zeros(nz, nz)
    rows = torch.arange(nz)
    for shift in shifts_mm:
        # what stands at z now comes from higher up by the shift there
        source = (rows + shift * share / step).clamp(0, nz - 1)
        below = source.floor().long().clamp(max=nz - 2)
        weight = source - below
        matrix[rows, below] += (1 - weight) / len(shifts_mm)
        matrix[rows, below + 1] += weight / len(shifts_mm)
    return (matrix.to(volume.device) @ volume.reshape(nz, -1)).view_as(volume)


def breathing_phases(excursion_mm: float) -> list[float]:
    """Descent of the diaphragm (mm) at equal times of a breath, most of them near end expiration.

    cos^6 of half the phase: Lujan 1999, Med Phys 26:715, with n = 3.
    """
    return [excursion_mm * math.cos(math.pi * (k + 0.5) / PHASES) ** 6 for k in range(PHASES)]
