"""Products of float32 numbers in full float32 on CUDA, which rounds them to TF32 if a process allows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def float32_products(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """A context without TF32 in convolutions and matrix products on CUDA; without effect on other devices.

    All settings are restored afterwards. PyTorch from 2.9 on has a switch for each kind of product, and
    raises if the older common switch is read after these were set.

    Args:
        device: the device of the computation.
        deterministic: whether cuDNN may use its deterministic algorithms only.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    switches: list[tuple[Any, str, Any]] = [
        (cudnn, "deterministic", deterministic),
        (cudnn, "benchmark", False),
    ]
    if hasattr(matmul, "fp32_precision"):
        switches += [(cudnn.conv, "fp32_precision", "ieee"), (matmul, "fp32_precision", "ieee")]
    else:
        switches += [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in switches]
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
