"""What a network can be computed on here, and what `--device auto` takes."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from drmc.errors import InputError
from drmc.runtime import hardware


def list_devices() -> dict[str, Any]:
    """The devices of this machine as plain JSON values.

    `devices`: one mapping each with `name` (as `--device` takes it), `kind` ("cpu", "cuda", "mps"), `title`
    (as its maker calls it), `cores` (of a processor), `free_bytes` and `total_bytes` of its memory (None
    where it cannot be asked), `bf16` (whether it computes in bfloat16); `auto`: the name that auto takes,
    `why`, `torch`: the version. Raises InputError without PyTorch.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("PyTorch is missing: install it (torch>=2.4), in Slicer by the extension PyTorch")
    import torch

    from drmc.inference.device import choose_device

    devices = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        devices.append(
            _device(torch.device("cuda", index), torch.cuda.get_device_name(index), free=free, total=total)
        )
    if torch.backends.mps.is_available():
        devices.append(_device(torch.device("mps"), "Apple GPU"))
    cores, memory = hardware.physical_cores(), hardware.memory_bytes()
    processor = torch.device("cpu")
    devices.append(
        _device(
            processor, hardware.processor_name(), free=hardware.free_memory_bytes(), total=memory, cores=cores
        )
    )
    auto = str(choose_device("auto"))
    built = torch.version.cuda or torch.version.hip
    why = {
        "cuda": "a CUDA graphics card is the fastest",
        "mps": "an Apple GPU is faster than the processor",
        "cpu": "PyTorch finds no graphics card"
        if built or sys.platform == "darwin"
        else "this PyTorch is built for the processor alone",
    }[auto.partition(":")[0]]
    return {"devices": devices, "auto": auto, "why": why, "torch": str(torch.__version__)}


def _device(
    device: Any, title: str, *, free: int | None = None, total: int | None = None, cores: int | None = None
) -> dict[str, Any]:
    from drmc.inference.device import computes_in_bf16

    return {
        "name": str(device),
        "kind": device.type,
        "title": title,
        "cores": cores,
        "free_bytes": free,
        "total_bytes": total,
        "bf16": computes_in_bf16(device),
    }
