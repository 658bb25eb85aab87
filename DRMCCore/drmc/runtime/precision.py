"""Products of float32 numbers in float32: graphics cards round them to TF32 where a process has asked for speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def float32_products(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Convolutions and matrix products on CUDA without TF32, elsewhere nothing; `deterministic`: cuDNN's repeatable algorithms only.

    All settings are put back. PyTorch from 2.9 on has a switch for each kind of product and raises where the one for all of
    them, which it had before, is read after these were set.
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
    before = [(place, name, getattr(place, name)) for place, name, _ in switches]
    try:
        for place, name, value in switches:
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
