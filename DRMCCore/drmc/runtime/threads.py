"""How many threads this process computes with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from drmc.runtime.hardware import physical_cores


def allowed_cores() -> int:
    """Cores that this process should use: OMP_NUM_THREADS, where it is set, else all physical ones."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(wanted)) if wanted.isdigit() else physical_cores()


def limit_threads(count: int) -> None:
    """Limits a worker process to `count` threads: its own, torch's and SimpleITK's."""
    import SimpleITK as sitk
    import torch

    os.environ["OMP_NUM_THREADS"] = str(count)
    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Lets torch compute each operation in `count` threads; afterwards as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
