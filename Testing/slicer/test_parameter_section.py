"""Several parameter sets in one scene, and presets."""

from __future__ import annotations

import pytest
from support.slicer.scene import oblique, phantom, volumeNode

pytestmark = pytest.mark.usefixtures("model")


def choose(combo, text: str) -> None:
    """What a click on that line of the list does."""
    from host.pythonqt import raw

    index = combo.findText(text)
    assert index >= 0, [combo.itemText(i) for i in range(combo.count)]
    combo.setCurrentIndex(index)
    raw(combo).activated.emit(index)


def test_each_parameter_set_keeps_its_own_choices(panel, qtSlicer):
    ui = panel.ui
    first = volumeNode(qtSlicer, phantom(), oblique(), units="{SUVbw}g/ml", name="First")
    second = volumeNode(qtSlicer, phantom(seed=1), oblique(), units="{SUVbw}g/ml", name="Second")
    assert ui.parameterSetSelector.nodeCount() == 1
    one = ui.parameterSetSelector.currentNode()
    ui.inputSelector.setCurrentNode(first)
    ui.deviceComboBox.setCurrentIndex(1)
    other = ui.parameterSetSelector.addNode()
    assert panel._parameterNode.parameterNode is other and ui.deviceComboBox.currentText == "auto"
    ui.inputSelector.setCurrentNode(second)
    ui.parameterSetSelector.setCurrentNode(one)
    assert ui.inputSelector.currentNode() is first and ui.deviceComboBox.currentText == "cpu"
    ui.parameterSetSelector.setCurrentNode(other)
    panel.exit()
    panel.enter()
    assert ui.parameterSetSelector.currentNode() is other and ui.inputSelector.currentNode() is second
    qtSlicer.mrmlScene.RemoveNode(other)
    assert panel._parameterNode.parameterNode is one and ui.inputSelector.currentNode() is first
    qtSlicer.mrmlScene.RemoveNode(one)
    panel.enter()
    assert ui.parameterSetSelector.nodeCount() == 1 and ui.deviceComboBox.currentText == "auto"


def test_the_set_is_shown_again_after_the_scene_was_closed(panel, qtSlicer):
    node = panel._parameterNode.parameterNode
    panel.ui.deviceComboBox.setCurrentIndex(1)
    for _ in range(2):
        qtSlicer.mrmlScene.Clear(0)
        assert panel.ui.parameterSetSelector.currentNode() is panel._parameterNode.parameterNode is node
        assert panel.ui.deviceComboBox.currentText == "auto"


def test_sets_of_other_modules_are_not_offered(panel, qtSlicer):
    foreign = qtSlicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Other")
    foreign.SetAttribute("ModuleName", "OtherModule")
    assert panel.ui.parameterSetSelector.nodeCount() == 1


def test_a_preset_is_saved_chosen_and_forgotten(panel, qtSlicer, model):
    ui, parameters = panel.ui, panel._parameterNode
    volume = volumeNode(qtSlicer, phantom(), oblique(), units="{SUVbw}g/ml")
    assert ui.presetComboBox.currentText == "Defaults"
    assert not ui.savePresetButton.enabled and not ui.removePresetButton.enabled
    parameters.device, parameters.model, parameters.outputFolder = "cpu", model, "kept"
    ui.presetComboBox.setEditText("Night run")
    assert ui.savePresetButton.enabled and not ui.removePresetButton.enabled
    ui.savePresetButton.click()
    assert ui.removePresetButton.enabled
    choose(ui.presetComboBox, "Defaults")
    assert (parameters.device, parameters.model, parameters.outputFolder) == ("auto", "", "")
    assert parameters.inputVolume is volume
    choose(ui.presetComboBox, "Night run")
    assert (parameters.device, parameters.model, parameters.outputFolder) == ("cpu", model, "kept")
    ui.removePresetButton.click()
    assert ui.presetComboBox.findText("Night run") < 0 and ui.presetComboBox.currentText == "Defaults"


def test_a_preset_of_one_module_is_none_of_another(panel, qtSlicer):
    """Its model would be one that cannot do the work there, and one of the same name would take its place."""
    import sys

    import host

    panel._parameterNode.model = "tiny"
    panel.ui.presetComboBox.setEditText("Night run")
    panel.ui.savePresetButton.click()
    other = host.openWidget(sys.modules["DRMCSegment"], "DRMCSegment")
    try:
        assert other.ui.presetComboBox.findText("Night run") < 0
        other.ui.presetComboBox.setEditText("Night run")
        other.ui.savePresetButton.click()
    finally:
        host.closeWidget(other)
    choose(panel.ui.presetComboBox, "Defaults")
    choose(panel.ui.presetComboBox, "Night run")
    assert panel._parameterNode.model == "tiny"


@pytest.mark.parametrize("text", ["{", "[1]", '{"Old": {"device": 3, "model": "m", "gone": 1}, "Bad": 5}'])
def test_settings_of_another_version_do_no_harm(qtSlicer, text):
    import qt
    from DRMCCoreLib.panel import presets

    module = "DRMCDenoise"
    qt.QSettings().setValue(presets.groupOf(module), text)
    assert presets.presetNames(module)[0] == presets.DEFAULTS and "Bad" not in presets.presetNames(module)
    assert presets.presetValues(module, "Old", {"device": "auto"}) == {"device": "auto"}
    presets.savePreset(module, "New", {"device": "cpu"})
    kept = presets.presetValues(module, "New", {"device": "auto", "model": ""})
    assert kept == {"device": "cpu", "model": ""}
