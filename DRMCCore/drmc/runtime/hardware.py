"""The hardware of this machine: processor, cores, memory, GPU, as reported beside measured times."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def describe(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Processor, cores, main memory [bytes] and, for a CUDA device, the GPU and its memory [bytes]."""
    facts: dict[str, Any] = {
        "processor": processor_name(),
        "physical_cores": physical_cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if str(device).startswith("cuda"):
        import torch

        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory}
    return facts


def device_name(device: torch.device) -> str:
    """The name of a device, such as "cpu" or "cuda:0 NVIDIA H100"."""
    if device.type != "cuda":
        return device.type
    import torch

    return f"{device} {torch.cuda.get_device_name(device)}"


def processor_name() -> str:
    """The vendor's name of the processor, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    if sys.platform == "darwin":
        brand = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if brand:
            return brand
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Main memory, at most a container's limit; None if the system does not report it."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        total = min(total, int(text))
    return total


def free_memory_bytes() -> int | None:
    """Main memory that a new program can have, within a container's limit; None where it is unknown."""
    total, table = memory_bytes(), Path("/proc/meminfo")
    if not table.is_file():
        return None
    for line in table.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("MemAvailable:"):
            free = 1024 * int(line.split()[1])
            return free if total is None else min(free, total)
    return None


def physical_cores() -> int:
    """Physical cores that this process may use, by affinity, hyper-threads and a container's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        siblings = set()
        for cpu in allowed:
            path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
            siblings.add(path.read_text().strip() if path.is_file() else str(cpu))
        cores = len(siblings)
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, max(1, int(limit) // int(period)))
    return max(1, cores)
