"""The loss of an organ training: cross-entropy and soft Dice, also of coarser features.

Axes: B patches, K classes, D, H, W voxels along z, y, x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from drmc.networks.organ_unet import OrganUNet
from drmc.training.objectives import Objective, Outcome

if TYPE_CHECKING:
    from drmc.training.strategies.base import Site, Slot

COARSER = 0.5
"""Weight of the loss of the next coarser features, relative to that of the finer ones."""
_SMOOTH = 1.0  # voxels, added above and below in Dice


@dataclass
class OrganBatch:
    """Patches of a step.

    Attributes:
        slots: the slot of each.
        inputs_BCDHW: what the network sees.
        labels_BDHW: the classes, int64.
    """

    slots: list[Slot]
    inputs_BCDHW: Tensor
    labels_BDHW: Tensor


def organ_loss(scores_KDHW: Tensor, labels_DHW: Tensor, weights_K: Tensor, dice_weight: float) -> Tensor:
    """Weighted cross-entropy plus 1 - mean soft Dice over the organs present in the patch.

    An absent organ is wrong wherever it is predicted: the cross-entropy says so.

    Args:
        scores_KDHW: before softmax.
        labels_DHW: classes, int64.
        weights_K: of the classes in the cross-entropy, which is a weighted mean.
        dice_weight: of the Dice loss.
    """
    logs_KN, labels_N = F.log_softmax(scores_KDHW.flatten(1), 0), labels_DHW.flatten()
    own_N = logs_KN.gather(0, labels_N[None])[0]
    weights_N = weights_K[labels_N]
    entropy = -(own_N * weights_N).sum() / weights_N.sum()
    if not dice_weight:
        return entropy
    inside_K = torch.zeros_like(weights_K).index_add(0, labels_N, own_N.exp())
    truth_K = torch.zeros_like(weights_K).index_add(0, labels_N, torch.ones_like(own_N))
    found_K = logs_KN.exp().sum(1)
    dice_K = (2 * inside_K + _SMOOTH) / (found_K + truth_K + _SMOOTH)
    present_K = truth_K > 0
    present_K[0] = False
    count = present_K.sum().clamp(min=1)
    dice = torch.where(present_K.any(), (dice_K * present_K).sum() / count, torch.ones_like(entropy))
    return entropy + dice_weight * (1 - dice)


def soft_loss(scores_KDHW: Tensor, shares_KDHW: Tensor, weights_K: Tensor, dice_weight: float) -> Tensor:
    """As `organ_loss`, for cubes of which each class has a share."""
    logs_KN, shares_KN = F.log_softmax(scores_KDHW.flatten(1), 0), shares_KDHW.flatten(1)
    weighted_KN = shares_KN * weights_K[:, None]
    entropy = -(logs_KN * weighted_KN).sum() / weighted_KN.sum()
    if not dice_weight:
        return entropy
    found_KN = logs_KN.exp()
    truth_K = shares_KN.sum(1)
    dice_K = (2 * (found_KN * shares_KN).sum(1) + _SMOOTH) / (found_KN.sum(1) + truth_K + _SMOOTH)
    present_K = truth_K > 0
    present_K[0] = False
    count = present_K.sum().clamp(min=1)
    dice = torch.where(present_K.any(), (dice_K * present_K).sum() / count, torch.ones_like(entropy))
    return entropy + dice_weight * (1 - dice)


def class_shares(labels_DHW: Tensor, classes: int, edge: int) -> Tensor:
    """The share of each class in cubes of voxels, float32 (K, D / edge, H / edge, W / edge).

    Counting takes a sixtieth of the time of a mean over an image of each class.

    Args:
        labels_DHW: classes, int64.
        classes: K.
        edge: of the cubes; the sizes are multiples of it.
    """
    D, H, W = (n // edge for n in labels_DHW.shape)
    cubes = labels_DHW.view(D, edge, H, edge, W, edge).permute(0, 2, 4, 1, 3, 5).reshape(-1, edge**3)
    number = torch.arange(len(cubes), device=cubes.device)[:, None]
    counts = torch.bincount((cubes + classes * number).flatten(), minlength=classes * len(cubes))
    return counts.view(D, H, W, classes).movedim(-1, 0).float() / edge**3


class OrganObjective(Objective):
    """The loss of the labels, of the finest features and with less weight of the coarser ones."""

    def backward(self, site: Site, batch: OrganBatch, step: int, rate: float) -> Outcome:  # type: ignore[override]
        """Adds the patches' gradients to those of the site's network."""
        network = site.network
        assert isinstance(network, OrganUNet)
        scores = network(batch.inputs_BCDHW, self.compute_dtype)
        per_slot = torch.stack(
            [
                self._loss([level_BKDHW[b] for level_BKDHW in scores], labels_DHW)
                for b, labels_DHW in enumerate(batch.labels_BDHW)
            ]
        )
        (per_slot.sum() / self.share(site)).backward()
        return Outcome(per_slot.detach(), per_slot.new_zeros(len(per_slot), 0, 0))

    def _loss(self, levels: list[Tensor], labels_DHW: Tensor) -> Tensor:
        from drmc.training.tasks.organ_cases import class_weights

        settings = self.config.organs
        weights_K = torch.from_numpy(class_weights(settings.rarity)).to(levels[0])
        found = organ_loss(levels[0], labels_DHW, weights_K, settings.dice_weight)
        weight, total = 1.0, 1.0
        for level in levels[1:]:
            edge = labels_DHW.shape[0] // level.shape[1]
            shares = class_shares(labels_DHW, len(weights_K), edge).to(level.dtype)
            weight *= COARSER
            total += weight
            found = found + weight * soft_loss(level, shares, weights_K, settings.dice_weight)
        return found / total
