"""Mixed training: one network, and the patients of all centers as if they were of one center."""

from __future__ import annotations

from drmc.training.strategies.base import OneSite


class Mixed(OneSite):
    """Each step has as many slots as in joint training, each with a patient of any center."""

    name = "mixed"
    any_center = True
