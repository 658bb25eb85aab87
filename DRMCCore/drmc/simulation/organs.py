"""Organ table of the phantoms: label, texture and attenuation class. Uptake is in `tracers.py`.

The left one of a pair has the label of its organ plus `LEFT`: use `organ_mask` instead of comparing labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

MU_PER_MM = {
    "air": 0.0,
    "lung": 0.0028,
    "fat": 0.0089,
    "soft": 0.0096,
    "bone": 0.0130,
    "marrow": 0.0108,
    "metal": 0.037,
}
"""Attenuation at 511 keV in 1/mm; metal is titanium."""

LEFT = 100
"""Added to the label of the left one of a pair."""


@dataclass(frozen=True)
class Organ:
    """One tissue."""

    label: int
    tissue: str
    """Attenuation class, a key of `MU_PER_MM`."""
    texture: float
    """Coefficient of variation of the uptake at 14 to 40 mm."""
    fine: float = 0.0
    """The same at 8 mm."""
    paired: bool = False
    """Whether the left one has a label of its own."""


ORGANS = {
    "fat": Organ(1, "fat", 0.14, 0.09),
    "muscle": Organ(2, "soft", 0.15, 0.09),
    "lung": Organ(3, "lung", 0.22, 0.09, paired=True),
    "myocardium": Organ(4, "soft", 0.10, 0.03),
    "blood_pool": Organ(5, "soft", 0.02),
    "aorta": Organ(6, "soft", 0.02),
    "liver": Organ(7, "soft", 0.06, 0.035),
    "gallbladder": Organ(8, "soft", 0.02),
    "spleen": Organ(9, "soft", 0.06, 0.035),
    "stomach_wall": Organ(10, "soft", 0.15, 0.06),
    "stomach_content": Organ(11, "soft", 0.10, 0.03),
    "pancreas": Organ(12, "soft", 0.08, 0.06),
    "kidney_cortex": Organ(13, "soft", 0.08, 0.05, paired=True),
    "renal_pelvis": Organ(14, "soft", 0.10, paired=True),
    "adrenal": Organ(15, "soft", 0.05, paired=True),
    "small_bowel": Organ(16, "soft", 0.30, 0.10),
    "colon": Organ(17, "soft", 0.40, 0.10),
    "bladder": Organ(18, "soft", 0.01),
    "esophagus": Organ(19, "soft", 0.10),
    "trachea": Organ(20, "air", 0.0),
    "thyroid": Organ(21, "soft", 0.05),
    "salivary": Organ(22, "soft", 0.08, 0.04, paired=True),
    "tonsil": Organ(23, "soft", 0.10, paired=True),
    "tongue": Organ(24, "soft", 0.10),
    "gray_matter": Organ(25, "soft", 0.06),
    "white_matter": Organ(26, "soft", 0.05),
    "csf": Organ(27, "soft", 0.05),
    "deep_gray": Organ(28, "soft", 0.04),
    "cerebellum": Organ(29, "soft", 0.06),
    "brainstem": Organ(30, "soft", 0.05),
    "skull": Organ(31, "bone", 0.10),
    "cortical_bone": Organ(32, "bone", 0.10),
    "vertebra": Organ(33, "marrow", 0.08, 0.05),
    "pelvis_marrow": Organ(34, "marrow", 0.10, 0.05, paired=True),
    "rib": Organ(35, "bone", 0.10, paired=True),  # with clavicle and scapula
    "femur_marrow": Organ(36, "marrow", 0.10, paired=True),
    "spinal_cord": Organ(37, "soft", 0.05),
    "prostate_uterus": Organ(38, "soft", 0.10),
    "gonad": Organ(39, "soft", 0.05, paired=True),
    "breast": Organ(40, "fat", 0.10, 0.10, paired=True),
    "sternum": Organ(41, "marrow", 0.08, 0.05),
    "eye": Organ(42, "soft", 0.05, paired=True),
    "air": Organ(43, "air", 0.0),
    "skin": Organ(44, "soft", 0.10),
    "disc": Organ(45, "soft", 0.05),
    "heart": Organ(46, "soft", 0.02),  # the chambers; the muscle of the ventricles is `myocardium`
    "vessel": Organ(47, "soft", 0.02),  # large ones other than aorta and cava
    "thymus": Organ(48, "soft", 0.10),
    "brown_fat": Organ(49, "fat", 0.15, 0.10),
    "duodenum": Organ(50, "soft", 0.15, 0.06),
    "lacrimal": Organ(51, "soft", 0.05, paired=True),
    "pituitary": Organ(52, "soft", 0.0),
    # labels of their own, with the uptake of another organ
    "sacrum": Organ(53, "marrow", 0.10, 0.05),
    "vertebra_process": Organ(54, "bone", 0.10),
    "ureter": Organ(55, "soft", 0.10),
    "fluid": Organ(56, "soft", 0.02),  # ascites, effusion
    "metal": Organ(57, "metal", 0.0),
}


def organ_label(name: str, side: int = 0) -> int:
    """Label value of an organ; `side` +1 is the patient's left one of a pair."""
    organ = ORGANS[name]
    return organ.label + (LEFT if organ.paired and side > 0 else 0)


def organ_labels(*names: str) -> list[int]:
    """Label values of organs, both sides of a pair."""
    return [
        value
        for name in names
        for value in (
            [ORGANS[name].label]
            if not ORGANS[name].paired
            else [ORGANS[name].label, ORGANS[name].label + LEFT]
        )
    ]


def organ_mask(labels: torch.Tensor, *names: str) -> torch.Tensor:
    """Where a label map (any shape) shows one of the organs, both sides of a pair."""
    return torch.isin(labels, torch.tensor(organ_labels(*names), dtype=labels.dtype))


def label_table(*names: str) -> torch.Tensor:
    """Bool tensor (256,): the label values of organs, both sides of a pair; `background` is 0."""
    table = torch.zeros(256, dtype=torch.bool)
    for name in names:
        table[[0] if name == "background" else organ_labels(name)] = True
    return table
