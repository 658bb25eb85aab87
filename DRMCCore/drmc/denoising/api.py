"""Denoising from Python in one call, without files. `drmc.denoise` is the function of this module."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from drmc.denoising.pipeline import denoise_volume
from drmc.errors import InputError
from drmc.models.card import ModelEntry
from drmc.pet.strength import FULL, parse_strength
from drmc.runtime.control import Cancel, Progress

if TYPE_CHECKING:
    from drmc.inference.denoiser import Denoiser, DenoiseResult
    from drmc.pet.volume import PETVolume


def denoise(
    volume: PETVolume,
    model: str | os.PathLike[str] | ModelEntry | Denoiser | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    strength: float | str = FULL,
) -> tuple[PETVolume, DenoiseResult]:
    """Denoises a volume with the same result, bit for bit, as `drmc denoise`.

    Args:
        volume: the scan, of `drmc.read_volume`; not changed.
        model: a model's name, the path of its weight file, what `drmc.find_model` returned, or None for the
            default model. Each of these is loaded anew; for several scans make a `drmc.Denoiser` once and
            give it here.
        device: "auto" (CUDA, else Apple's MPS, else CPU), "cpu", "cuda", "cuda:1", ..., "mps".
        precision: "auto", "fp32" or "bf16", as of `drmc.Denoiser`.
        progress: called as (tiles done, tiles in all, seconds left or None).
        cancel: called between the steps of the work; True stops it.
        strength: the share of the residual that is added, from 0 (the scan, bit by bit) to 1 (the whole), or
            "low" (0.5), "standard" (0.75), "high" (1).

    Returns:
        The denoised volume, scan + strength x residual in the scan's own units and on its own grid, never
        clipped; and the `DenoiseResult`: the whole residual in SUV, the gates of the experts, device,
        precision, seconds, notices.

    Raises:
        InputError: no such model or device, damaged weights, another strength, or a device or precision
            beside a ready Denoiser.
        CanceledError: `cancel` returned True.
        DRMCError: out of memory, or values that are not finite.
    """
    strength = parse_strength(strength)
    from drmc.inference.denoiser import Denoiser  # torch is needed from here on only

    if not isinstance(model, Denoiser):
        model = Denoiser.from_model(model, device=device, precision=precision)
    elif (device, precision) != ("auto", "auto"):
        raise InputError(
            f"device {device!r}, precision {precision!r}: a ready Denoiser has its own: give them to the "
            "Denoiser"
        )
    return denoise_volume(volume, model, strength=strength, progress=progress, cancel=cancel)
