"""With which weights, and where, a volume is denoised; and what has to be installed before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drmc.errors import DRMCError
from drmc.models.card import DENOISE
from drmc.models.registry import preferred_model, user_folder
from slicer.i18n import tr as _

from DRMCCoreLib.panel import installation
from DRMCCoreLib.panel.desktop import openInDesktop
from DRMCCoreLib.panel.section import RESOURCES, Section
from DRMCCoreLib.process.query import ask
from DRMCCoreLib.sections.modelchooser import chosenModel, fillModels, showModel
from DRMCCoreLib.words import modeltexts, speed

DELAY_MILLISECONDS = 500  # first the panel is to be there


def chooseWeightFile() -> str:
    """Asks the user for a weight file; empty if none is chosen."""
    import qt  # the module file is imported where there is no Qt, too

    return qt.QFileDialog.getOpenFileName(None, _("Add a model"), "", _("Weight files") + " (*.pt)")


class ModelSection(Section):
    """The model with its card, the device, and the installation of PyTorch; `task`: of its models."""

    task = DENOISE
    uiName = "DRMCCoreInstallation"
    advancedUiName = "DRMCCoreModel"
    resources = RESOURCES
    _models = ()
    _devices = None  # as `drmc devices --json`
    _deviceProblem = ""
    _isAsked = False
    _adding = ""  # status of the model that is being added, or the reason why it could not be
    _missing = None
    _deviceJob = _addJob = None

    def setup(self) -> None:
        import qt

        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MILLISECONDS)
        self._timer.timeout.connect(self._askForDevices)
        self._fill()
        self.ui.modelComboBox.currentIndexChanged.connect(self.onModelChosen)
        self.ui.addModelButton.clicked.connect(self.onAddButton)
        self.ui.openFolderButton.clicked.connect(self.onOpenFolderButton)
        self.ui.installButton.clicked.connect(self.onInstallButton)

    def enter(self) -> None:
        self._fill()
        if not self._isAsked and self._missing is None:
            self._timer.start()

    def cleanup(self) -> None:
        self._timer.stop()
        for job in (self._deviceJob, self._addJob):
            if job is not None:
                job.end()
        Section.cleanup(self)

    def onParametersChanged(self) -> None:
        showModel(self.ui.modelComboBox, self.parameters.model)
        self._show()

    def whyNotApply(self) -> str:
        if self._missing is not None:
            return self._missing.sentence
        if not self._models:
            return self.noModel().format(folder=user_folder())
        device = self.parameters.device
        if self._devices is not None and modeltexts.chosenDevice(self._devices, device) is None:
            return modeltexts.missingDevice(device)
        return ""

    def noModel(self) -> str:
        """What is said where no model of the task is installed, with a place for the folder."""
        return _("No model is installed: put a weight file with its card into {folder}")

    def runArguments(self) -> dict[str, Any]:
        return {"model": self.parameters.model or None, "device": self.parameters.device}

    def takeResults(self, job, parameters) -> None:
        speed.remember(job.summary)

    def onRunChanged(self) -> None:
        if self.parameters is not None:
            self._show()

    # ---- what the user does

    def onModelChosen(self) -> None:
        """The user has chosen a model."""
        if self.parameters is not None:
            self._adding = ""
            self.parameters.model = chosenModel(self.ui.modelComboBox)
            self._show()

    def onAddButton(self) -> None:
        """Checks a weight file in a child process and copies it into the user's folder."""
        path = chooseWeightFile()
        if path:
            self._adding = _("Checking {name}...").format(name=Path(path).name)
            self.ui.addModelButton.setEnabled(False)
            self._show()
            self._addJob = ask(self._onAdded, "models", "--add", path)

    def onOpenFolderButton(self) -> None:
        """Shows the user's folder of models."""
        try:
            user_folder().mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._adding = f"{user_folder()}: {error.strerror}"
            self._show()
            return
        openInDesktop(user_folder())

    def onInstallButton(self) -> None:
        """Installs what is missing, and looks again."""
        try:
            self._missing = installation.install(self._requirements())
        except DRMCError as error:
            self._checkInstallation()
            self.ui.installLabel.setText(str(error))
            return
        self._showInstallation()
        if self._missing is None:
            self._isAsked = False
            self._askForDevices()
        self.panel.onReadinessChanged()

    # ---- what comes from the engine

    def _askForDevices(self) -> None:
        if not self._isAsked:
            self._isAsked = True
            self._deviceJob = ask(self._onDevices, "devices")

    def _onDevices(self, found: dict[str, Any] | None, message: str) -> None:
        self._devices, self._deviceProblem, self._deviceJob = found, message, None
        self.panel.onReadinessChanged()

    def _onAdded(self, found: dict[str, Any] | None, message: str) -> None:
        self._addJob = None
        self.ui.addModelButton.setEnabled(True)
        self._adding = message if found is None else ""
        self._fill()
        if self.parameters is None:
            return
        if found is not None:
            self.parameters.model = found["added"]["name"]
        self.panel.onReadinessChanged()

    # ---- showing

    def _fill(self) -> None:
        self._models = fillModels(self.ui.modelComboBox, self.task)
        self._checkInstallation()

    def _requirements(self) -> str:
        return str(installation.REQUIREMENTS)

    def _checkInstallation(self) -> None:
        self._missing = installation.whatIsMissing(self._requirements())
        self._showInstallation()

    def _showInstallation(self) -> None:
        missing = self._missing
        self.ui.installLabel.setText("" if missing is None else missing.sentence)
        self.ui.installLabel.setVisible(missing is not None)
        self.ui.installButton.setVisible(missing is not None and missing.canInstall)
        if missing is not None:
            self.ui.installButton.setText(_("Install {names}").format(names=missing.names))

    def _entry(self):
        """The model that would be used, None if it is not installed."""
        name = self.parameters.model
        if not name:
            return preferred_model(self._models, self.task)
        return next((entry for entry in self._models if entry.name == name), None)

    def _show(self) -> None:
        entry = self._entry()
        self.ui.cardLabel.setText(modeltexts.cardLine(entry) if entry else "")
        self.ui.cardLabel.setToolTip(modeltexts.cardText(entry) if entry else "")
        self.ui.cardLabel.setVisible(entry is not None)
        self.ui.cardCollapsibleButton.setVisible(entry is not None)
        self.ui.cardTextEdit.setPlainText(modeltexts.wholeCard(entry) if entry else "")
        self.ui.addModelLabel.setText(self._adding)
        self.ui.addModelLabel.setVisible(bool(self._adding))
        self._showDevice(entry)

    def _showDevice(self, entry) -> None:
        text = self._deviceProblem
        if self._devices is not None:
            wanted = self.parameters.device
            text = modeltexts.deviceText(self._devices, wanted)
            device = modeltexts.chosenDevice(self._devices, wanted)
            measured = speed.lastSeconds(entry, device) if entry and device else None
            if measured is not None:
                text += _("; the last run took {seconds} for {tiles} tiles").format(
                    seconds=measured.time, tiles=measured.tiles
                )
        elif not text and self._missing is None:
            text = _("Looking for graphics cards...")
        self.ui.deviceInfoLabel.setText(text)
        self.ui.deviceInfoLabel.setVisible(bool(text))
