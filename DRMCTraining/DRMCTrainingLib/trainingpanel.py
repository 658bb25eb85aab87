"""The panel of DRMC Training: a configuration, its checks, the run under way and its curves."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import slicer
import vtk
from drmc.errors import InputError
from drmc.training.history import PAGE, History
from DRMCCoreLib.panel.desktop import openInDesktop
from DRMCCoreLib.panel.panel import Panel
from DRMCCoreLib.panel.pathedit import PathEdit
from slicer.i18n import tr as _

from DRMCTrainingLib.traininglogic import DRMCTrainingLogic, DRMCTrainingParameterNode
from DRMCTrainingLib.trainingrun import RunState, TrainingRun


class TrainingPanel(Panel):
    """The panel. A chosen configuration is checked at once; Start checks it again and trains."""

    def __init__(self, parent=None) -> None:
        Panel.__init__(self, parent)
        self.logic = None
        self._parameterNodeGuiTag = None
        self._run: TrainingRun | None = None  # the checks or the training under way
        self._checked: tuple[str, int] | None = None  # configuration and processes that were checked last
        self._history = History()
        self._output = ""

    def setup(self) -> None:
        """Builds the panel when the module is opened for the first time."""
        from DRMCCoreLib.panel.fittedheight import FittedHeight

        from DRMCTrainingLib.choicesview import ChoicesView
        from DRMCTrainingLib.progressview import ProgressView

        Panel.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/DRMCTraining.ui"))
        self.layout.addWidget(uiWidget)
        self._height = FittedHeight(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = DRMCTrainingLogic()
        self._view = ProgressView(self.ui)
        self._choices = ChoicesView(self.ui)
        self._pathEdits = [
            PathEdit(self.ui.configurationPathEdit, "configuration"),
            PathEdit(self.ui.datasetPathEdit, "dataset"),
        ]
        self.observeScene()
        for name in ("new", "copy", "check", "start", "stop", "report", "folder", "charts"):
            button = getattr(self.ui, f"{name}Button")
            button.clicked.connect(getattr(self, f"on{name.capitalize()}Button"))
        self._showHistory()
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Ends a running training after its checkpoint: Slicer closes, or the module is reloaded."""
        if self._run is not None:
            self._run.end()
        self.setParameterNode(None)
        self._view.cleanup()
        self.removeObservers()

    def initializeParameterNode(self) -> None:
        """Shows the scene's parameter node; what is training stays chosen in a new scene."""
        parameterNode = self.logic.getParameterNode()
        if self._run is not None:
            parameterNode.configuration = str(self._run.launch.config)
            parameterNode.processes = self._run.launch.processes
        self.setParameterNode(parameterNode)
        self._view.show(self._history)  # closing a scene removes the charts

    def setParameterNode(self, parameterNode: DRMCTrainingParameterNode | None) -> None:
        """Connects the panel to a parameter node, or to none."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)
            for edit in self._pathEdits:
                edit.show(None)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self._choices.showToolTips()
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)
            self._onParametersChanged()

    def onNewButton(self) -> None:
        """Writes a configuration for the chosen dataset and chooses it."""
        import qt

        chosen = self._parameterNode
        qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)  # the first look at a network imports PyTorch
        try:
            path = self.logic.newConfiguration(
                chosen.dataset, chosen.preset, network=chosen.network, strategy=chosen.strategy
            )
        except InputError as error:
            self.ui.statusLabel.setText(str(error))
            return
        finally:
            qt.QApplication.restoreOverrideCursor()
        chosen.configuration = str(path)

    def onCopyButton(self) -> None:
        """Puts the command into the clipboard."""
        slicer.app.clipboard().setText(self.ui.commandTextEdit.toPlainText())
        self.ui.statusLabel.setText(_("The command is in the clipboard."))

    def onCheckButton(self) -> None:
        """Checks again; trains nothing."""
        self._start(checkOnly=True)

    def onStartButton(self) -> None:
        """Starts, or resumes from the last checkpoint."""
        self.ui.logTextEdit.clear()
        if self._run is not None:
            self._run.checkOnly = False  # its checks are under way: the training follows
            self._updateButtons()
        self._start(checkOnly=False)

    def onStopButton(self) -> None:
        """Asks the training to write a checkpoint and stop; a second time, ends it."""
        if self._run is not None:
            self._run.stop()

    def onReportButton(self) -> None:
        """Opens the run's page in the browser."""
        openInDesktop(Path(self._output) / PAGE)

    def onFolderButton(self) -> None:
        """Opens the run's folder."""
        openInDesktop(Path(self._output))

    def onChartsButton(self) -> None:
        """Puts the curves into the scene."""
        self.logic.showCharts(self._history)

    def _start(self, *, checkOnly: bool) -> None:
        parameters = self._parameterNode
        if self._run is not None or not parameters:
            return
        self._checked = self._chosen()
        run = self.logic.prepare(parameters.configuration, parameters.processes, checkOnly=checkOnly)
        self._run = run
        run.event.connect(self._onEvent)
        run.text.connect(self.ui.logTextEdit.appendPlainText)
        run.changed.connect(self._onStateChanged)
        run.finished.connect(self._onFinished)
        self.ui.checksLabel.setText(_("Checking..."))
        run.start()
        self._updateButtons()

    def _onStateChanged(self, run: TrainingRun) -> None:
        if run.state is RunState.CHECKING:
            self.ui.statusLabel.setText(_("Checking configuration, dataset and devices..."))
        elif run.state is RunState.TRAINING:
            self._showRun(run)
            self.ui.statusLabel.setText(_("Starting, reading the images..."))
        elif run.state is RunState.STOPPING:
            self.ui.statusLabel.setText(_("Stopping after this step... Stop again ends it without waiting."))

    def _onEvent(self, event: dict[str, Any]) -> None:
        from DRMCTrainingLib.texts import checksText

        if event["event"] == "check":
            self.ui.checksLabel.setText(checksText(self._run.checks))
            return
        if self._run.state is RunState.CHECKING:
            return
        self.ui.logTextEdit.appendPlainText(json.dumps(event))
        step = self._showHistory()
        if step and self._run.state is RunState.TRAINING:
            self.ui.statusLabel.setText(step)

    def _showRun(self, run: TrainingRun) -> None:
        self._history, self._output = run.history, run.output
        self._showHistory()

    def _showHistory(self) -> str:
        self._view.show(self._history)
        self._updateButtons()
        return self._view.showStep(self._history)

    def _onFinished(self, run: TrainingRun) -> None:
        self._run = None
        self._showRun(run)
        if not run.checks:
            self.ui.checksLabel.setText("")
        self.ui.statusLabel.setText(self.logic.outcome(run))
        self._updateButtons()
        self._onParametersChanged()

    def _onParametersChanged(self, caller=None, event=None) -> None:
        parameters = self._parameterNode
        if not parameters:
            return
        for edit in self._pathEdits:
            edit.show(parameters)
        self._choices.show(parameters)
        chosen, isFile = self._chosen(), self._hasConfiguration()
        line = self.logic.commandLine(*chosen) if isFile else ""
        self.ui.commandTextEdit.setPlainText(line)
        self._updateButtons()
        if isFile and self._run is None and chosen != self._checked and not self._whyNotStart():
            self._start(checkOnly=True)

    def _chosen(self) -> tuple[str, int] | None:
        parameters = self._parameterNode
        return (parameters.configuration, parameters.processes) if parameters else None

    def _hasConfiguration(self) -> bool:
        return bool(self._parameterNode) and Path(self._parameterNode.configuration).is_file()

    def _updateButtons(self) -> None:
        reason, parameters = self._whyNotStart(), self._parameterNode
        self.ui.startButton.setEnabled(not reason)
        self.ui.startButton.setToolTip(reason or _("Train, or go on from the last checkpoint"))
        self.ui.checkButton.setEnabled(not reason)
        self.ui.stopButton.setEnabled(self._run is not None)
        isIdle = self._run is None or self._run.checkOnly
        self.ui.configurationPathEdit.setEnabled(isIdle)
        self.ui.processesSpinBox.setEnabled(isIdle)
        self.ui.newButton.setEnabled(isIdle and bool(parameters) and self.logic.isDataset(parameters.dataset))
        self.ui.copyButton.setEnabled(self._hasConfiguration())
        self.ui.reportButton.setEnabled(bool(self._output) and (Path(self._output) / PAGE).is_file())
        self.ui.folderButton.setEnabled(bool(self._output) and Path(self._output).is_dir())
        self.ui.chartsButton.setEnabled(bool(self._history.progress or self._history.validation))

    def _whyNotStart(self) -> str:
        if self._run is not None and not self._run.checkOnly:
            return _("A training is running")
        if self._run is not None and self._checked != self._chosen():
            return _("The checks are running")
        if not self._hasConfiguration():
            return _("Choose a training configuration")
        if importlib.util.find_spec("torch") is None:
            return _(
                "PyTorch is missing: install the extension PyTorch, then PyTorch in its module PyTorch Utils"
            )
        return ""
