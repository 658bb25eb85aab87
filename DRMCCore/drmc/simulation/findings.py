"""What some patients lack or have besides: absent organs, fluid, large liver or spleen, an artificial hip."""

from __future__ import annotations

import numpy as np

RATES = {
    "no_gallbladder": 0.06,
    "no_spleen": 0.01,
    "no_kidney": 0.01,
    "no_uterus": 0.08,
    "no_breast": 0.03,
    "hip_prosthesis": 0.02,
    "ascites": 0.02,
    "pleural_effusion": 0.03,
    "large_liver": 0.03,
    "large_spleen": 0.03,
}
"""Share of the patients with each finding, of the women for uterus and breast (assumed)."""

_WOMEN = ("no_uterus", "no_breast")
_ONE_SIDED = ("no_kidney", "no_breast", "hip_prosthesis", "pleural_effusion")


class Findings:
    """The findings of one patient, each with its side where it has one (+1 the patient's left)."""

    def __init__(self, rng: np.random.Generator, female: bool):
        chances, sides = rng.random(len(RATES)), rng.random(len(RATES))
        self._sides = {
            name: (1 if side < 0.5 else -1) if name in _ONE_SIDED else 0
            for (name, rate), chance, side in zip(RATES.items(), chances, sides, strict=True)
            if chance < rate and (female or name not in _WOMEN)
        }

    def __contains__(self, name: str) -> bool:
        return name in self._sides

    def on(self, name: str, side: int) -> bool:
        """Whether the patient has it on that side."""
        return self._sides.get(name) == side

    def names(self) -> list[str]:
        """For the facts, e.g. `no_gallbladder`, `no_kidney:left`."""
        return [name + {1: ":left", -1: ":right", 0: ""}[side] for name, side in self._sides.items()]
