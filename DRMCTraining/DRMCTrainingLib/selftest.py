"""The module's own tests, for a running Slicer: Reload and Test, ctest, or make test-slicer."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys

from drmc.errors import InputError
from DRMCCoreLib.nodes.sampledata import sampleFolder
from DRMCCoreLib.panel.selftesting import SelfTest


class DRMCTrainingTest(SelfTest):
    """The command, a refusal, and a tiny training that is started, followed and stopped in the panel."""

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

    def test_training(self) -> None:
        """A configuration is written for a dataset, checked, trained, followed and stopped, all by clicks."""
        if importlib.util.find_spec("torch") is None:
            self.skipTest("needs PyTorch")
        panel = self.openPanel("DRMCTraining")
        ui = panel.ui
        self.assertEqual((ui.configurationPathEdit.currentPath, ui.datasetPathEdit.currentPath), ("", ""))
        ui.datasetPathEdit.setCurrentPath(str(self.dataset()))
        ui.presetComboBox.setCurrentIndex(ui.presetComboBox.findText("tiny"))
        ui.newButton.click()
        self.waitUntil(lambda: panel._run is None and ui.startButton.enabled, "the checks")
        self.assertTrue(ui.configurationPathEdit.currentPath.endswith("training.json"))
        self.assertEqual(ui.statusLabel.text, "Ready to start.")
        self.say("training")
        ui.startButton.click()
        self.waitUntil(lambda: panel._history.progress or panel._run is None, "the first steps")
        self.assertTrue(ui.statusLabel.text.startswith("Step "), ui.statusLabel.text)
        self.assertEqual(self.plotsOf(panel._view.lossView), ["C6"])
        ui.stopButton.click()
        self.waitUntil(lambda: panel._run is None, "the stop")
        self.assertRegex(ui.statusLabel.text, r"^(Stopped and saved at step \d+|Done: \d+ steps)")
        self.assertTrue((self.folder / "data-tiny" / "checkpoint.pt").is_file())
        self.say(ui.statusLabel.text)

    def plotsOf(self, view) -> list[str]:
        """The legend of a chart view as it is drawn."""
        chart = view.widget.plotView().chart()
        return [chart.GetPlot(number).GetLabel() for number in range(chart.GetNumberOfPlots())]

    def dataset(self):
        """The sample patient as a dataset of one center, both for training and for validation."""
        folder = self.folder / "data"
        folder.mkdir()
        image = lambda dose: str(sampleFolder() / f"DRMC-sample-{dose}.nrrd")
        cases = [
            {"id": split, "center": "C6", "split": split, "full": image("full"), "low": {"12": image("low")}}
            for split in ("train", "validation")
        ]
        manifest = {"schema": 1, "units": "SUV", "simulated": True, "cases": cases}
        (folder / "dataset.json").write_text(json.dumps(manifest), encoding="utf-8")
        return folder
