"""Organ table of the phantoms: label, FDG uptake, texture and attenuation class.

SUV = mean and standard deviation between patients; R = read in a source (Wang 2007, Mol Imaging Biol 9:83; Liu 2019,
Iran J Radiol 16:e84881), the others are assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MU_PER_MM = {"air": 0.0, "lung": 0.0028, "fat": 0.0089, "soft": 0.0096, "bone": 0.0130, "marrow": 0.0108}
"""Attenuation at 511 keV in 1/mm."""


@dataclass(frozen=True)
class Organ:
    """One tissue: label value, FDG SUV mean and sd over patients, texture CV inside it, attenuation class."""

    label: int
    suv: float
    suv_sd: float
    texture: float
    tissue: str


ORGANS = {
    "fat": Organ(1, 0.28, 0.06, 0.10, "fat"),
    "muscle": Organ(2, 0.68, 0.12, 0.12, "soft"),
    "lung": Organ(3, 0.50, 0.10, 0.18, "lung"),
    "myocardium": Organ(4, 3.5, 0.65, 0.10, "soft"),  # lognormal: median, sigma
    "blood_pool": Organ(5, 1.65, 0.28, 0.02, "soft"),
    "aorta": Organ(6, 1.65, 0.28, 0.02, "soft"),
    "liver": Organ(7, 2.20, 0.38, 0.05, "soft"),  # R
    "gallbladder": Organ(8, 0.9, 0.2, 0.02, "soft"),
    "spleen": Organ(9, 1.85, 0.32, 0.05, "soft"),
    "stomach_wall": Organ(10, 2.1, 0.6, 0.15, "soft"),
    "stomach_content": Organ(11, 0.5, 0.2, 0.10, "soft"),
    "pancreas": Organ(12, 1.65, 0.3, 0.08, "soft"),
    "kidney_cortex": Organ(13, 2.8, 0.6, 0.08, "soft"),
    "renal_pelvis": Organ(14, 6.75, 0.6, 0.10, "soft"),  # lognormal
    "adrenal": Organ(15, 1.6, 0.4, 0.05, "soft"),
    "small_bowel": Organ(16, 1.5, 0.4, 0.30, "soft"),
    "colon": Organ(17, 1.6, 0.6, 0.40, "soft"),
    "bladder": Organ(18, 13.5, 0.6, 0.01, "soft"),  # lognormal
    "esophagus": Organ(19, 1.5, 0.3, 0.10, "soft"),
    "trachea": Organ(20, 0.15, 0.02, 0.0, "air"),
    "thyroid": Organ(21, 1.3, 0.35, 0.05, "soft"),
    "salivary": Organ(22, 1.9, 0.5, 0.08, "soft"),
    "tonsil": Organ(23, 3.3, 1.0, 0.10, "soft"),  # R
    "tongue": Organ(24, 1.6, 0.5, 0.10, "soft"),
    "gray_matter": Organ(25, 8.5, 1.5, 0.06, "soft"),
    "white_matter": Organ(26, 3.0, 0.5, 0.05, "soft"),
    "csf": Organ(27, 0.5, 0.1, 0.05, "soft"),
    "deep_gray": Organ(28, 9.2, 1.5, 0.04, "soft"),
    "cerebellum": Organ(29, 7.0, 1.2, 0.06, "soft"),  # R
    "brainstem": Organ(30, 4.6, 0.8, 0.05, "soft"),
    "skull": Organ(31, 0.7, 0.15, 0.10, "bone"),
    "cortical_bone": Organ(32, 0.5, 0.1, 0.10, "bone"),
    "vertebra": Organ(33, 1.75, 0.35, 0.08, "marrow"),
    "pelvis_marrow": Organ(34, 1.35, 0.3, 0.10, "marrow"),
    "rib": Organ(35, 1.0, 0.2, 0.10, "bone"),
    "femur_marrow": Organ(36, 0.75, 0.2, 0.10, "marrow"),
    "spinal_cord": Organ(37, 1.6, 0.3, 0.05, "soft"),
    "prostate_uterus": Organ(38, 1.7, 0.4, 0.10, "soft"),
    "gonad": Organ(39, 2.4, 0.5, 0.05, "soft"),  # R
    "breast": Organ(40, 0.5, 0.12, 0.10, "fat"),
    "sternum": Organ(41, 1.4, 0.3, 0.08, "marrow"),
    "eye": Organ(42, 0.9, 0.2, 0.05, "soft"),
    "air": Organ(43, 0.0, 0.0, 0.0, "air"),
}

_LOGNORMAL_RANGES = {"myocardium": (0.9, 14.0), "bladder": (2.0, 60.0), "renal_pelvis": (2.0, 60.0)}


def draw_uptake(rng: np.random.Generator) -> dict[str, float]:
    """FDG SUV of every organ of one patient."""
    uptake = {}
    for name, organ in ORGANS.items():
        if name in _LOGNORMAL_RANGES:
            uptake[name] = float(
                np.clip(rng.lognormal(math.log(organ.suv), organ.suv_sd), *_LOGNORMAL_RANGES[name])
            )
        else:
            uptake[name] = max(0.05 * organ.suv, float(rng.normal(organ.suv, organ.suv_sd)))
    if rng.random() < 0.2:  # metformin-like bowel
        uptake["colon"] = float(rng.uniform(3, 7))
    return uptake
