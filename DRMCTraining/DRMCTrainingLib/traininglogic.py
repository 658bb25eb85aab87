"""Training for scripts, other modules and the panel; needs no GUI and shows no dialog."""

# No `from __future__ import annotations` here: parameterNodeWrapper reads the annotations as they stand.
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from drmc.errors import DRMCError, InputError
from drmc.training.choices import NETWORKS, STRATEGIES
from drmc.training.history import History
from drmc.training.launch import PRESETS, Launch, new_configuration
from DRMCCoreLib.process.runner import Process, pythonExecutable
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from DRMCTrainingLib.trainingrun import REFUSED_CODE, TrainingRun, shellLine

MANIFEST = "dataset.json"
AS_IN_PRESET = "as in the preset"


@parameterNodeWrapper
class DRMCTrainingParameterNode:
    """What the panel shows, kept in the scene."""

    configuration: str = ""
    processes: Annotated[int, WithinRange(1, 64)] = 1
    dataset: str = ""
    preset: Annotated[str, Choice(list(PRESETS))] = PRESETS[0]
    network: Annotated[str, Choice([AS_IN_PRESET, *NETWORKS])] = AS_IN_PRESET
    strategy: Annotated[str, Choice([AS_IN_PRESET, *STRATEGIES])] = AS_IN_PRESET


class DRMCTrainingLogic(ScriptedLoadableModuleLogic):
    """Starts, follows, stops and resumes trainings.

    A training is named by its configuration file, or by a dataset's folder, for which a configuration of
    preset, network and strategy is written beside it. `several` are the other fields of
    `drmc.training.launch.Launch`: nodes, node_rank, endpoint.

        logic = DRMCTrainingLogic()
        for level, text in logic.check("training.json", processes=4): print(level, text)
        run = logic.start("training.json", processes=4)
        run.event.connect(print)
        run.wait(idle=slicer.app.processEvents)
    """

    def getParameterNode(self) -> DRMCTrainingParameterNode:
        """The scene's parameter node."""
        return DRMCTrainingParameterNode(super().getParameterNode())

    def newConfiguration(
        self,
        dataset: str | os.PathLike,
        preset: str = PRESETS[0],
        run: str | os.PathLike | None = None,
        network: str | None = None,
        strategy: str | None = None,
    ) -> Path:
        """Writes training.json for a dataset into the folder `run`, by default one beside the dataset.

        Network and strategy are names of `drmc.training.choices`; None and AS_IN_PRESET are the preset's. An
        existing file stays as it is. Raises InputError if there is no dataset to train on, or if the choices
        contradict each other.
        """
        network, strategy = (None if name == AS_IN_PRESET else name for name in (network, strategy))
        folder = None if run is None else Path(run)
        return new_configuration(Path(dataset), preset, folder, network, strategy)

    def isDataset(self, folder: str | os.PathLike) -> bool:
        """Whether the folder has a manifest; an empty name is no folder."""
        return bool(os.fspath(folder)) and (Path(folder) / MANIFEST).is_file()

    def command(self, configuration: str | os.PathLike, processes: int = 1, **several: Any) -> list[str]:
        """The command that `start` runs after the checks."""
        return Launch(Path(configuration), processes, **several).command(pythonExecutable(), progress="json")

    def commandLine(self, configuration: str | os.PathLike, processes: int = 1, **several: Any) -> str:
        """The same training as one line for a shell, with the environment that it needs; progress as text."""
        return shellLine(Launch(Path(configuration), processes, **several))

    def prepare(
        self,
        training: str | os.PathLike,
        processes: int = 1,
        *,
        preset: str = PRESETS[0],
        network: str | None = None,
        strategy: str | None = None,
        checkOnly: bool = False,
        createProcess: Callable[[], Process] | None = None,
        **several: Any,
    ) -> TrainingRun:
        """A run that has not been started; raises InputError if there is no such configuration or dataset."""
        path = Path(training)
        if self.isDataset(path):
            path = self.newConfiguration(path, preset, network=network, strategy=strategy)
        if not path.is_file():
            raise InputError(f"{training}: no such training configuration, and no dataset with {MANIFEST}")
        launch = Launch(path, processes, **several)
        return TrainingRun(launch, checkOnly=checkOnly, createProcess=createProcess)

    def check(self, training: str | os.PathLike, processes: int = 1, **options: Any) -> list[tuple[str, str]]:
        """Runs all checks of a training: (level, text) of each, level ok, warning or refused. Trains nothing.

        Raises DRMCError if the checks could not be run.
        """
        run = self.prepare(training, processes, checkOnly=True, **options)
        run.start()
        run.wait()
        if run.exitCode not in (0, REFUSED_CODE):
            raise DRMCError(run.message)
        return run.checks or [("refused", run.message)]

    def start(
        self,
        training: str | os.PathLike,
        processes: int = 1,
        *,
        waitForCompletion: bool = False,
        eventCallback: Callable[[dict[str, Any]], Any] | None = None,
        **options: Any,
    ) -> TrainingRun:
        """Checks and trains, or resumes from the last checkpoint; returns the run.

        Args:
            training: Configuration file or dataset folder.
            processes: Processes on this machine, one for each GPU.
            waitForCompletion: Whether to wait for the end.
            eventCallback: Called with every record of the training, see training.jsonl.
            **options: As for `prepare`.

        Raises:
            InputError: There is no such training or, with `waitForCompletion`, it was refused.
            DRMCError: The training failed, with `waitForCompletion`.
        """
        run = self.prepare(training, processes, **options)
        if eventCallback is not None:
            run.event.connect(eventCallback)
        logging.info(f"DRMC: training of {run.launch.config} started")
        run.finished.connect(lambda one: logging.info(f"DRMC: training ended with exit code {one.exitCode}"))
        run.start()
        if waitForCompletion:
            import slicer

            run.wait(idle=slicer.app.processEvents)
            if run.exitCode:
                raise (InputError if run.exitCode == REFUSED_CODE else DRMCError)(run.message)
        return run

    def outcome(self, run: TrainingRun) -> str:
        """How a run has ended, as one sentence."""
        if run.exitCode and not run.stopped:
            return run.message
        if run.checkOnly:
            if run.step:
                return _("Start goes on from step {step} of {steps}.").format(step=run.step, steps=run.steps)
            return _("Ready to start.")
        if run.exitCode:
            return _("Ended; Start goes on from the last checkpoint.")
        if run.stopped:
            return _("Stopped and saved at step {step}; Start goes on from there.").format(
                step=run.history.step
            )
        return _("Done: {steps} steps.").format(steps=run.steps)

    def showCharts(self, history: History) -> list:
        """Tables and plots of the curves in the scene; the plot nodes."""
        from DRMCTrainingLib.charts import showCharts

        return showCharts(history)
