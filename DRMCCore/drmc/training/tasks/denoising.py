"""The task of denoising: low dose to full dose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from drmc.datasets.manifest import Case
from drmc.models.weights import save_model
from drmc.training.objectives import Batch, Objective
from drmc.training.pairs import Pair, Wanted, fingerprint, pairs_of
from drmc.training.sampler import Patch, PatchSampler
from drmc.training.start import initial_network
from drmc.training.tasks.base import Scores, Task
from drmc.training.validation import Validation

if TYPE_CHECKING:
    from drmc.networks.protocol import ResidualNetwork
    from drmc.training.processes import Processes
    from drmc.training.strategies.base import Slot


class Denoising(Task):
    """Patches of pairs of low and full dose; the network predicts their difference."""

    name = "denoise"
    kept = ("psnr", "psnr_low")

    def initial_network(self) -> ResidualNetwork:
        """See `drmc.training.start.initial_network`."""
        return initial_network(self.config)

    def example(self, edge: int) -> torch.Tensor:
        """(1, 1, D, H, W)."""
        return torch.rand(1, 1, edge, edge, edge)

    def fingerprint(self, *splits: dict[str, list[Case]]) -> str:
        """See `drmc.training.pairs.fingerprint`."""
        return fingerprint(*splits)

    def sampler(self, cases: dict[str, list[Case]], pooled: bool) -> PatchSampler:
        """Patches of the pairs of these cases."""
        config = self.config
        wanted = Wanted(lesions=config.lesion_weight != 1, noise_free=config.target != "full")
        return PatchSampler(
            self._load(cases, wanted),
            patch=config.patch,
            seed=config.seed,
            hot_fraction=config.hot_fraction,
            scale_range=config.scale_range,
            flips=config.flips,
            dose_mixing=config.dose_mixing,
            pooled=pooled,
            target=config.target,
            lesion_weight=config.lesion_weight,
            spots=config.spots,
            noise_balance=config.noise_balance,
            faint_weight=config.faint_weight,
        )

    def batch(self, slots: list[Slot], drawn: list[Patch], device: torch.device) -> Batch:
        """Low doses and what is to be added to them."""
        stack = lambda images: torch.from_numpy(np.stack(images))[:, None].to(device)
        low_BCDHW = stack([patch.low for patch in drawn])
        wanted_BCDHW = stack([patch.target for patch in drawn]) - low_BCDHW
        given = [patch.weight for patch in drawn if patch.weight is not None]
        weights = stack(given) if given else [None] * len(drawn)
        return Batch(slots, low_BCDHW, wanted_BCDHW, list(weights))

    def objective(self, processes: Processes) -> Objective:
        """The loss of the patches."""
        return Objective(self.config, processes)

    def held_out(self, cases: dict[str, list[Case]]) -> Validation:
        """Pairs of these cases, in a few tiles."""
        return Validation(self._load(cases, Wanted(lesions=True)), self.config)

    def gain(self, scores: Scores) -> float:
        """Mean gain in PSNR over the low dose [dB]."""
        return float(np.mean([scores["psnr"][c] - scores["psnr_low"][c] for c in scores["psnr"]]))

    def figures(self, measured: Scores, center: str) -> dict[str, Any]:
        """Mean validation PSNR and gain [dB] over the centers that the model is for; None if not finite."""
        psnr, low = measured["psnr"], measured["psnr_low"]
        centers = [center] if center else list(psnr)
        figures = {
            "validation_psnr": np.mean([psnr[c] for c in centers]),
            "validation_gain": np.mean([psnr[c] - low[c] for c in centers]),
        }
        return {key: float(value) if np.isfinite(value) else None for key, value in figures.items()}

    def save(self, path: Path, network: ResidualNetwork, card: Mapping[str, Any]) -> None:
        """Writes the weight file and the card."""
        tile = self.config.tile or self.config.patch
        save_model(path, network, tile, card, half=self.config.half_weights)

    def _load(self, cases: dict[str, list[Case]], wanted: Wanted) -> dict[str, list[Pair]]:
        folder = Path(self.config.prepared) if self.config.prepared else None
        return pairs_of(cases, folder, wanted=wanted)
