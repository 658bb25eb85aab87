"""Device, precision and tile batch of the network."""

from __future__ import annotations

import torch

from drmc.errors import InputError
from drmc.networks.protocol import ResidualNetwork
from drmc.runtime.hardware import free_memory_bytes
from drmc.runtime.threads import allowed_cores


def choose_device(wanted: str) -> torch.device:
    """Resolves a device name. Raises InputError where this machine has no such device."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise InputError(f"device {wanted!r}: must be auto, cpu, cuda, cuda:N or mps")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps: PyTorch finds no Apple GPU here; use --device auto or cpu")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise InputError("device cuda: PyTorch finds no CUDA GPU here; use --device auto or cpu")
        index = int(number) if number else torch.cuda.current_device()
        if index >= torch.cuda.device_count():
            raise InputError(
                f"device {wanted}: there are {torch.cuda.device_count()} CUDA GPU(s), counted from cuda:0"
            )
        return torch.device("cuda", index)
    return torch.device(kind)


def choose_precision(wanted: str, device: torch.device, notices: list[str]) -> str:
    """Resolves a precision to "fp32" or "bf16". Raises InputError where the device cannot compute so."""
    if wanted not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision {wanted!r}: must be auto, fp32 or bf16")
    if wanted == "auto":
        return "bf16" if device.type == "cuda" and computes_in_bf16(device) else "fp32"
    if wanted == "bf16" and not computes_in_bf16(device):
        if device.type == "mps":
            raise InputError("precision bf16: not supported on mps; use --precision fp32")
        notices.append(f"bf16 on this {device.type} is only emulated: fp32 may be faster and is more exact")
    return wanted


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16; emulated support does not count."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0) or torch.version.hip is not None
    if device.type != "cpu":
        return False
    return any(
        getattr(torch.cpu, name, lambda: False)()
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def tiles_at_once(
    network: ResidualNetwork, tile: int, device: torch.device, precision: str
) -> tuple[int, int]:
    """Tiles to compute at once on quiet cores and at most, as free memory allows.

    On a CPU one and two for each core, on CUDA 1 to 4, on MPS 1. A tile is taken to need 16 times the memory
    of its features (the fused form measured on a CPU: 8), and half of what is free is used. Few at once on
    CUDA: an expert is skipped only where all tiles of a batch close it.
    """
    per_tile = 16 * tile**3 * network.config.features_per_voxel * (2 if precision == "bf16" else 4)
    if device.type == "cpu":
        cores, free = allowed_cores(), free_memory_bytes()
        room = 2 * cores if free is None else int(max(1, free // 2 // per_tile))
        return min(cores, room), min(2 * cores, room)
    if device.type == "cuda":
        number = int(min(4, max(1, torch.cuda.mem_get_info(device)[0] // 2 // per_tile)))
        return number, number
    return 1, 1
