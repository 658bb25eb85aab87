"""Labels the organs of a scan or of a folder of scans from Slicer without a window, or from any Python.

    Slicer --no-splash --no-main-window --python-script DRMCSegmentBatch.py -- SCANS -o OUT --resume
    python DRMCSegmentBatch.py SCANS -o OUT --threshold percist

The arguments are those of `drmc segment`. Shows no dialog. The exit code is the engine's: 0 done, 1 failed,
2 refused, 130 canceled.
"""

from __future__ import annotations

import sys
from pathlib import Path


def findModules() -> None:
    """Makes DRMCCoreLib importable: beside this module where installed, in its own folder in the sources."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here.parent / "DRMCCore", here):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def main(argv: list[str]) -> int:
    """Runs `drmc segment` in a child process, prints its output, and returns its exit code."""
    findModules()
    from DRMCCoreLib.process.scripted import runEngine, scriptArguments

    return runEngine("segment", scriptArguments(argv))


if __name__ == "__main__":
    exitCode = main(sys.argv)
    from DRMCCoreLib.process.scripted import leave  # main has made it importable

    leave(exitCode)
