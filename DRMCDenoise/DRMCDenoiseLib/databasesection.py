"""The denoised volume, its lesions and their numbers into Slicer's DICOM database, on request."""

from __future__ import annotations

import slicer
from drmc.errors import CanceledError, DRMCError
from drmc.pet.strength import strength_text
from DRMCCoreLib.panel.section import Section
from DRMCCoreLib.words.wording import inPanelWords
from slicer.i18n import tr as _


class DatabaseSection(Section):
    """One button that adds and cancels, and what came of it."""

    uiName = "DRMCDenoiseDatabase"
    _job = None
    _shownOutput = None  # of which the sentence is

    def setup(self) -> None:
        self.ui.databaseButton.clicked.connect(self.onAdd)
        self._say("")

    def cleanup(self) -> None:
        self._end()
        super().cleanup()

    def setParameters(self, parameters) -> None:
        if slicer.mrmlScene.IsClosing():
            self._end()
        super().setParameters(parameters)

    def onParametersChanged(self) -> None:
        output = self.parameters.outputVolume
        if output is not self._shownOutput and self._job is None:
            self._shownOutput = output
            self._say("")
        self._show()

    def onRunChanged(self) -> None:
        if self.panel.job is not None:
            self._end()
            self._say("")
        if self.parameters is not None:
            self._show()

    def onAdd(self) -> None:
        """Writes the DICOM files and adds them; while they are written, stops."""
        from DRMCDenoiseLib.databasejob import DatabaseJob  # SimpleITK is not needed before

        if self._job is not None:
            self._job.cancel()
            return
        parameters = self.parameters
        try:
            self._job = job = DatabaseJob(parameters.outputVolume)
            job.finished.connect(self._onWritten)
            # Whatever the numbers in the report depend on: those of the table that is shown.
            job.start(
                lesions=parameters.lesions, organs=parameters.organs, reference=parameters.referenceVolume
            )
        except DRMCError as error:
            self._job = None
            self._say(inPanelWords(str(error)))
            return
        self._say(_("Writing DICOM files..."))
        self._show()
        if not job.isRunning():  # the engine could not be started at all
            self._onWritten(job)

    def _onWritten(self, job) -> None:
        from DRMCDenoiseLib.databasejob import addToDatabase

        try:
            if job is not self._job:
                return  # it was ended with the scene or the panel
            if job.error is not None:
                raise job.error
            self.ui.databaseButton.setEnabled(False)  # what is copied now is not stopped halfway
            count = addToDatabase(job.folder)
            text = _("Added to the DICOM database: {count} series at strength {strength}.").format(
                count=count, strength=strength_text(job.summary["strength"])
            )
        except CanceledError:
            text = _("Canceled; the DICOM database is as it was.")
        except DRMCError as error:
            text = _("Not added: {reason}").format(reason=inPanelWords(str(error)))
        finally:
            job.removeFolder()
        self._job = None
        self._say(text)
        if self.parameters is not None:
            self._show()

    def _end(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.end()
            job.removeFolder()

    def _show(self) -> None:
        button, output = self.ui.databaseButton, self.parameters.outputVolume
        isRunning = self._job is not None
        hasOutput = output is not None and output.GetImageData() is not None
        button.setText(_("Cancel adding") if isRunning else _("Add to DICOM database"))
        button.setEnabled(isRunning or (hasOutput and self.panel.job is None))
        button.setToolTip(
            _("Stop; the database stays as it is.")
            if isRunning
            else _(
                "Add the denoised PET series, the lesions (SEG) and their numbers (SR) to the study of the "
                "scan in Slicer's DICOM database."
            )
        )

    def _say(self, text: str) -> None:
        self.ui.databaseLabel.setText(text)
        self.ui.databaseLabel.setVisible(bool(text))
