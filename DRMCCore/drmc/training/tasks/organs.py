"""The task of organs: PET to a class for every voxel of 4 mm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from drmc.datasets.manifest import Case
from drmc.errors import InputError
from drmc.models.registry import find_model
from drmc.models.weights import load_organ_network, save_model
from drmc.networks.organ_unet import OrganUNet, OrganUNetConfig
from drmc.organs.inputs import CHANNELS
from drmc.organs.table import classes
from drmc.training.tasks.base import Scores, Task
from drmc.training.tasks.organ_cases import fingerprint
from drmc.training.tasks.organ_loss import OrganBatch, OrganObjective
from drmc.training.tasks.organ_sampler import OrganPatch, OrganSampler
from drmc.training.tasks.organ_validation import OrganValidation

if TYPE_CHECKING:
    from drmc.training.processes import Processes
    from drmc.training.strategies.base import Slot

_ALIGNED = ("flmrcm", "flmrcm_mix")  # strategies that need a network's latent features


class Organs(Task):
    """Patches of simulated whole bodies; the network predicts the class of every voxel."""

    name = "organs"
    probe = 64  # on smaller patches the coarse levels cost more than their share
    kept = ("dice", "dice_corrected_full", "dice_corrected_low", "dice_uncorrected_full",
            "dice_uncorrected_low")  # fmt: skip

    def check(self) -> None:
        """Checks that network, patches, strategy and critics fit.

        Raises:
            InputError: they do not.
        """
        config, network = self.config, self.config.network
        assert isinstance(network, OrganUNetConfig)
        wanted = {"classes": len(classes()) + 1, "inputs": CHANNELS}
        for key, value in wanted.items():
            if getattr(network, key) != value:
                raise InputError(f"network: {key} = {getattr(network, key)}: organs need {value}")
        if any(size % network.multiple for size in config.organs.plane):
            raise InputError(
                f"organs: plane = {list(config.organs.plane)}: must be multiples of {network.multiple}"
            )
        for wrong, message in (
            (config.critic != "none", f"critic = {config.critic!r}: organs are trained without"),
            (config.strategy in _ALIGNED, f"strategy = {config.strategy!r}: needs a network that denoises"),
            (bool(config.prepared), "prepared: organs are read from the dataset; leave it out"),
            (config.trainable != "all", "trainable: the network of organs is trained whole; leave it out"),
            (config.form != "auto", "form: organs have one form only; leave it out"),
        ):
            if wrong:
                raise InputError(message)

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Size of a patch (z, y, x) in voxels."""
        return self.config.patch, *self.config.organs.plane

    def initial_network(self) -> OrganUNet:
        """That of `initial_weights`, or a new one from the seed."""
        config = self.config
        if config.initial_weights:
            network = load_organ_network(find_model(config.initial_weights))[0]
            if network.config != config.network:
                raise InputError(f"network: is not that of initial_weights {config.initial_weights}")
            return network
        torch.manual_seed(config.seed)
        assert isinstance(config.network, OrganUNetConfig)
        return OrganUNet(config.network)

    def example(self, edge: int) -> torch.Tensor:
        """(1, 4, D, H, W)."""
        return torch.rand(1, CHANNELS, edge, edge, edge)

    def fingerprint(self, *splits: dict[str, list[Case]]) -> str:
        """See `drmc.training.tasks.organ_cases.fingerprint`."""
        return fingerprint(*splits)

    def sampler(self, cases: dict[str, list[Case]], pooled: bool) -> OrganSampler:
        """Patches of these cases."""
        config = self.config
        return OrganSampler(cases, config.organs, patch=config.patch, seed=config.seed, pooled=pooled)

    def batch(self, slots: list[Slot], drawn: list[OrganPatch], device: torch.device) -> OrganBatch:
        """Inputs and labels of the patches."""
        inputs_BCDHW = torch.stack([patch.inputs for patch in drawn]).to(device)
        labels_BDHW = torch.stack([patch.labels for patch in drawn]).to(device).long()
        return OrganBatch(slots, inputs_BCDHW, labels_BDHW)

    def objective(self, processes: Processes) -> OrganObjective:
        """Cross-entropy and soft Dice."""
        return OrganObjective(self.config, processes)

    def held_out(self, cases: dict[str, list[Case]]) -> OrganValidation:
        """Whole patients in every condition."""
        return OrganValidation(cases, self.config)

    def gain(self, scores: Scores) -> float:
        """Mean Dice over the centers."""
        return float(np.nanmean(list(scores["dice"].values())))

    def figures(self, measured: Scores, center: str) -> dict[str, Any]:
        """Mean Dice of the last validation over the centers that the model is for, by condition."""
        found = {}
        for key, values in measured.items():
            mine = [values[center]] if center else list(values.values())
            mean = float(np.mean(mine))
            found[f"validation_{key}"] = mean if np.isfinite(mean) else None
        return found

    def save(self, path: Path, network: OrganUNet, card: Mapping[str, Any]) -> None:
        """Writes the weight file and the card, with the names of the classes."""
        names = {str(one.index): one.key for one in classes()}
        card = {**card, "task": self.name, "classes": names}
        save_model(path, network, self.config.patch, card, half=self.config.half_weights)
