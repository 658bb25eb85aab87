"""Validation of an organ training: whole held-out patients on the grid of the organs, in every condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from drmc.datasets.manifest import Case
from drmc.measures.organs import LEAST_ML
from drmc.organs.cleaning import cleaned
from drmc.organs.grid import ORGAN_MM
from drmc.organs.scores import body_scores
from drmc.organs.segmenter import largest
from drmc.organs.table import MIDDLE, ORGANS, classes, opposite
from drmc.training.tasks.organ_cases import OrganCase
from drmc.training.tasks.organ_settings import CONDITIONS

if TYPE_CHECKING:
    from drmc.networks.organ_unet import OrganUNet
    from drmc.training.config import TrainingConfig
    from drmc.training.tasks.base import Scores


class OrganValidation:
    """Held-out patients of several centers, on which any network can be measured."""

    def __init__(self, cases: Mapping[str, list[Case]], config: TrainingConfig):
        self._cases = {center: [OrganCase(case) for case in found] for center, found in cases.items()}
        self._length = config.patch
        self._dtype = torch.bfloat16 if config.precision == "bf16" else None

    @torch.no_grad()
    def measure(self, network: OrganUNet | Mapping[str, OrganUNet]) -> Scores:
        """Scores as measure -> center -> mean over the center's patients.

        Labels are put in order as those of a scan are. All as in an evaluation, other than the grid:

        - `dice`: mean over the organs of a scan of which LEAST_ML and more are in the field, and 0 of absent
          ones of which more is found; mean over the conditions; `dice_corrected_full` and so on: of each
          condition;
        - `false_organs`: share of the absent organs of which more than LEAST_ML is found;
        - `side_error`: share of the voxels of paired organs that are labeled as those of the other side.

        Args:
            network: one for all centers, or by center, "" for those that are not named.
        """
        networks = network if isinstance(network, Mapping) else {"": network}
        result: Scores = {}
        for center, cases in self._cases.items():
            mine = networks.get(center) or networks[""]
            training = mine.training
            mine.eval()
            rows = [self._scores(mine, case, c) for case in cases for c in CONDITIONS if c in case.paths]
            mine.train(training)
            by_condition = {
                f"dice_{condition}": [row["dice"] for row in rows if row["condition"] == condition]
                for condition in CONDITIONS
            }
            of_conditions = {key: _mean(values) for key, values in by_condition.items()}
            own = {
                "dice": _mean(list(of_conditions.values())),
                **of_conditions,
                "false_organs": _mean([row["false_organs"] for row in rows]),
                "side_error": _mean([row["side_error"] for row in rows]),
            }
            for key, value in own.items():
                result.setdefault(key, {})[center] = value
        return result

    def _scores(self, network: OrganUNet, case: OrganCase, condition: str) -> dict[str, Any]:
        image, truth = case.image(condition), case.labels()
        frame = case.frame(condition, image)
        scores, region = body_scores(network, image, frame, self._length, compute_dtype=self._dtype)
        found = np.zeros(truth.shape, np.uint8)
        found[region] = cleaned(largest(scores), frame.middle - region[2].start)[0]
        return {"condition": condition, **measured(found, truth)}


def measured(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean Dice over the organs, share of false organs, and share of voxels on the wrong side.

    NaN where there is nothing to count.

    Args:
        found: classes on the grid of the organs, uint8.
        truth: the same.
    """
    count = len(classes()) + 1
    table = np.bincount(truth.ravel().astype(np.int64) * count + found.ravel(), minlength=count**2)
    table = table.reshape(count, count)  # truth x found
    own, wanted, given = table.diagonal(), table.sum(1), table.sum(0)
    ml = ORGAN_MM**3 / 1000
    dices, false, absent, crossed, paired = [], 0, 0, 0, 0
    for one in classes():
        k = one.index
        if one.side != MIDDLE and (other := opposite(one)) is not None:
            crossed, paired = crossed + int(table[k, other.index]), paired + int(wanted[k])
        if k > ORGANS:
            continue
        if wanted[k] * ml >= LEAST_ML:
            dices.append(2 * own[k] / (wanted[k] + given[k]))
        elif not wanted[k]:
            absent += 1
            if given[k] * ml > LEAST_ML:
                false += 1
                dices.append(0.0)
    share = lambda part, whole: part / whole if whole else float("nan")
    return {
        "dice": _mean(dices),
        "false_organs": share(false, absent),
        "side_error": share(crossed, paired),
    }


def _mean(values: list[float]) -> float:
    """Mean of the values that are defined, NaN if there are none."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
