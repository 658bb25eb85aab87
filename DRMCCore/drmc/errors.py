"""The errors of the engine, each with its exit code on the command line.

A message is one line: what is wrong, where (file, tag, key), and how to correct it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class DRMCError(Exception):
    """A failure that the input did not cause."""

    exit_code = 1

    @property
    def details(self) -> dict[str, Any]:
        """Facts for programs beside the message, as plain JSON values."""
        return {}


class DiskFullError(DRMCError, OSError):
    """The disk, a quota or a size limit does not allow a file to be written; an OSError too."""


class InputError(DRMCError):
    """The input or the usage is refused; nothing is written."""

    exit_code = 2


class OutputInUseError(InputError):
    """Another running process writes into the same output folder."""


class NotFiniteError(InputError):
    """An image has voxels that are NaN or infinite."""


class NothingMarkedError(InputError):
    """A segmentation marks nothing in the scan: it is empty, or lies elsewhere."""


class UnknownUnitsError(InputError):
    """The image does not state its voxel units."""

    @property
    def details(self) -> dict[str, Any]:
        """Lets a GUI offer a choice of units."""
        return {"unknown_units": True}


class SUVRefusedError(InputError):
    """A header does not determine the SUV.

    The attributes help to correct it:
    - `candidates`: the reference times found, as in SUVDecision;
    - `stated`: the header's text for every value that can be entered manually (drmc.suv.manual);
    - `accept`: the rule that the caller could accept, "" if none would help.
    """

    def __init__(self, message: str, candidates: Sequence[Mapping[str, Any]] = ()):
        super().__init__(message)
        self.candidates = [dict(candidate) for candidate in candidates]
        self.stated: dict[str, str] = {}
        self.accept = ""

    @property
    def details(self) -> dict[str, Any]:
        """The candidates, the header's texts and the rule that could be accepted."""
        return {"candidates": self.candidates, "stated": self.stated, "accept": self.accept}


class CanceledError(DRMCError):
    """The user canceled the work; no partial output is left."""

    exit_code = 130

    def __init__(self, message: str = "canceled"):
        super().__init__(message)
