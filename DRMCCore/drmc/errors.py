"""The errors of the engine, each with the exit code that the command line gives for it.

A message is one line: what is wrong, where (file, tag, key), and how to mend it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class DRMCError(Exception):
    """Something failed that was not the input's fault."""

    exit_code = 1

    @property
    def details(self) -> dict[str, Any]:
        """What a program may want to know besides the message, as plain JSON values."""
        return {}


class DiskFullError(DRMCError, OSError):
    """There is no room for what is written; also an error of the system, for who handles these."""


class InputError(DRMCError):
    """The input or the usage is refused; nothing was written."""

    exit_code = 2


class OutputHeldError(InputError):
    """Another run that lives writes into the same output folder."""


class NotFiniteError(InputError):
    """An image holds voxels that are NaN or infinite."""


class NothingMarkedError(InputError):
    """A segmentation marks nothing in the scan: it is empty, or lies elsewhere."""


class UnknownUnitsError(InputError):
    """Nobody says what the voxels of an image are."""

    @property
    def details(self) -> dict[str, Any]:
        """That it is this error."""
        return {"unknown_units": True}


class SUVRefusedError(InputError):
    """A header does not tell the SUV.

    `candidates`: the reference times found, as in SUVDecision; `stated`: what the header says where a value can be
    given by hand (drmc.suv.manual); `accept`: what the caller would have to accept, "" where nothing helps. All
    help to mend it.
    """

    def __init__(self, message: str, candidates: Sequence[Mapping[str, Any]] = ()):
        super().__init__(message)
        self.candidates = [dict(candidate) for candidate in candidates]
        self.stated: dict[str, str] = {}
        self.accept = ""

    @property
    def details(self) -> dict[str, Any]:
        """Candidates, stated values and what can be accepted."""
        return {"candidates": self.candidates, "stated": self.stated, "accept": self.accept}


class CancelledError(DRMCError):
    """The user cancelled; nothing half-written is left."""

    exit_code = 130

    def __init__(self, message: str = "cancelled"):
        super().__init__(message)
