"""The peak memory of this process, and the versions of its packages."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

import numpy as np

from drmc import __version__


def versions(torch_version: str | None = None) -> dict[str, str]:
    """The versions on which a result depends, by package; `torch_version`: where it is not to be loaded."""
    import pydicom
    import SimpleITK

    if torch_version is None:
        import torch

        torch_version = str(torch.__version__)
    return {
        "drmc": __version__,
        "python": platform.python_version(),
        "torch": torch_version,
        "SimpleITK": SimpleITK.Version_VersionString(),
        "numpy": np.__version__,
        "pydicom": pydicom.__version__,
        "platform": platform.platform(),
    }


def peak_memory_bytes() -> int:
    """Peak main memory of this process so far [bytes]; in a batch over all scans until now."""
    if sys.platform == "win32":
        return _peak_memory_bytes_windows()
    status = Path("/proc/self/status")
    if status.is_file():
        # On Linux a child inherits getrusage's maximum: as a child of a large Slicer it would be Slicer's.
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M)
        if found:
            return 1024 * int(found[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere


def _peak_memory_bytes_windows() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS of the Windows API."""

        _fields_ = (
            ("size", wintypes.DWORD),
            ("page_faults", wintypes.DWORD),
            ("peak_working_set", ctypes.c_size_t),
            ("working_set", ctypes.c_size_t),
            ("pools_and_pagefiles", ctypes.c_size_t * 6),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo.argtypes = (wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD)
    done = kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size)
    return int(counters.peak_working_set) if done else 0
