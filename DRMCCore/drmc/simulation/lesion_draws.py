"""Number, place, size and uptake of a patient's lesions: as in clinical patients, or many of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from drmc.simulation.tracers import LesionUptake

MAX_SITES = 8

HOSTS: dict[str, tuple[str, ...]] = {
    "nodal": ("fat", "muscle"),
    "soft_tissue": ("fat", "muscle"),
    "brain": ("gray_matter", "white_matter", "deep_gray", "cerebellum"),
    **{
        name: (name,)
        for name in (
            "liver", "lung", "vertebra", "pelvis_marrow", "rib", "adrenal", "spleen", "femur_marrow",
            "sternum", "pancreas", "kidney_cortex", "small_bowel", "colon", "prostate_uterus", "thyroid",
            "breast",
        )
    },
}  # fmt: skip
"""Organs that a lesion of a host may lie in."""

BACKGROUND = {"nodal": "muscle", "soft_tissue": "muscle", "brain": "white_matter"}
"""Organ whose uptake surrounds the lesions of a host, where it is not the host."""

# what the uptake of a relative tracer multiplies, where the host itself takes up little
_REFERENCE = {
    "nodal": "blood_pool",
    "soft_tissue": "blood_pool",
    "lung": "blood_pool",
    "rib": "vertebra",
    "femur_marrow": "vertebra",
}
_UPTAKE = Mapping[str, float]


class LesionDraws(Protocol):
    """Draws of one patient's lesions."""

    @property
    def smallest_mm(self) -> float:
        """Diameter below which no lesion is drawn, mm."""

    def hosts(self, volume_ml: Callable[[str], float]) -> dict[str, float]:
        """Weights of the hosts; `volume_ml`: volume of a host where lesions are placed."""

    def sites(self, rng: np.random.Generator) -> int:
        """Number of sites."""

    def suv(self, rng: np.random.Generator, host: str, uptake: _UPTAKE) -> float:
        """SUV of a lesion in a host, with the patient's `uptake` by organ."""

    def limited(self, suv: float, host: str, uptake: _UPTAKE) -> float:
        """The SUV, no lower and no higher than lesions in that host are."""

    def diameter_mm(self, rng: np.random.Generator) -> float:
        """Diameter."""


@dataclass(frozen=True)
class ClinicalLesions:
    """Lesions of the tracer's table, 6 to 60 mm, well above their surroundings."""

    tracer: LesionUptake
    max_sites: int = MAX_SITES
    """0: no lesions."""
    without: tuple[str, ...] = ()  # hosts that this patient cannot have
    smallest_mm: float = 6.0

    def hosts(self, volume_ml: Callable[[str], float]) -> dict[str, float]:
        """The tracer's."""
        return {name: share for name, share in self.tracer.hosts.items() if name not in self.without}

    def sites(self, rng: np.random.Generator) -> int:
        """1 to `max_sites`."""
        return int(rng.integers(1, self.max_sites + 1)) if self.max_sites > 0 else 0

    def suv(self, rng: np.random.Generator, host: str, uptake: _UPTAKE) -> float:
        """Lognormal."""
        suv = float(self.tracer.median * math.exp(rng.normal(0, self.tracer.spread)))
        suv = suv * uptake[_REFERENCE.get(host, host)] if self.tracer.relative else suv
        return self.limited(suv, host, uptake)

    def limited(self, suv: float, host: str, uptake: _UPTAKE) -> float:
        """Between half above the surroundings and the tracer's limit."""
        least = 1.5 * uptake[BACKGROUND.get(host, host)] + 0.5
        return min(max(suv, least), max(self.tracer.most, least))

    def diameter_mm(self, rng: np.random.Generator) -> float:
        """Lognormal, median 15 mm."""
        return float(np.clip(rng.lognormal(math.log(15), 0.5), self.smallest_mm, 60.0))


@dataclass(frozen=True)
class ManyLesions:
    """Tens of lesions of every size and contrast in all hosts in a range of `length_mm`, for training.

    Diameters are lognormal, median 11 mm, 4 to 40 mm. The excess over the surroundings, relative to them, is
    log-uniform from 0.3 (barely visible) to 29 (contrast 30), at least 0.15 and with the surroundings at most
    80 SUV.
    """

    length_mm: float
    without: tuple[str, ...] = ()
    smallest_mm: float = 4.0

    SITES_PER_MM = (0.08, 0.24)
    EXCESS = (0.3, 29.0)
    LEAST_SUV, MOST_SUV = 0.15, 80.0
    DIAMETER_MM = (11.0, 0.55, 40.0)  # median, standard deviation of the logarithm, most

    def hosts(self, volume_ml: Callable[[str], float]) -> dict[str, float]:
        """By the cube root of how much there is of each, so that small organs have lesions too."""
        found = {name: volume_ml(name) ** (1 / 3) for name in HOSTS if name not in self.without}
        found = {name: weight for name, weight in found.items() if weight}
        return found or {"soft_tissue": 1.0}

    def sites(self, rng: np.random.Generator) -> int:
        """Uniform in SITES_PER_MM times the length, at least one."""
        return max(1, round(self.length_mm * rng.uniform(*self.SITES_PER_MM)))

    def suv(self, rng: np.random.Generator, host: str, uptake: _UPTAKE) -> float:
        """Log-uniform excess."""
        low, high = (math.log(excess) for excess in self.EXCESS)
        background = uptake[BACKGROUND.get(host, host)]
        return self.limited(background * (1 + math.exp(rng.uniform(low, high))), host, uptake)

    def limited(self, suv: float, host: str, uptake: _UPTAKE) -> float:
        """At least EXCESS[0] and LEAST_SUV above the surroundings, at most MOST_SUV."""
        background = uptake[BACKGROUND.get(host, host)]
        least = background + max(self.LEAST_SUV, self.EXCESS[0] * background)
        return max(min(suv, self.MOST_SUV), least)

    def diameter_mm(self, rng: np.random.Generator) -> float:
        """Lognormal."""
        median, spread, most = self.DIAMETER_MM
        return float(np.clip(rng.lognormal(math.log(median), spread), self.smallest_mm, most))
