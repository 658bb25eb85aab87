"""Reads networks from weight files and writes them. Only tensors are read, so a file cannot bring code."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.errors import InputError
from drmc.files import atomic_path, write_json
from drmc.models.card import ModelEntry, read_bytes

if TYPE_CHECKING:
    from drmc.networks.organ_unet import OrganUNet
    from drmc.networks.protocol import ResidualNetwork


FORMAT = 1
DRMC_KIND = "drmc"
AUTHORS_TILE = 64


def load_network(entry: ModelEntry) -> tuple[ResidualNetwork, int]:
    """Builds the network of a weight file that denoises, on the CPU.

    Args:
        entry: a model whose file was written by `save_model`, or is a checkpoint of the authors' code (a
            state_dict).

    Returns:
        The network, and the edge of its tiles in voxels (64 for the authors' checkpoints).

    Raises:
        InputError: the file changed since it was found, is not a weight file, does not fit the network, or is
            one of organs.
    """
    from drmc.networks.drmc import DRMC
    from drmc.networks.registry import ORGAN_KINDS, build

    stored = _stored(entry)
    if stored.get("kind") in ORGAN_KINDS:
        raise InputError(f"{entry.path}: is a model of organs, it does not denoise: use it with drmc segment")
    with _as_refusal(entry):
        if "format" not in stored:
            return DRMC.from_authors_checkpoint(stored), AUTHORS_TILE
        tile = _tile(stored)
        network = build(stored.get("kind", DRMC_KIND), stored["config"])
        network.load_state_dict(stored["state_dict"])
    _check_finite(entry, network)
    return network, tile


def load_organ_network(entry: ModelEntry) -> tuple[OrganUNet, int]:
    """Builds the network of a weight file of organs, on the CPU.

    Args:
        entry: a model whose file was written by `save_model`.

    Returns:
        The network, and the slices of its patches.

    Raises:
        InputError: the file changed since it was found, is not a weight file, does not fit the network, or is
            one that denoises.
    """
    from drmc.networks.registry import ORGAN_KINDS, build_organs

    stored = _stored(entry)
    if stored.get("kind") not in ORGAN_KINDS:
        raise InputError(f"{entry.path}: is a model that denoises, it knows no organs: choose one of organs")
    with _as_refusal(entry):
        tile = _tile(stored)
        network = build_organs(stored["kind"], stored["config"])
        network.load_state_dict(stored["state_dict"])
    _check_finite(entry, network)
    return network, tile


def load_any_network(entry: ModelEntry) -> tuple[ResidualNetwork | OrganUNet, int]:
    """As `load_network`, for a model of any task."""
    from drmc.networks.registry import ORGAN_KINDS

    if _stored(entry).get("kind") in ORGAN_KINDS:
        return load_organ_network(entry)
    return load_network(entry)


def _stored(entry: ModelEntry) -> Mapping[str, Any]:
    """The content of a weight file."""
    import torch

    content = read_bytes(entry.path)
    if (now := hashlib.sha256(content).hexdigest()) != entry.sha256:
        raise InputError(
            f"{entry.path}: has changed since it was found ({entry.sha256} then, {now} now): try again"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its warnings are refusals below, in one line
            stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file can make the reader fail in any way
        raise InputError(
            f"{entry.path}: is not a weight file ({type(error).__name__} on reading it as PyTorch weights): "
            "use a .pt file made by drmc train, or a checkpoint of the authors' code"
        ) from error
    if not isinstance(stored, Mapping):
        raise InputError(
            f"{entry.path}: contains a {type(stored).__name__}, no model: use a .pt file made by drmc train"
        )
    return stored


@contextmanager
def _as_refusal(entry: ModelEntry) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{entry.path}: is not a model of drmc: {reason}") from error


def _tile(stored: Mapping[str, Any]) -> int:
    if stored["format"] != FORMAT:
        raise ValueError(f"format {stored['format']!r}, this version of drmc reads {FORMAT}: update drmc")
    tile = stored["tile"]
    if not isinstance(tile, int) or isinstance(tile, bool) or tile < 8:
        raise ValueError(f"tile {tile!r} must be an integer of 8 or more")
    return tile


def _check_finite(entry: ModelEntry, network: ResidualNetwork | OrganUNet) -> None:
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise InputError(
            f"{entry.path}: contains weights that are not finite numbers: train again, or use another model"
        )


def save_model(
    path: str | os.PathLike[str],
    network: ResidualNetwork | OrganUNet,
    tile: int,
    card: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
) -> ModelEntry:
    """Writes a weight file (NAME.pt) and its card (NAME.json beside it), each atomically.

    Equal weights make equal bytes, hence equal checksums.

    Args:
        path: the weight file.
        network: the network.
        tile: the edge of its tiles in voxels.
        card: facts for the card; `name`, `sha256`, `parameters`, `tile`, `kind` and `config` are set from the
            network.
        half: whether parameters are written as float16, half the size; they are computed with as float32.
            Buffers, and tensors with a value beyond float16, stay float32, as all do without it.

    Returns:
        The model that was written.

    Raises:
        InputError: the name of the file does not end in .pt.
        OSError: a file cannot be written.
    """
    import torch

    path = Path(path)
    if path.suffix != ".pt":
        raise InputError(f"{path}: the name of a weight file must end in .pt")
    state = {
        key: value.detach().to("cpu", torch.float32).contiguous().clone()
        for key, value in network.state_dict().items()
    }
    if half:
        smaller = {key: state[key].half() for key, _ in network.named_parameters()}
        state |= {key: value for key, value in smaller.items() if value.isfinite().all()}
    kind = network.config.kind
    stored = {"format": FORMAT, "config": network.config.to_dict(), "tile": int(tile), "state_dict": state}
    if kind != DRMC_KIND:  # so that files of DRMC stay the same to the byte
        stored["kind"] = kind
    # Through memory: written to a path, the archive would contain the temporary file's name.
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    content = buffer.getvalue()
    full_card = {
        "name": path.stem,
        "title": path.stem,
        **(card or {}),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "tile": int(tile),
        "kind": kind,
        "config": network.config.to_dict(),
    }
    full_card["name"] = path.stem
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    write_json(path.with_suffix(".json"), full_card)
    return ModelEntry(path.stem, path, full_card, full_card["sha256"])
