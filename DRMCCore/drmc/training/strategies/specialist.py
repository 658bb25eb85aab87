"""Specialists: a network for each center, which learns from its own patients alone."""

from __future__ import annotations

from collections.abc import Sequence

from drmc.errors import InputError
from drmc.networks.protocol import ResidualNetwork
from drmc.training.strategies.base import Site, SitePerCenter


class Specialist(SitePerCenter):
    """The sites never meet; there is no model of every center."""

    name = "specialist"

    def check(self) -> None:
        """Raises InputError where other centers are to be watched, for which there is no model."""
        if self.config.watched_dataset:
            raise InputError(
                "watched_dataset: specialists are one model per center; watch with another strategy"
            )

    def models(self, sites: Sequence[Site]) -> dict[str, ResidualNetwork]:
        """Each center's own moving average."""
        return {site.name: site.average for site in sites}
