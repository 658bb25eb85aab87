"""The module's own test, for a running Slicer: Reload and Test, or ctest."""

from __future__ import annotations

import shlex
import sys

import slicer
from drmc.errors import InputError
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest


class DRMCTrainingTest(ScriptedLoadableModuleTest):
    """The command, and a refusal."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_command()

    def test_command(self) -> None:
        """The command starts torchrun with this Slicer's Python, and its line says the same."""
        from DRMCTraining import DRMCTrainingLogic

        logic = DRMCTrainingLogic()
        command = logic.command("training.json", 2)
        self.assertEqual(command[1:5], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])
        if sys.platform != "win32":
            self.assertEqual(
                shlex.split(logic.commandLine("training.json", 2))[-6:], command[3:7] + command[7:9]
            )
        with self.assertRaises(InputError):
            logic.start("there is no such file.json")
