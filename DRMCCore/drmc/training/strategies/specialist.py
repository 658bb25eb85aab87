"""Specialists: a network for each center, which learns from the center's own patients only."""

from __future__ import annotations

from collections.abc import Sequence

from drmc.errors import InputError
from drmc.networks.protocol import ResidualNetwork
from drmc.training.strategies.base import Site, SitePerCenter


class Specialist(SitePerCenter):
    """Sites exchange nothing; there is no model for every center."""

    name = "specialist"

    def check(self) -> None:
        """Checks that no other centers are to be watched.

        Raises:
            InputError: they are, but there is no model for them.
        """
        if self.config.watched_dataset:
            raise InputError(
                "watched_dataset: specialists are one model per center; watch with another strategy"
            )

    def models(self, sites: Sequence[Site]) -> dict[str, ResidualNetwork]:
        """Each center's own moving average."""
        return {site.name: site.average for site in sites}
