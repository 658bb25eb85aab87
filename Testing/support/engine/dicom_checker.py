"""An independent checker of DICOM files, dciodvfy of dicom3tools."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def complaints(path: Path, kind: str, *levels: str) -> list[str]:
    """The lines of dciodvfy on a file that begin with a level; skips the test where it is not installed.

    Args:
        path: the file.
        kind: what the checker calls such a file, such as Segmentation.
        *levels: Error and Warning; Error alone by default.
    """
    if shutil.which("dciodvfy") is None:
        reason = "no dciodvfy: install dicom3tools"
        (pytest.fail if os.environ.get("DRMC_TEST_STRICT") == "1" else pytest.skip)(reason)
    done = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert any(kind in line for line in lines)
    return [line for line in lines if line.startswith(levels or ("Error",))]
