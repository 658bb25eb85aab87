"""A denoised volume as DICOM, and into Slicer's own DICOM database.

The engine writes the denoised PET series, the lesions as a segmentation and their numbers as a structured
report into a temporary folder, in a child process and from the residual that the run has kept: the network
does not run again. All is then copied into the database, or nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import slicer
from drmc.errors import DRMCError, InputError
from slicer.i18n import tr as _

from DRMCDenoiseLib.denoisejob import DenoiseJob
from DRMCDenoiseLib.keptresidual import keptOf, strengthOf
from DRMCDenoiseLib.strengthjob import StrengthJob

FOLDERS = ("denoised", "segmentation", "measurements")  # of the engine's DICOM files


class DatabaseJob(StrengthJob):
    """As StrengthJob, but the scene stays as it is: the results are DICOM files in `folder`.

    After `finished` without `error`, `addToDatabase(job.folder)`; then `removeFolder` in any case.
    """

    def __init__(self, outputVolume, **arguments: Any):
        """Raises InputError where there can be no DICOM series of the volume, or no database is open."""
        reason = whyNotAdd(outputVolume)
        if reason:
            raise InputError(reason)
        StrengthJob.__init__(self, outputVolume, **arguments)
        self.folder: Path | None = None

    def start(self, *, lesions=None, organs=None, reference=None) -> None:
        """Starts the engine; returns at once. Raises as `DenoiseJob.start`."""
        self.folder = Path(tempfile.mkdtemp(prefix="DRMC-", dir=slicer.app.temporaryPath))
        try:
            DenoiseJob.start(
                self,
                **self._kept.reading,
                lesions=lesions,
                organs=organs,
                reference=reference,
                outputFolder=self.folder / "results",
                strength=strengthOf(self.outputVolume),
                dicom=True,
                dicom_seg=lesions is not None,
            )
        except BaseException:
            self.removeFolder()
            raise

    def removeFolder(self) -> None:
        """Removes the DICOM files."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        assert self.folder is not None
        self.summary = summary
        results = self.folder / "results"
        for name in FOLDERS:
            if (results / name).is_dir():
                os.replace(results / name, self.folder / name)
        shutil.rmtree(results)  # only DICOM files are left for the database's indexer


def openDatabase() -> Any:
    """Slicer's DICOM database; None if none is open."""
    database = getattr(slicer, "dicomDatabase", None)
    return database if database is not None and database.isOpen else None


def whyNotAdd(outputVolume) -> str:
    """Why a denoised volume cannot go into the database, in a sentence; empty if it can."""
    if openDatabase() is None:
        return _("No DICOM database is open: open the module DICOM once, then add again.")
    kept = keptOf(outputVolume)
    if kept is None:
        name = "" if outputVolume is None else outputVolume.GetName()
        return _("'{name}' has no residual of its run: denoise it again.").format(name=name)
    known = (kept.original.GetAttribute("DICOM.instanceUIDs") or "").split()
    if kept.reading.get("suv") is not None or not known or not openDatabase().fileForInstance(known[0]):
        return _(
            "'{name}' is no DICOM series of the database, so it has no patient or study to add to."
        ).format(name=kept.original.GetName())
    return ""


def addToDatabase(folder: Path) -> int:
    """Copies the DICOM files of a folder into the database; returns how many series they are.

    Raises DRMCError if any of them is not there afterwards; then none is.
    """
    from DICOMLib import DICOMUtils  # comes with Slicer's module DICOM

    database = openDatabase()
    if database is None:
        raise DRMCError(_("the DICOM database was closed meanwhile"))
    files = _filesOfSeries(folder)
    isDone = DICOMUtils.importDicom(str(folder), copyFiles=True)
    if isDone and all(len(database.filesForSeries(uid)) == count for uid, count in files.items()):
        return len(files)
    for uid in files:
        database.removeSeries(uid)
    raise DRMCError(_("the DICOM database did not take all files: is its disk full?"))


def _filesOfSeries(folder: Path) -> dict[str, int]:
    """How many files each series has, by its UID."""
    import pydicom

    found: dict[str, int] = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"])
        uid = str(header.SeriesInstanceUID)
        found[uid] = found.get(uid, 0) + 1
    return found
