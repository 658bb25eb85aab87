"""The choice of a filter's parameters, on patients that are not among those of the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from drmc.evaluation.config import STABILIZED, EvaluationConfig
from drmc.evaluation.filters import (
    gaussian_filter,
    nonlocal_means_parameters,
    nonlocal_means_slices,
    restored,
    stabilized,
)
from drmc.evaluation.measures import Pair
from drmc.evaluation.records import Choice
from drmc.imaging.body import body_mask
from drmc.imaging.masks import bounding_box
from drmc.imaging.smoothing import noise_level
from drmc.measures.metrics import SUV_RANGE, psnr

HEIGHTS = (0.25, 0.5, 0.75)  # of the body, where the slabs are on which non-local means are tuned
SLABS = "slabs of {:g} mm at a quarter, a half and three quarters of the body's height"


@dataclass(frozen=True)
class Grid:
    """The combinations of parameters that are tried."""

    parameters: tuple[tuple[tuple[str, float], ...], ...]
    slab_mm: float | None = None
    """Height of the slabs that they are tried on; None: the whole patient."""

    def depends_on(self) -> list[Any]:
        """What a stored score depends on, JSON-able."""
        return [[dict(one) for one in self.parameters], self.slab_mm]


def grid_of(config: EvaluationConfig, name: str) -> Grid:
    """The grid of a filter."""
    if name == "gaussian":
        return Grid(tuple((("fwhm_mm", width),) for width in config.gaussian_fwhm_mm))
    combinations = product(config.nlm_patch, config.nlm_reach, config.nlm_strength)
    named = tuple((("patch", p), ("reach", r), ("strength", s)) for p, r, s in combinations)
    return Grid(named, config.nlm_slab_mm)


def score(pair: Pair, name: str, grid: Grid, share: Callable[[float], None]) -> list[float]:
    """PSNR [dB] inside the body of every combination, in the order of the grid.

    The Gaussian on the whole patient; non-local means in the slabs of the grid, each seen with what lies
    around it, as they are in the whole patient. `share` is called with the share that is done.
    """
    spacing = pair.geometry.spacing_zyx
    scores = []
    if name == "gaussian":
        for done, combination in enumerate(grid.parameters, 1):
            filtered = gaussian_filter(pair.low, spacing, **dict(combination))
            scores.append(psnr(filtered, pair.full, data_range=SUV_RANGE, mask=pair.body))
            share(done / len(grid.parameters))
        return scores
    low_body = body_mask(pair.low, spacing)
    box = bounding_box(low_body)
    if box is None:
        return [math.nan] * len(grid.parameters)
    roots = name == STABILIZED
    whole = stabilized(pair.low) if roots else pair.low
    level = noise_level(whole, low_body, spacing)
    low, full, image = pair.low[box], pair.full[box], whole[box]
    body, low_body = pair.body[box], low_body[box]
    parts = [slice(None)] if grid.slab_mm is None else slabs(low.shape[0], spacing[0], grid.slab_mm)
    for done, combination in enumerate(grid.parameters, 1):
        patch, reach, strength = nonlocal_means_parameters(dict(combination))
        slab_images = [
            nonlocal_means_slices(image, strength * level, patch, reach, slices=part) for part in parts
        ]
        together = lambda volume: np.concatenate([volume[part] for part in parts])
        mask, filtered = together(body), np.concatenate(slab_images)
        if roots:
            filtered = restored(filtered, together(low), together(low_body))
        value = psnr(filtered, together(full), data_range=SUV_RANGE, mask=mask) if mask.any() else math.nan
        scores.append(value)
        share(done / len(grid.parameters))
    return scores


def slabs(slices: int, step_mm: float, height_mm: float) -> list[slice]:
    """Slabs of a height around the `HEIGHTS` of a stack of slices, cut to it; overlapping ones are one."""
    half = max(1, round(height_mm / step_mm)) / 2
    found: list[slice] = []
    for height in HEIGHTS:
        low, high = (round(height * slices + side * half) for side in (-1, 1))
        low, high = max(0, low), min(slices, max(high, low + 1))
        if found and low <= found[-1].stop:
            low = found.pop().start
        found.append(slice(low, high))
    return found


def choose(grid: Grid, scores: Sequence[Sequence[float | None]]) -> Choice | None:
    """The combination of the highest mean score over the patients; None where no patient has one.

    Returns `parameters`, the mean `psnr` [dB], the number of `patients`, and `at_the_end_of`: parameters
    whose chosen value is the smallest or the largest of more than two that were tried, so that a better one
    may lie beyond.
    """
    complete = [[value for value in row if value is not None and math.isfinite(value)] for row in scores]
    rows = [values for values, row in zip(complete, scores, strict=True) if len(values) == len(row)]
    table = np.array(rows, dtype=np.float64)
    if not table.size:
        return None
    means = table.mean(axis=0)
    best = dict(grid.parameters[int(np.argmax(means))])
    return {
        "parameters": best,
        "psnr": float(means.max()),
        "patients": len(table),
        "at_the_end_of": [name for name, value in best.items() if _at_an_end(grid, name, value)],
    }


def _at_an_end(grid: Grid, name: str, value: float) -> bool:
    tried: set[float] = {dict(one)[name] for one in grid.parameters}
    return len(tried) > 2 and value in (min(tried), max(tried))


Choices = Mapping[tuple[str, float], Mapping[str, Choice]]
"""By center and dose reduction factor: filter -> what `choose` returned."""
