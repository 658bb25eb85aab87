"""Uptake of the tracers: SUV per organ, how much it varies between patients, and of lesions.

Source: "read" in a publication, everything else assumed. FDG: Wang 2007 (Mol Imaging Biol 9:83), Liu 2019
(Iran J Radiol 16:e84881). PSMA-11: mean SUVmax of 55 men (Clin Nucl Med, July 2017), times 0.65 for a mean
(assumed). DOTATATE: mean SUVmax of 120 patients (Ann Nucl Med 2013, doi 10.1007/s12149-013-0718-4), times 0.7
for a mean (assumed). FAPI: SUVmean of FAPI-04 in 20 patients (Front Nucl Med 2022;2:927843).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drmc.errors import InputError
from drmc.simulation.organs import ORGANS

READ, ASSUMED = "read", "assumed"


@dataclass(frozen=True)
class Uptake:
    """SUV of an organ over patients: normal, or lognormal and clipped to `limits`."""

    suv: float
    """Mean, or median of the lognormal."""
    spread: float
    """Standard deviation, of the logarithm for the lognormal."""
    lognormal: bool = False
    limits: tuple[float, float] = (0.0, math.inf)
    source: str = ASSUMED

    def draw(self, rng: np.random.Generator) -> float:
        """SUV of one patient; always one draw of the generator."""
        deviate = rng.standard_normal()
        if self.lognormal:
            return float(np.clip(self.suv * math.exp(self.spread * deviate), *self.limits))
        return float(
            np.clip(self.suv + self.spread * deviate, max(0.05 * self.suv, self.limits[0]), self.limits[1])
        )


@dataclass(frozen=True)
class LesionUptake:
    """SUV of lesions, lognormal."""

    median: float
    """SUV, or if `relative` a factor of the SUV of the host (of blood where the host has little)."""
    spread: float
    """Standard deviation of the logarithm."""
    relative: bool
    most: float
    """Largest SUV."""
    hosts: dict[str, float]
    """Weights."""
    source: str = ASSUMED


@dataclass(frozen=True)
class Tracer:
    """One tracer: uptake per organ and of lesions, and the share of its activity in the scan range."""

    name: str
    uptake: dict[str, Uptake]
    lesions: LesionUptake
    share: tuple[float, float]  # sum(SUV * ml) / weight: less what was voided and what lies in the legs
    men_only: bool = False


def _table(text: str) -> dict[str, Uptake]:
    """Lines `organ SUV spread [lognormal low high] [read]`."""
    table = {}
    for line in text.strip().splitlines():
        name, suv, spread, *rest = line.split()
        source = READ if rest and rest[-1] == READ else ASSUMED
        log = bool(rest) and rest[0] == "lognormal"
        limits = (float(rest[1]), float(rest[2])) if log else (0.0, math.inf)
        table[name] = Uptake(float(suv), float(spread), log, limits, source)
    for follower in BLOOD:
        table[follower] = table["blood_pool"]
    table.update((part, table[whole]) for part, whole in PARTS.items())
    table.update((empty, Uptake(0.0, 0.0)) for empty in ("air", "trachea", "metal"))
    if missing := ORGANS.keys() - table.keys():
        raise ValueError(f"no uptake for {', '.join(sorted(missing))}")
    return table


BLOOD = ("aorta", "heart", "vessel")
"""Organs that hold the same blood as `blood_pool`: one draw for all."""

PARTS = {
    "sacrum": "pelvis_marrow",
    "vertebra_process": "cortical_bone",
    "ureter": "renal_pelvis",
    "fluid": "csf",
}
"""Organs with labels of their own that take up what another organ does."""

WIDE_SD = 0.5  # standard deviation of the logarithm, see `widen`

_FDG = """
fat 0.32 0.06
muscle 0.75 0.12
lung 0.50 0.10
myocardium 3.5 0.65 lognormal 0.9 14
blood_pool 1.65 0.28
liver 2.20 0.38 read
gallbladder 0.9 0.2
spleen 1.85 0.32
stomach_wall 2.1 0.6
stomach_content 0.5 0.2
pancreas 1.65 0.3
kidney_cortex 2.8 0.6
renal_pelvis 6.75 0.6 lognormal 2 60
adrenal 1.6 0.4
small_bowel 1.5 0.4
colon 1.6 0.6
bladder 13.5 0.6 lognormal 2 60
esophagus 1.5 0.3
thyroid 1.3 0.35
salivary 1.9 0.5
tonsil 3.3 1.0 read
tongue 1.6 0.5
gray_matter 8.5 1.5
white_matter 3.0 0.5
csf 0.5 0.1
deep_gray 9.2 1.5
cerebellum 7.0 1.2 read
brainstem 4.6 0.8
skull 0.7 0.15
cortical_bone 0.5 0.1
vertebra 1.75 0.35
pelvis_marrow 1.35 0.3
rib 1.0 0.2
femur_marrow 0.75 0.2
spinal_cord 1.6 0.3
prostate_uterus 1.7 0.4
gonad 2.4 0.5 read
breast 0.5 0.12
sternum 1.4 0.3
eye 0.9 0.2
skin 0.6 0.12
disc 0.6 0.15
thymus 0.7 0.2
brown_fat 7.0 0.5 lognormal 2.5 20
duodenum 1.9 0.5
lacrimal 1.2 0.3
pituitary 2.5 0.6
"""
_PSMA = """
fat 0.25 0.06
muscle 0.55 0.12
lung 0.45 0.10
myocardium 1.4 0.25
blood_pool 1.6 0.30
liver 5.3 1.6 read
gallbladder 2.5 0.8 lognormal 0.5 30
spleen 7.1 2.5 read
stomach_wall 2.5 0.7
stomach_content 0.4 0.1
pancreas 2.2 0.5
kidney_cortex 40 12 read
renal_pelvis 30 0.5 lognormal 5 100
adrenal 4.0 1.0
small_bowel 4.5 0.4 lognormal 1.5 15
colon 1.8 0.5 lognormal 0.5 8
bladder 20 0.7 lognormal 2 120
esophagus 1.2 0.3
thyroid 1.3 0.4
salivary 16 5 read
tonsil 6.8 2.8 read
tongue 1.5 0.4
gray_matter 0.25 0.05
white_matter 0.15 0.03
csf 0.1 0.02
deep_gray 0.25 0.05
cerebellum 0.3 0.06
brainstem 0.25 0.05
skull 0.5 0.1
cortical_bone 0.4 0.1
vertebra 0.9 0.2
pelvis_marrow 0.8 0.2
rib 0.7 0.15
femur_marrow 0.5 0.1
spinal_cord 0.4 0.1
prostate_uterus 2.5 0.7
gonad 1.0 0.3
breast 0.5 0.1
sternum 0.8 0.2
eye 0.6 0.15
skin 0.5 0.1
disc 0.4 0.1
thymus 0.6 0.15
brown_fat 0.4 0.1
duodenum 11.4 0.45 lognormal 3 40 read
lacrimal 10.2 4.7 read
pituitary 0.8 0.2
"""
_DOTATATE = """
fat 0.25 0.06
muscle 0.65 0.12
lung 0.45 0.10
myocardium 1.0 0.2
blood_pool 1.1 0.25
liver 6.4 1.8 read
gallbladder 1.2 0.4
spleen 17 5 read
stomach_wall 3.2 0.9
stomach_content 0.4 0.1
pancreas 3.0 0.9
kidney_cortex 10 2.5 read
renal_pelvis 15 0.5 lognormal 4 60
adrenal 9.6 2.5 read
small_bowel 2.4 0.3 lognormal 1 8
colon 1.6 0.3 lognormal 0.6 5
bladder 18 0.7 lognormal 2 100
esophagus 1.4 0.3
thyroid 2.0 0.7
salivary 2.2 0.7
tonsil 2.0 0.5
tongue 1.2 0.3
gray_matter 0.12 0.03
white_matter 0.10 0.02
csf 0.1 0.02
deep_gray 0.12 0.03
cerebellum 0.15 0.03
brainstem 0.12 0.03
skull 0.4 0.1
cortical_bone 0.4 0.1
vertebra 0.9 0.2
pelvis_marrow 0.8 0.2
rib 0.7 0.15
femur_marrow 0.5 0.1
spinal_cord 0.4 0.1
prostate_uterus 2.6 0.7
gonad 1.2 0.3
breast 0.6 0.15
sternum 0.8 0.2
eye 0.5 0.1
skin 0.5 0.1
disc 0.4 0.1
thymus 1.1 0.3
brown_fat 0.5 0.1
duodenum 3.2 0.35 lognormal 1.2 9
lacrimal 1.5 0.4
pituitary 6.8 2.3 read
"""
_FAPI = """
fat 0.35 0.08
muscle 1.1 0.25
lung 0.5 0.12
myocardium 1.5 0.35
blood_pool 1.5 0.30
liver 0.95 0.25
gallbladder 3.6 0.7 lognormal 0.6 25 read
spleen 1.0 0.25
stomach_wall 1.3 0.3
stomach_content 0.4 0.1
pancreas 1.9 0.6
kidney_cortex 2.2 0.5
renal_pelvis 3.5 0.6 lognormal 1.5 40 read
adrenal 1.2 0.3
small_bowel 1.2 0.25 lognormal 0.5 4
colon 0.9 0.25 lognormal 0.4 3
bladder 14 0.7 lognormal 2 80
esophagus 1.2 0.3
thyroid 1.8 0.5
salivary 3.0 0.8 read
tonsil 1.6 0.4
tongue 1.3 0.3
gray_matter 0.10 0.03
white_matter 0.08 0.02
csf 0.1 0.02
deep_gray 0.10 0.03
cerebellum 0.12 0.03
brainstem 0.12 0.03
skull 0.5 0.15 read
cortical_bone 0.45 0.15 read
vertebra 0.6 0.2 read
pelvis_marrow 0.55 0.2 read
rib 0.6 0.2 read
femur_marrow 0.5 0.2 read
spinal_cord 0.5 0.1
prostate_uterus 3.4 1.0 read
gonad 1.3 0.3
breast 0.7 0.2
sternum 0.6 0.2 read
eye 0.6 0.15
skin 0.8 0.2
disc 0.8 0.2
thymus 0.8 0.2
brown_fat 0.4 0.1
duodenum 1.2 0.25 lognormal 0.5 4
lacrimal 1.2 0.3
pituitary 0.8 0.2
"""
_HOSTS = {
    "nodal": 0.24,
    "liver": 0.21,
    "lung": 0.20,
    "vertebra": 0.15,
    "pelvis_marrow": 0.07,
    "rib": 0.04,
    "soft_tissue": 0.03,
    "adrenal": 0.02,
    "spleen": 0.02,
    "femur_marrow": 0.02,
}
_PROSTATE_HOSTS = {
    "nodal": 0.36,
    "vertebra": 0.20,
    "pelvis_marrow": 0.20,
    "rib": 0.10,
    "femur_marrow": 0.05,
    "liver": 0.03,
    "lung": 0.05,
    "adrenal": 0.01,
}
_NEUROENDOCRINE_HOSTS = {**_HOSTS, "liver": 0.40, "lung": 0.06, "nodal": 0.24, "vertebra": 0.10}

TRACERS = {
    tracer.name: tracer
    for tracer in (
        Tracer("FDG", _table(_FDG), LesionUptake(3.2, 0.45, True, 25.0, _HOSTS), (0.87, 1.03)),
        Tracer(
            "PSMA-11",
            _table(_PSMA),
            LesionUptake(12.0, 0.7, False, 80.0, _PROSTATE_HOSTS),
            (0.60, 0.98),
            True,
        ),
        Tracer(
            "DOTATATE",
            _table(_DOTATATE),
            LesionUptake(18.0, 0.6, False, 90.0, _NEUROENDOCRINE_HOSTS),
            (0.60, 0.98),
        ),
        Tracer("FAPI", _table(_FAPI), LesionUptake(8.0, 0.5, False, 35.0, _HOSTS), (0.60, 0.98)),
    )
}
"""The tracers by name."""

MIXED = "mixed"
MIXED_TRACERS = {"FDG": 0.55, "PSMA-11": 0.15, "DOTATATE": 0.15, "FAPI": 0.15}
"""Share of the patients of each tracer where tracers are mixed (assumed: most scans are FDG)."""


def find_tracer(name: str) -> Tracer:
    """The tracer of that name. Raises InputError for any other name."""
    if name not in TRACERS:
        raise InputError(f"unknown tracer '{name}': choose from {', '.join(TRACERS)}")
    return TRACERS[name]


def draw_tracer(rng: np.random.Generator, name: str) -> str:
    """The name, or where it is `mixed` one of MIXED_TRACERS by its share."""
    return str(rng.choice(list(MIXED_TRACERS), p=list(MIXED_TRACERS.values()))) if name == MIXED else name


def draw_uptake(rng: np.random.Generator, tracer: Tracer) -> dict[str, float]:
    """SUV of every organ of one patient."""
    uptake = {name: tracer.uptake[name].draw(rng) for name in ORGANS if name not in PARTS}
    _follow(uptake)
    return uptake


def _follow(uptake: dict[str, float]) -> None:
    """Sets the uptake of organs that follow another one."""
    uptake.update((name, uptake["blood_pool"]) for name in BLOOD)
    uptake.update((part, uptake[whole]) for part, whole in PARTS.items())


def widen(rng: np.random.Generator, uptake: dict[str, float]) -> None:
    """Multiplies every organ's uptake by its own lognormal factor, at most 4 either way.

    A network trained on such patients cannot rely on the order of organs that one tracer has.
    """
    for name in uptake:
        factor = float(np.exp(np.clip(WIDE_SD * rng.standard_normal(), -math.log(4), math.log(4))))
        if name not in PARTS and name not in BLOOD:
            uptake[name] *= factor
    _follow(uptake)
