"""Slicer's reader for NRRD files that state in a field of their own that they are in SUV.

Slicer's reader of volumes passes over that field, so that nobody knows any more what the voxels are.
"""

from __future__ import annotations

from pathlib import Path

import slicer
import vtk
from drmc.pages.windows import DEFAULT_WINDOW

from DRMCCoreLib.nodes.suvdisplay import INVERTED_GRAY, showWindow
from DRMCCoreLib.nodes.suvunits import isSUV, setSUVUnits

FILE_TYPE = "DRMCPETFile"
_FIELD = "DRMC_voxel_units:="
_LONGEST_HEADER = 64 * 1024  # bytes that are looked through
_CONFIDENCE = 0.9  # more than that of Slicer's own reader, which takes any NRRD


def saysSUV(path: str | Path) -> bool:
    """Whether the file is a NRRD image whose header says that its voxels are SUV by body weight."""
    try:
        with open(path, "rb") as file:
            start = file.read(_LONGEST_HEADER)
    except OSError:
        return False
    lines = start.partition(b"\n\n")[0].decode("ascii", "replace").splitlines()
    units = [line.removeprefix(_FIELD).strip() for line in lines if line.startswith(_FIELD)]
    return start.startswith(b"NRRD") and len(units) == 1 and isSUV(units[0])


class DRMCDenoiseFileReader:
    """A scripted reader of Slicer; `parent` is its qSlicerScriptedFileReader."""

    def __init__(self, parent):
        self.parent = parent

    def description(self) -> str:
        """The name of the file type in the Add Data dialog."""
        return "PET in SUV (DRMC)"

    def fileType(self) -> str:
        """The key of the file type."""
        return FILE_TYPE

    def extensions(self) -> list[str]:
        """The name filters of the dialog."""
        return ["PET in SUV (DRMC) (*.nrrd)"]

    def canLoadFileConfidence(self, filePath: str) -> float:
        """0 to 1; Slicer takes the reader with the highest."""
        return _CONFIDENCE if saysSUV(filePath) else 0.0

    def load(self, properties) -> bool:
        """Loads the volume as Slicer does, and says its units."""
        known = {key: properties[key] for key in ("name", "show") if key in properties}
        try:
            node = slicer.util.loadVolume(properties["fileName"], known)
        except RuntimeError as error:
            self.parent.userMessages().AddMessage(vtk.vtkCommand.ErrorEvent, str(error))
            return False
        setSUVUnits(node)
        showWindow(node, 0.0, DEFAULT_WINDOW, INVERTED_GRAY)
        self.parent.loadedNodes = [node.GetID()]
        return True
