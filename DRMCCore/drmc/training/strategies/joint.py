"""Joint training: one network learns from all centers at once."""

from __future__ import annotations

from drmc.training.strategies.base import OneSite


class Joint(OneSite):
    """Each step has a slot for each center."""

    name = "joint"
