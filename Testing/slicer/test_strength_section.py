"""The strength in Slicer: of a run, of the volume that is shown, and what follows it, without a new run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.slicer.modules import engineErrors, logicOf, sectionOf
from support.slicer.processes import denoisedOf, drmc, waitUntil
from support.slicer.scene import Database, oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")
FACTOR = 2.5e-4
SUV = "{SUVbw}g/ml"


@pytest.fixture
def scan(slicer):
    """Low and full dose in SUV, oblique, and lesions."""
    low = volumeNode(slicer, phantom(), oblique(), units=SUV)
    full = volumeNode(slicer, phantom(seed=1), oblique(), units=SUV, name="Full")
    grid = np.indices(phantom().shape) - (np.array(phantom().shape)[:, None, None, None] - 1) / 2
    lesions = segmentationNode(slicer, low, {"Hot": np.linalg.norm(grid, axis=0) < 3.5})
    return SimpleNamespace(low=low, full=full, lesions=lesions)


def voxels(slicer, node) -> np.ndarray:
    return slicer.util.arrayFromVolume(node).copy()


def table(node) -> str:
    from DRMCCoreLib.panel.tables import tableText

    return tableText(node, ",")


def named(slicer, text: str):
    """The only node whose name ends so."""
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    (found,) = [node for node in nodes if (node.GetName() or "").endswith(text)]
    return found


def test_a_run_at_a_strength_has_the_command_line_s_bits(slicer, model, tmp_path):
    from DRMCCoreLib.nodes.volumes import engineInput

    node = volumeNode(slicer, phantom() / np.float32(FACTOR), oblique())
    (tmp_path / "input").mkdir()
    file = engineInput(node, tmp_path / "input", FACTOR).path
    output = logicOf(slicer).process(
        node, model=model, suv=FACTOR, strength="low", outputFolder=tmp_path / "a"
    )
    done = drmc(
        *("denoise", file, "-o", tmp_path / "b", "--format", "nrrd", "--model", model, "--strength", "0.5")
    )
    assert done.returncode == 0, done.stderr
    assert voxels(slicer, output).tobytes() == denoisedOf(tmp_path / "b").tobytes()
    assert output.GetName() == "PET denoised (DRMC, strength 0.5)"
    assert output.GetAttribute("DRMC.Strength") == "0.5"
    with pytest.raises(engineErrors().InputError, match="from 0 to 1"):
        logicOf(slicer).process(node, model=model, suv=FACTOR, strength=2)
    with pytest.raises(engineErrors().InputError, match="no residual"):
        logicOf(slicer).changeStrength(output, 1.0)


@pytest.mark.parametrize("strength", [0.0, 0.35, 1.0])
def test_a_changed_strength_has_the_voxels_and_numbers_of_a_run(slicer, scan, model, strength):
    logic = logicOf(slicer)
    given = {"lesions": scan.lesions, "reference": scan.full}
    expected = logic.process(scan.low, model=model, strength=strength, **given)
    expectedTable = named(slicer, "lesions (DRMC)")
    first = logic.process(scan.low, model=model, strength=0.6, keepResidual=True, **given)
    before = first.GetName()
    tables = slicer.util.getNodesByClass("vtkMRMLTableNode")
    own = next(node for node in tables if node.GetName().endswith("lesions (DRMC)_1"))
    assert table(own) != table(expectedTable)
    logic.changeStrength(first, strength, lesionTable=own, **given)
    assert voxels(slicer, first).tobytes() == voxels(slicer, expected).tobytes()
    assert table(own) == table(expectedTable)
    for name in ("DRMC.FullDoseComparison", "DRMC.Strength", "DRMC.SUVFactor", "DRMC.Model", "DRMC.SUVRule"):
        assert first.GetAttribute(name) == expected.GetAttribute(name) != None, name  # noqa: E711
    assert before == "PET denoised (DRMC, strength 0.6)" and first.GetName() != before
    if strength == 0:
        assert voxels(slicer, first).tobytes() == voxels(slicer, scan.low).tobytes()


def test_of_a_dicom_series_it_has_the_bits_of_the_command_line(slicer, model, tmp_path, monkeypatch):
    """Whatever Slicer's reader has rounded: a slope for each slice, the slices in another order."""
    import vtk
    from support.engine.synthetic_dicom import write_series

    files = write_series(tmp_path / "series", phantom(shape=(8, 20, 22)) * 5000.0)
    names = vtk.vtkStringArray()
    for path in files:
        names.InsertNextValue(str(path))
    node = slicer.modules.volumes.logic().AddArchetypeScalarVolume(str(files[0]), "DICOM PET", 0, names)
    monkeypatch.setattr(slicer, "dicomDatabase", Database(files), raising=False)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(slicer.dicomDatabase.files))
    output = logicOf(slicer).process(node, model=model, keepResidual=True)
    logicOf(slicer).changeStrength(output, 0.5)
    at = logicOf(slicer).process(node, model=model, strength=0.5, outputFolder=tmp_path / "direct")
    done = drmc(
        *("denoise", tmp_path / "series", "-o", tmp_path / "out", "--format", "nrrd", "--model", model),
        *("--strength", "0.5"),
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(denoisedOf(tmp_path / "direct"), denoisedOf(tmp_path / "out"))
    assert voxels(slicer, output).tobytes() == voxels(slicer, at).tobytes()


# ---- the panel


def applied(panel, slicer, scan, **parameters):
    """The parameters of the panel after a run of the scan."""
    found = panel._parameterNode
    found.model, found.device, found.inputVolume = "tiny", "cpu", scan.low
    found.lesions, found.referenceVolume = scan.lesions, scan.full
    for name, value in parameters.items():
        setattr(found, name, value)
    panel.ui.applyButton.click()
    waitUntil(slicer, lambda: panel.job is None)
    assert panel.ui.statusLabel.text.startswith("Done in"), panel.ui.statusLabel.text
    return found


def settled(panel, slicer) -> None:
    section = sectionOf(panel, "StrengthSection")
    waitUntil(slicer, lambda: section._job is None and not section._numbersTimer.active)


def test_the_slider_moves_the_voxels_at_once_and_the_numbers_without_the_network(
    panel, qtSlicer, scan, monkeypatch
):
    parameters = applied(panel, qtSlicer, scan)
    output, ui = parameters.outputVolume, panel.ui
    assert ui.strengthSlider.value == 1.0 and ui.strengthComboBox.currentText == "High (default): 1"
    full, low = voxels(qtSlicer, output), voxels(qtSlicer, scan.low)
    rows, page = table(parameters.lesionTable), parameters.report.GetText()
    comparison = ui.comparisonLabel.text
    routing = parameters.routingTable
    ui.strengthSlider.setValue(0.5)
    half = voxels(qtSlicer, output)  # no event was processed
    np.testing.assert_allclose(half, (full + low) / 2, rtol=1e-5, atol=1e-6)
    assert output.GetName() == "PET denoised (DRMC, strength 0.5)"
    assert ui.strengthComboBox.currentText == "Low: 0.5" and "follow" in ui.strengthLabel.text
    settled(panel, qtSlicer)
    assert ui.strengthLabel.text == "'PET denoised (DRMC, strength 0.5)' is at strength 0.5 (low)."
    assert voxels(qtSlicer, output).tobytes() == half.tobytes()
    assert table(parameters.lesionTable) != rows and ui.comparisonLabel.text != comparison
    assert "50 % of a predicted residual" in parameters.report.GetText() and "50 %" not in page
    assert parameters.routingTable is routing and parameters.outputVolume is output
    ui.strengthSlider.setValue(0.0)
    assert voxels(qtSlicer, output).tobytes() == low.tobytes()
    ui.strengthSlider.setValue(1.0)
    settled(panel, qtSlicer)
    assert voxels(qtSlicer, output).tobytes() == full.tobytes() and table(parameters.lesionTable) == rows
    assert ui.comparisonLabel.text == comparison and output.GetName() == "PET denoised (DRMC)"


def test_a_name_sets_the_slider_and_the_next_run_has_it(panel, qtSlicer, scan):
    from host.pythonqt import raw

    combo = panel.ui.strengthComboBox
    combo.setCurrentIndex(0)
    raw(combo).activated.emit(0)
    assert panel.ui.strengthSlider.value == 0.5 and "next run" in panel.ui.strengthLabel.text
    parameters = applied(panel, qtSlicer, scan)
    assert parameters.outputVolume.GetAttribute("DRMC.Strength") == "0.5"
    panel.ui.strengthSlider.setValue(0.6)
    assert combo.currentIndex == -1
    settled(panel, qtSlicer)


def test_a_chosen_volume_brings_its_own_strength(panel, qtSlicer, scan):
    parameters = applied(panel, qtSlicer, scan)
    first = parameters.outputVolume
    parameters.outputVolume = None
    parameters.strength = 0.25
    second = applied(panel, qtSlicer, scan).outputVolume
    bits = voxels(qtSlicer, first).tobytes()
    assert second is not first and second.GetAttribute("DRMC.Strength") == "0.25"
    parameters.outputVolume = first
    assert panel.ui.strengthSlider.value == parameters.strength == 1.0
    assert voxels(qtSlicer, first).tobytes() == bits
    panel.logic.changeStrength(second, 1 / 3)  # by a script, with more digits than the slider has
    bits = voxels(qtSlicer, second).tobytes()
    parameters.outputVolume = second
    assert panel.ui.strengthSlider.value == pytest.approx(1 / 3, abs=0.005)
    assert voxels(qtSlicer, second).tobytes() == bits and "0.333333" in panel.ui.strengthLabel.text
    parameters.outputVolume = first
    first.SetName("Mine")
    panel.ui.strengthSlider.setValue(0.5)
    assert first.GetName() == "Mine"
    settled(panel, qtSlicer)


@pytest.mark.parametrize("leave", [True, False], ids=["module left", "module open"])
def test_the_scene_saved_and_loaded_keeps_strength_and_residual(panel, qtSlicer, scan, tmp_path, leave):
    parameters = applied(panel, qtSlicer, scan)
    full, low = (voxels(qtSlicer, node) for node in (parameters.outputVolume, scan.low))
    rows = table(parameters.lesionTable)
    panel.ui.strengthSlider.setValue(0.5)
    if leave:
        panel.exit()
        settled(panel, qtSlicer)
        panel.enter()
    settled(panel, qtSlicer)
    half = voxels(qtSlicer, panel._parameterNode.outputVolume)
    assert table(panel._parameterNode.lesionTable) != rows
    path = str(tmp_path / "scene.mrb")
    assert qtSlicer.util.saveScene(path)
    qtSlicer.mrmlScene.Clear()
    qtSlicer.util.loadScene(path)
    qtSlicer.app.processEvents()
    parameters = panel._parameterNode
    output = parameters.outputVolume
    assert parameters.strength == panel.ui.strengthSlider.value == 0.5
    assert voxels(qtSlicer, output).tobytes() == half.tobytes()
    panel.ui.strengthSlider.setValue(1.0)
    settled(panel, qtSlicer)
    assert "is at strength 1" in panel.ui.strengthLabel.text
    assert voxels(qtSlicer, output).tobytes() == full.tobytes() and table(parameters.lesionTable) == rows
    panel.ui.strengthSlider.setValue(0.0)
    assert voxels(qtSlicer, output).tobytes() == low.tobytes()


def test_a_scan_that_was_changed_since_is_told_and_a_run_ends_what_is_under_way(panel, qtSlicer, scan):
    parameters = applied(panel, qtSlicer, scan)
    panel.ui.strengthSlider.setValue(0.5)
    waitUntil(qtSlicer, lambda: sectionOf(panel, "StrengthSection")._job is not None)
    panel.ui.applyButton.click()
    assert sectionOf(panel, "StrengthSection")._job is None and not panel.ui.strengthSlider.enabled
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert panel.ui.strengthSlider.enabled and parameters.strength == 0.5
    qtSlicer.util.arrayFromVolume(scan.low)[5, 12, 11] += 1.0
    qtSlicer.util.arrayFromVolumeModified(scan.low)
    panel.ui.strengthSlider.setValue(0.75)
    settled(panel, qtSlicer)
    assert "is not the scan of the residual" in panel.ui.strengthLabel.text


def test_frames_of_a_sequence_have_the_strength_of_their_run(slicer, model):
    from support.slicer.scene import SUV as units

    scene = slicer.mrmlScene
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Dynamic")
    for index in range(2):
        template = volumeNode(slicer, phantom(seed=index), oblique())
        frame = slicer.vtkMRMLScalarVolumeNode()
        frame.CopyContent(template)
        sequence.SetDataNodeAtValue(frame, str(index))
        scene.RemoveNode(template)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    proxy.SetName("PET")
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(units, "UCUM", "SUVbw")
    proxy.SetVoxelValueUnits(entry)
    output = logicOf(slicer).process(proxy, model=model, allFrames=True, strength=0.5, keepResidual=True)
    assert output.GetName() == "PET denoised (DRMC, strength 0.5)"
    frames = browser.GetSequenceNode(output)
    for index in range(2):
        alone = logicOf(slicer).process(
            volumeNode(slicer, phantom(seed=index), oblique(), units=SUV), model=model, strength=0.5
        )
        assert voxels(slicer, frames.GetNthDataNode(index)).tobytes() == voxels(slicer, alone).tobytes()
        assert frames.GetNthDataNode(index).GetAttribute("DRMC.Strength") == "0.5"
