"""Settings of a training on organs, the key `organs` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from drmc.errors import InputError
from drmc.organs.inputs import PATCH_PLANE
from drmc.settings import check, setting

CONDITIONS = ("corrected_full", "corrected_low", "uncorrected_full", "uncorrected_low")
"""Images of a patient: with and without correction for attenuation, at full and low dose."""


@dataclass(frozen=True)
class OrganSettings:
    """What is drawn from the patients of an organ training, and how it is changed.

    Attributes:
        plane: size of a patch along y and x in voxels of 4 mm; along z it is `patch`.
        conditions: share of the patches of each of `CONDITIONS`, of those that a patient has.
        organ_fraction: share of the patches centered on a class, all classes alike; the others lie anywhere.
        dose_mixing: share of the low-dose patches that are a mean of low and full dose with random weights.
        rotation: largest angle about each axis [degrees].
        stretch: largest factor along each axis, and one over it the smallest.
        elastic_mm: standard deviation of a smooth random displacement.
        cut_fraction: share of the patches of which a random part above or below is cut off.
        blur_mm: largest FWHM of a blur, of `changed` of the patches.
        bias: standard deviation of a smooth random factor, of `changed` of the patches.
        gamma: largest exponent of the uptake, and one over it the smallest, of `changed` of the patches.
        uptake: standard deviation of the logarithm of a factor on each class, of `changed` of the patches.
        changed: share of the patches for each of these.
        blind_fraction: share of the patches whose network is not told where in the body they are.
        dice_weight: of the soft Dice loss beside the cross-entropy.
        rarity: largest weight of a class in the cross-entropy.

    Raises:
        InputError: a value is not allowed.
    """

    plane: tuple[int, ...] = setting(PATCH_PLANE, at_least=8, what="two sizes in voxels")
    conditions: tuple[float, ...] = setting((0.35, 0.35, 0.1, 0.2), at_least=0, what="four shares")
    organ_fraction: float = setting(0.5, at_least=0, at_most=1)
    dose_mixing: float = setting(0.5, at_least=0, at_most=1)
    rotation: float = setting(12.0, at_least=0, at_most=90)
    stretch: float = setting(1.25, at_least=1)
    elastic_mm: float = setting(6.0, at_least=0)
    cut_fraction: float = setting(0.2, at_least=0, at_most=1)
    blur_mm: float = setting(6.0, at_least=0)
    bias: float = setting(0.15, at_least=0)
    gamma: float = setting(1.4, at_least=1)
    uptake: float = setting(0.35, at_least=0)
    changed: float = setting(0.25, at_least=0, at_most=1)
    blind_fraction: float = setting(0.2, at_least=0, at_most=1)
    dice_weight: float = setting(1.0, at_least=0)
    rarity: float = setting(8.0, at_least=1)

    def __post_init__(self) -> None:
        check(self)
        for key, count in (("plane", 2), ("conditions", len(CONDITIONS))):
            if len(getattr(self, key)) != count:
                raise InputError(f"organs: {key} must have {count} values")
        if not sum(self.conditions) > 0:
            raise InputError("organs: conditions must not all be 0")
