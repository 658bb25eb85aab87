"""The interference of a model's centers, from model and dataset to result files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drmc.datasets.manifest import read_manifest, select
from drmc.denoising.staging import check_output_folder
from drmc.errors import InputError
from drmc.files import csv_text, jsonable, write_json, write_text
from drmc.models.card import ModelEntry
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.runtime.progress import Reporter
from drmc.training.interference.gradients import Loss, NetworkGradients, parameter_groups
from drmc.training.interference.page import page_html
from drmc.training.interference.table import COLUMNS, measure, rows
from drmc.training.pairs import pairs_of
from drmc.training.sampler import PatchSampler

RESULT = "interference.json"
_SAMPLING = ("patch", "hot_fraction", "scale_range", "flips")


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        centers: the centers; none: those that the model was trained on.
        split: whose patients' patches are drawn.
        batches: patches of each center.
        blocks: blocks of the network, from 1; none: every block.
        seed: of the patches.
        patch: edge of a patch; None: that of the training.
        prepared: folder that keeps images on the network's grid.
        device: device of PyTorch.
    """

    centers: tuple[str, ...] = ()
    split: str = "train"
    batches: int = 100
    blocks: tuple[int, ...] = ()
    seed: int = 1001
    patch: int | None = None
    prepared: Path | None = None
    device: str = "cpu"


def write_interference(
    model: str, dataset: Path, output: Path, options: Options, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Measures the interference of a model's centers and writes its files.

    The loss and the draws are those of the model's training, which its card has, with a seed of their own.

    Args:
        model: name or weight file of the model.
        dataset: folder of the dataset.
        output: folder of interference.json, interference.csv, interference.html and batches.npz.
        options: what is measured.
        reporter: shows the progress.

    Returns:
        The content of interference.json.

    Raises:
        InputError: model, dataset or an option does not fit, or the output cannot be written.
        OSError: the result cannot be written.
    """
    if options.batches < 2:
        raise InputError(f"{options.batches} batches: take 2 or more, a batch is compared with the others")
    check_output_folder(output)
    entry = find_model(model)
    network, tile = load_network(entry)
    configuration = {"patch": tile, **(_training(entry).get("configuration") or {})}
    centers = options.centers or tuple(_training(entry).get("patients") or ())
    if len(centers) < 2:
        raise InputError(f"{entry.path}: its card names fewer than two centers: name them with --centers")
    groups, loss = parameter_groups(network, options.blocks), Loss.of(configuration)
    sampler = _sampler(dataset, centers, configuration, options)
    try:
        network.config.check_patch(sampler.patch)
    except ValueError as error:
        raise InputError(f"patch of {sampler.patch} voxels: {error}") from None
    began = time.monotonic()

    def progress(done: int, total: int) -> None:
        if reporter is not None:
            left = (time.monotonic() - began) / done * (total - done)
            reporter.progress(done, total, left, "gradient")

    gradients = NetworkGradients(network.to(options.device), sampler, groups, loss)
    table = measure(gradients, centers, list(groups), options.batches, progress)
    facts = {
        "model": entry.name,
        "sha256": entry.sha256,
        "split": options.split,
        "patch": sampler.patch,
        "seed": options.seed,
        "loss": loss.loss,
        "seconds": round(time.monotonic() - began),
    }
    found = jsonable({**facts, **table.to_dict()})
    output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output / "batches.npz", delta_Gibj=table.delta_Gibj, norm_Gib=table.norm_Gib)
    write_text(output / "interference.csv", csv_text(COLUMNS, rows(found)))
    write_text(output / "interference.html", page_html(found, {**facts, "batches": options.batches}))
    write_json(output / RESULT, found)
    return found


def _training(entry: ModelEntry) -> Mapping[str, Any]:
    found = entry.card.get("training")
    return found if isinstance(found, Mapping) else {}


def _sampler(
    dataset: Path, centers: tuple[str, ...], configuration: Mapping[str, Any], options: Options
) -> PatchSampler:
    """The draws of the training, with a seed of their own."""
    pairs = pairs_of(select(read_manifest(dataset), options.split, centers), options.prepared)
    settings: dict[str, Any] = {"hot_fraction": 0.0, "scale_range": 1.0, "flips": True}
    settings |= {key: configuration[key] for key in _SAMPLING if key in configuration}
    if options.patch:
        settings["patch"] = options.patch
    return PatchSampler(pairs, seed=options.seed, **settings)
