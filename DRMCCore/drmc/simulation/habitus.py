"""Build of a patient: sex, height, weight, posture, and the scale from the reference adult of 1.74 m."""

from __future__ import annotations

import math

import numpy as np

from drmc.simulation.findings import Findings

FAT_MM = (4.0, 60.0)  # subcutaneous
WIDE_BMI = (15.5, 45.0)

LEVELS_MM = np.array(
    [
        (-460, -460),  # knee
        (-130, -100),
        (60, 108),  # floor of the pelvis
        (314, 382),  # kidneys
        (350, 437),  # spleen, stomach
        (474, 523),  # heart
        (712, 675),  # thyroid
        (800, 792),
        (858, 858),
        (960, 960),  # vertex
    ],
    dtype=float,
)
"""Heights of the mathematical phantoms, standing and inspired, and the same in supine, expired people.

The latter lie between the man and the woman of ICRP 110, both scaled to 1.74 m.
"""


class Habitus:
    """The build of one patient.

    It is drawn from `rng`, from which the regions then draw the sizes of their organs; findings have their
    own generator. `wide`: any adult, height 1.42 to 2.05 m, body mass index log-uniform in 15.5 to 45, in the
    place of the usual draws.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        findings: np.random.Generator,
        men_only: bool = False,
        wide: bool = False,
    ):
        self.rng = rng
        self.female = bool(rng.random() < 0.5) and not men_only
        self.findings = Findings(findings, self.female)
        self.height_m = float(rng.normal(1.60 if self.female else 1.72, 0.06))
        self.bmi = float(np.clip(rng.lognormal(math.log(24), 0.16), 17, 38))
        if wide:
            self.height_m = float(np.clip(rng.normal(1.66, 0.12), 1.42, 2.05))
            self.bmi = float(np.exp(rng.uniform(*np.log(WIDE_BMI))))
        self.arms_up = bool(rng.random() < 0.4)
        self.sz = self.height_m / 1.74
        self.sxy = (0.94 if self.female else 1.0) * self.sz**0.5 * (1 + 0.012 * (min(self.bmi, 28) - 23))
        thickness = 4 + 1.9 * max(self.bmi - 17, 0.0) * (1.25 if self.female else 1.0)
        self.fat_mm = float(np.clip(thickness, *FAT_MM))  # anterior and lateral
        self.dome_mm = float(np.clip(rng.normal(0, 12), -26, 26))  # how high the diaphragm stands

    @property
    def weight_kg(self) -> float:
        """Body weight."""
        return self.bmi * self.height_m**2

    @property
    def surface_m2(self) -> float:
        """Body surface area (Mosteller)."""
        return math.sqrt(self.height_m * 100 * self.weight_kg / 3600)

    def at(self, x: float, y: float, z: float) -> list[float]:
        """Position of the mathematical phantoms in this patient."""
        return [x * self.sxy, y * self.sxy, self.level(z)]

    def level(self, z: float) -> float:
        """Height in this patient of a height of the mathematical phantoms."""
        return float(np.interp(z, *LEVELS_MM.T)) * self.sz

    def scaled(self, a: float, b: float, c: float) -> list[float]:
        """Semi-axes scaled to this patient."""
        return [a * self.sxy, b * self.sxy, c * self.sz]

    def axes(self, a: float, b: float, c: float) -> list[float]:
        """Semi-axes scaled to this patient, jittered."""
        return [
            a * self.sxy * self.jitter(),
            b * self.sxy * self.jitter(),
            c * self.sz * self.jitter(0.04),
        ]

    def shifted(self, x: float, y: float, z: float, sd: tuple[float, float, float]) -> list[float]:
        """As `at`, moved at random by `sd` (mm)."""
        return [float(v) for v in np.array(self.at(x, y, z)) + self.shift(sd)]

    def shift(self, sd: tuple[float, float, float]) -> np.ndarray:
        """A random shift (x, y, z) in mm."""
        return np.clip(self.rng.standard_normal(3), -2.2, 2.2) * sd

    def jitter(self, sd: float = 0.06) -> float:
        """Factor around 1."""
        return float(1 + np.clip(self.rng.normal(0, sd), -2.5 * sd, 2.5 * sd))

    def volume_ml(self, mean: float, sigma: float, low: float, high: float) -> float:
        """Lognormal organ volume within limits."""
        return float(np.clip(mean * math.exp(self.rng.normal(0, sigma)), low, high))


def ellipsoid_axes(volume_ml: float, proportions: tuple[float, float, float]) -> list[float]:
    """Semi-axes in mm of the ellipsoid of that volume."""
    unit = 4 / 3 * math.pi * math.prod(proportions) / 1000
    factor = (volume_ml / unit) ** (1 / 3)
    return [p * factor for p in proportions]
