"""The modules under test: their files, logic and sections."""

from __future__ import annotations

import sys

from support import REPOSITORY

SLICER_FACING = [
    path
    for folder in ("DRMCCore", "DRMCDenoise", "DRMCSegment", "DRMCTraining")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
    if "drmc" not in path.relative_to(REPOSITORY).parts
]


def logicOf(slicer):
    return sys.modules["DRMCDenoise"].DRMCDenoiseLogic()


def engineErrors():
    from drmc import errors

    return errors


def sectionOf(panel, name: str):
    """The section of the panel of DRMC Denoise whose class has that name."""
    return next(section for section in panel.sections if type(section).__name__ == name)
