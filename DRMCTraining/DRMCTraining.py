"""DRMC Training: starts, follows and stops the training of a DRMC network with torchrun. Research use only."""

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import slicer
import vtk
from DRMCDenoiseLib.runner import Job, Process, pythonExecutable
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

STOP_SECONDS = 60.0  # the step under way is finished and a checkpoint written before the processes are ended


class DRMCTraining(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DRMC Training")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Nuclear Medicine")]
        self.parent.dependencies = ["DRMCDenoise"]
        self.parent.contributors = ["DRMC contributors"]
        self.parent.helpText = _(
            "Trains a DRMC network on one's own centers: starts torchrun with a configuration file, follows it and stops it. "
            'Research use only. See the <a href="https://github.com/DRMC-PET/SlicerDRMC">documentation</a>.'
        )
        self.parent.acknowledgementText = _(
            "The network is the dynamic routing model for multi-center low-dose PET (DRMC)."
        )


@parameterNodeWrapper
class DRMCTrainingParameterNode:
    """What the panel shows, kept in the scene."""

    configuration: Path
    processes: Annotated[int, WithinRange(1, 64)] = 1


class DRMCTrainingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._job = None

    def setup(self) -> None:
        """Builds the panel when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/DRMCTraining.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = DRMCTrainingLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.startButton.clicked.connect(self.onStartButton)
        self.ui.stopButton.clicked.connect(self.onStopButton)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Ends a training that is under way; it goes on from its last checkpoint when it is started again."""
        if self._job is not None:
            self._job.end()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user opens another module; a training goes on."""
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event) -> None:
        """The parameter node goes away; a training needs no scene and goes on."""
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        """Called just after the scene is closed."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Shows the scene's parameter node."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode: DRMCTrainingParameterNode | None) -> None:
        """Connects the panel to a parameter node, or to none."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanStart)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanStart)
            self._checkCanStart()

    def onStartButton(self) -> None:
        """Starts, or goes on from the last checkpoint."""
        self.ui.logTextEdit.clear()
        self._job = self.logic.start(self._parameterNode.configuration, self._parameterNode.processes)
        self._job.event.connect(self._onEvent)
        self._job.text.connect(self.ui.logTextEdit.appendPlainText)
        self._job.finished.connect(self._onFinished)
        self.ui.statusLabel.setText(_("Starting..."))
        self._checkCanStart()

    def onStopButton(self) -> None:
        """Asks the training to write a checkpoint and stop."""
        if self._job is not None:
            self.ui.statusLabel.setText(_("Stopping after this step..."))
            self._job.cancel()

    def _onEvent(self, event: dict[str, Any]) -> None:
        self.ui.logTextEdit.appendPlainText(json.dumps(event))
        step, steps = event.get("step"), event.get("steps")
        if step is not None and steps:
            self.ui.progressBar.setRange(0, steps)
            self.ui.progressBar.setValue(step)
            self.ui.statusLabel.setText(_("Step {step} of {steps}").format(step=step, steps=steps))

    def _onFinished(self, job: Job) -> None:
        self._job = None
        if job.cancelRequested:
            self.ui.statusLabel.setText(_("Stopped; Start goes on from the last checkpoint."))
        elif job.exitCode:
            self.ui.statusLabel.setText(job.message)
        else:
            self.ui.statusLabel.setText(_("Done."))
        self._checkCanStart()

    def _checkCanStart(self, caller=None, event=None) -> None:
        reason = ""
        if self._job is not None:
            reason = _("A training is running")
        elif not self._parameterNode or not self._parameterNode.configuration.is_file():
            reason = _("Choose a training configuration")
        elif importlib.util.find_spec("torch") is None:
            reason = _(
                "PyTorch is missing: install the extension PyTorch, then PyTorch in its module PyTorch Utils"
            )
        self.ui.startButton.setEnabled(not reason)
        self.ui.startButton.setToolTip(reason or _("Train, or go on from the last checkpoint"))
        self.ui.stopButton.setEnabled(self._job is not None)


class DRMCTrainingLogic(ScriptedLoadableModuleLogic):
    """Training from scripts; needs no GUI."""

    def getParameterNode(self) -> DRMCTrainingParameterNode:
        """The scene's parameter node."""
        return DRMCTrainingParameterNode(super().getParameterNode())

    def command(self, configuration: str | os.PathLike, processes: int = 1) -> list[str]:
        """The command line: torchrun with `processes` processes on this machine, each on a GPU of its own if there is one."""
        if processes < 1:
            raise ValueError(f"{processes} processes: give at least 1")
        # `python -m torch.distributed.run` is what the script torchrun calls; Slicer has no such script on its path.
        torchrun = [
            pythonExecutable(),
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
        ]
        return [*torchrun, "-m", "drmc.training", os.fspath(configuration), "--progress", "json"]

    def start(
        self, configuration: str | os.PathLike, processes: int = 1, *, process: Process | None = None
    ) -> Job:
        """Starts a training and returns its job: follow `event`, stop by `cancel`, wait by `wait`.

        Raises ValueError if there is no such configuration file.
        """
        if not Path(configuration).is_file():
            raise ValueError(f"{configuration}: no such training configuration")
        environment = {"PYTHON_EXEC": pythonExecutable()}  # with it torchrun starts its workers
        job = Job(
            self.command(configuration, processes),
            process=process,
            graceSeconds=STOP_SECONDS,
            environment=environment,
        )
        logging.info(f"DRMC: training of {configuration} started")
        job.finished.connect(lambda one: logging.info(f"DRMC: training ended with exit code {one.exitCode}"))
        job.start()
        return job


class DRMCTrainingTest(ScriptedLoadableModuleTest):
    """Runs in Slicer: Reload and Test, or ctest."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_command()

    def test_command(self) -> None:
        """The command starts torchrun with this Slicer's Python."""
        command = DRMCTrainingLogic().command("training.json", 2)
        self.assertEqual(command[1:5], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])
        self.assertIn(Path(command[0]).stem.lower()[:6], ("python",), sys.executable)
        with self.assertRaises(ValueError):
            DRMCTrainingLogic().start("there is no such file.json")
