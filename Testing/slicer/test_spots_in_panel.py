"""Virtual spots in the panel: the option, its table, and what another strength and another run make of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.slicer.modules import logicOf
from support.slicer.processes import drmc, waitUntil
from support.slicer.scene import oblique, volumeNode

pytestmark = pytest.mark.usefixtures("model")
ATTRIBUTE = "DRMC.VirtualSpots"


@pytest.fixture
def scan(slicer):
    """Noisy tissue in SUV, large enough for virtual spots."""
    tissue = np.random.default_rng(0).gamma(25.0, 1 / 25.0, (20, 34, 30)).astype(np.float32)
    return volumeNode(slicer, tissue, oblique(), units="{SUVbw}g/ml")


def test_the_volume_keeps_the_table_of_the_command_line(slicer, scan, model, tmp_path):
    from DRMCCoreLib.nodes.volumes import engineInput

    output = logicOf(slicer).process(scan, model=model, device="cpu", virtualSpots=True)
    found = json.loads(output.GetAttribute(ATTRIBUTE))
    (tmp_path / "input").mkdir()
    file = engineInput(scan, tmp_path / "input").path
    done = drmc("spots", file, "--model", model, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    expected = json.loads(done.stdout)
    assert found["rows"] and found == {key: expected[key] for key in found}
    logicOf(slicer).process(scan, output, model=model, device="cpu")
    assert output.GetAttribute(ATTRIBUTE) is None  # the table of another run is not this one's


def test_the_check_box_runs_them_and_the_table_says_at_which_strength(panel, qtSlicer, scan):
    ui, parameters = panel.ui, panel._parameterNode
    assert not ui.spotsCheckBox.checked and ui.spotsCollapsibleButton.collapsed and not ui.spotsLabel.visible
    parameters.model, parameters.device, parameters.inputVolume = "tiny", "cpu", scan
    ui.spotsCheckBox.click()
    assert parameters.virtualSpots
    ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert ui.statusLabel.text.startswith("Done in"), ui.statusLabel.text
    found = json.loads(parameters.outputVolume.GetAttribute(ATTRIBUTE))
    text = ui.spotsLabel.text
    assert ui.spotsLabel.visible and f"{found['spots']} virtual spots that is kept at strength 1;" in text
    assert text.count("<td>") >= len(found["rows"]) and "<th>7 mm</th>" in text and "<th>+1 SUV</th>" in text
    ui.strengthSlider.setValue(0.5)  # without the network: the table stays that of the run, and says so
    waitUntil(qtSlicer, lambda: parameters.outputVolume.GetAttribute("DRMC.Strength") == "0.5")
    waitUntil(qtSlicer, lambda: not ui.strengthLabel.text.endswith("..."))
    assert ui.spotsLabel.text == text
    ui.spotsCheckBox.click()
    ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert not ui.spotsLabel.visible and parameters.outputVolume.GetAttribute(ATTRIBUTE) is None


def test_a_loss_is_bold_with_a_warning(panel, qtSlicer, scan):
    row = {"diameter_mm": 7.0, "peak_suv": 1.0, "mean_kept": 0.514, "gaussian_mean_kept": 0.69}
    rows = [{**row, "warning": True}, {**row, "peak_suv": 2.0, "mean_kept": 0.9, "warning": False}]
    rows.append({**row, "diameter_mm": 10.0, "gaussian_mean_kept": None, "warning": True})
    scan.SetAttribute(ATTRIBUTE, json.dumps({"spots": 3, "strength": 0.75, "rows": rows}))
    panel._parameterNode.outputVolume = scan
    text = panel.ui.spotsLabel.text
    assert "at strength 0.75;" in text and "<td><b>51 %</b> (69 %)</td><td>90 % (69 %)</td>" in text
    assert "<td><b>51 %</b> (\u2013)</td><td>\u2013</td>" in text
    assert text.endswith("Bold: less than 80 %. Small faint lesions may be lost.")
    rows[:] = rows[1:2]
    scan.SetAttribute(ATTRIBUTE, json.dumps({"spots": 1, "strength": 1, "rows": rows}))
    panel.onReadinessChanged()
    assert panel.ui.spotsLabel.text.endswith("</table>") and "<b>" not in panel.ui.spotsLabel.text
