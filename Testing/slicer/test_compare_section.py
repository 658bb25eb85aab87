"""The section Compare of the panel: clicked, left, closed and loaded again, with and without slice views."""

from __future__ import annotations

import time

import numpy as np
import pytest
from support.slicer.modules import sectionOf
from support.slicer.processes import waitUntil
from support.slicer.scene import nodeIDs, pair

pytestmark = pytest.mark.usefixtures("model")
FACTOR = 2.5e-4


@pytest.fixture
def views(qtSlicer):
    """Slicer's slice views."""
    from host import views

    yield views.openViews()
    views.closeViews()


def compared(panel, slicer) -> list:
    """An original and a denoised volume in the panel."""
    nodes = pair(slicer, FACTOR)
    panel._parameterNode.inputVolume, panel._parameterNode.outputVolume = nodes
    return nodes


def layers(slicer) -> dict[str, tuple]:
    """What each slice view shows: background, foreground, opacity, linked."""
    return {
        node.GetLayoutName(): (
            node.GetBackgroundVolumeID(),
            node.GetForegroundVolumeID(),
            node.GetForegroundOpacity(),
            node.GetLinkedControl(),
        )
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    }


def display(node) -> tuple:
    one = node.GetDisplayNode()
    return one.GetColorNodeID(), one.GetWindowLevelMin(), one.GetWindowLevelMax(), one.GetAutoWindowLevel()


def press(panel, name: str) -> None:
    getattr(panel.ui, f"compare{name}Button").click()


def test_without_a_denoised_volume_there_is_nothing_to_compare(panel, qtSlicer):
    assert not panel.ui.compareOverlayButton.enabled
    assert "Denoise a volume first" in panel.ui.compareOverlayButton.toolTip
    compared(panel, qtSlicer)
    assert panel.ui.compareOverlayButton.enabled and "fade" in panel.ui.compareOverlayButton.toolTip
    assert panel.ui.compareOffButton.checked and not panel.ui.fadeSlider.enabled


def test_overlay_fade_and_window(panel, qtSlicer, views):
    original, denoised = compared(panel, qtSlicer)
    press(panel, "Overlay")
    ids = original.GetID(), denoised.GetID()
    assert layers(qtSlicer) == dict.fromkeys(("Red", "Green", "Yellow"), (*ids, 0.5, 0))
    assert panel.ui.compareOverlayButton.checked and panel.ui.fadeSlider.enabled
    panel.ui.fadeSlider.setValue(0.25)
    assert panel._parameterNode.fade == 0.25
    assert {one[2] for one in layers(qtSlicer).values()} == {0.25}
    colors = [node.GetDisplayNode().GetColorNode().GetName() for node in (original, denoised)]
    assert colors == ["Grey", "PET-Heat"]
    assert panel.ui.windowSpinBox.value == 7.0
    assert [display(node)[1:3] for node in (original, denoised)] == [(0, pytest.approx(7 / FACTOR))] * 2
    panel.ui.windowSpinBox.setValue(10.0)
    assert [display(node)[1:3] for node in (original, denoised)] == [(0, pytest.approx(10 / FACTOR))] * 2


def test_a_window_set_in_a_view_is_that_of_both(panel, qtSlicer, views):
    original, denoised = compared(panel, qtSlicer)
    press(panel, "SideBySide")
    denoised.GetDisplayNode().SetWindowLevel(1000.0, 700.0)
    assert display(original)[1:3] == display(denoised)[1:3] == (200.0, 1200.0)
    press(panel, "Off")
    denoised.GetDisplayNode().SetWindowLevel(300.0, 200.0)
    assert display(original)[1:3] != (50.0, 350.0)


def test_side_by_side_in_linked_views_at_one_place(panel, qtSlicer, views):
    original, denoised = compared(panel, qtSlicer)
    red = views.sliceWidget("Red").mrmlSliceNode()
    red.JumpSlice(3.0, 4.0, 5.0)
    before = views.layout
    press(panel, "SideBySide")
    assert views.sliceViewNames() == ("Red", "Yellow", "Green", "DRMCRed", "DRMCYellow", "DRMCGreen")
    settled(qtSlicer, lambda: all(one[3] for one in layers(qtSlicer).values()))
    shown = layers(qtSlicer)
    for name in ("Red", "Yellow", "Green"):
        assert shown[name] == (original.GetID(), None, 0.0, 1)
        assert shown[f"DRMC{name}"] == (denoised.GetID(), None, 0.0, 1)
        upper, lower = (views.sliceWidget(one).mrmlSliceNode() for one in (name, f"DRMC{name}"))
        assert upper.GetOrientation() == lower.GetOrientation()
        assert upper.GetSliceOffset() == lower.GetSliceOffset()
        assert upper.GetFieldOfView()[0] == lower.GetFieldOfView()[0]
    assert red.GetSliceOffset() == 5.0
    press(panel, "Overlay")
    assert views.layout == before
    press(panel, "SideBySide")  # the layout and its views are there already
    press(panel, "Off")
    assert views.layout == before and layers(qtSlicer)["DRMCRed"][:2] == (None, None)


@pytest.mark.parametrize("wereLinked", [False, True])
def test_side_by_side_stays_at_its_place_when_its_views_are_shown(panel, qtSlicer, views, wereLinked):
    """Views that the layout makes reset themselves when first shown, and with them the linked ones."""
    compared(panel, qtSlicer)
    for node in qtSlicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        node.SetLinkedControl(wereLinked)
    nodes = {name: views.sliceWidget(name).mrmlSliceNode() for name in ("Red", "Yellow", "Green")}
    for name, place in (("Red", 5.0), ("Yellow", 3.0), ("Green", 4.0)):
        nodes[name].SetSliceOffset(place)
    press(panel, "SideBySide")
    settled(qtSlicer, lambda: all(one[3] for one in layers(qtSlicer).values()))
    for name, place in (("Red", 5.0), ("Yellow", 3.0), ("Green", 4.0)):
        lower = views.sliceWidget(f"DRMC{name}").mrmlSliceNode()
        assert nodes[name].GetSliceOffset() == lower.GetSliceOffset() == place
        assert nodes[name].GetFieldOfView() == pytest.approx(lower.GetFieldOfView())
        assert nodes[name].GetDimensions() == lower.GetDimensions() == (180, 140, 1)
    press(panel, "Off")
    settled(qtSlicer)
    assert [node.GetSliceOffset() for node in nodes.values()] == [5.0, 3.0, 4.0]
    assert {layers(qtSlicer)[name][3] for name in nodes} == {int(wereLinked)}


def test_side_by_side_that_was_left_at_once_links_nothing(panel, qtSlicer, views):
    compared(panel, qtSlicer)
    press(panel, "SideBySide")
    press(panel, "Overlay")
    settled(qtSlicer)
    assert {one[3] for one in layers(qtSlicer).values()} == {0}


def settled(slicer, condition=lambda: True) -> None:
    """Lets Qt work until the views are at rest."""
    waitUntil(slicer, condition, 10.0)
    for _ in range(20):
        slicer.app.processEvents()
        time.sleep(0.01)


@pytest.mark.parametrize("mode", ["Overlay", "SideBySide", "Flicker", "Residual"])
def test_off_puts_everything_back(panel, qtSlicer, views, mode):
    original, denoised = compared(panel, qtSlicer)
    qtSlicer.util.setSliceViewerLayers(background=denoised, foreground=original, foregroundOpacity=0.3)
    views.setLayout(qtSlicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    original.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")

    def state():
        shown = layers(qtSlicer)
        usual = {name: shown[name] for name in ("Red", "Green", "Yellow")}
        return usual, views.layout, display(original), display(denoised)

    before = state()
    press(panel, mode)
    assert state() != before
    press(panel, "Residual")  # from one way to another, and back
    press(panel, mode)
    once = nodeIDs(qtSlicer)
    press(panel, "Off")
    assert state() == before
    press(panel, mode)
    press(panel, "Off")
    kept = [
        node
        for node in qtSlicer.util.getNodesByClass("vtkMRMLNode")
        if any("Before" in one for one in node.GetAttributeNames())
    ]
    assert state() == before and nodeIDs(qtSlicer) <= once and kept == []


def test_flicker_takes_turns_until_the_module_is_left(panel, qtSlicer, views):
    _original, denoised = compared(panel, qtSlicer)
    press(panel, "Flicker")
    section = sectionOf(panel, "CompareSection")
    assert section._timer.active and 400 <= section._timer.interval <= 600
    seen = []

    def tookTurns():
        opacity = layers(qtSlicer)["Red"][2]
        if not seen or seen[-1] != opacity:
            seen.append(opacity)
        return len(seen) >= 3

    section._timer.setInterval(20)
    waitUntil(qtSlicer, tookTurns)
    assert seen[:3] == [0.0, 1.0, 0.0]
    panel.exit()
    assert not section._timer.active and layers(qtSlicer)["Red"][2] == 1.0
    panel.enter()
    assert section._timer.active and panel.ui.compareFlickerButton.checked
    press(panel, "Overlay")
    assert not section._timer.active
    press(panel, "Flicker")
    qtSlicer.mrmlScene.RemoveNode(denoised)
    assert not section._timer.active and not panel.ui.compareFlickerButton.enabled


def test_the_residual_follows_the_volumes_and_goes_with_the_comparison(panel, qtSlicer, views):
    from DRMCDenoiseLib.residual import residualOf

    original, denoised = compared(panel, qtSlicer)
    before = nodeIDs(qtSlicer)
    press(panel, "Residual")
    residual = residualOf(denoised)
    assert {one[:2] for one in layers(qtSlicer).values()} == {(residual.GetID(), None)}
    assert residual.GetVoxelValueUnits().GetCodeValue() == "{SUVbw}g/ml" and not residual.GetSaveWithScene()
    arrays = [qtSlicer.util.arrayFromVolume(node) for node in (original, denoised, residual)]
    assert np.allclose(arrays[2], (arrays[1] - arrays[0]) * FACTOR, atol=1e-5) and np.ptp(arrays[2]) > 0.1
    arrays[1][2] = arrays[0][2] + 2 / FACTOR
    qtSlicer.util.arrayFromVolumeModified(denoised)
    assert np.allclose(qtSlicer.util.arrayFromVolume(residual)[2], 2.0, atol=1e-3)
    panel.ui.windowSpinBox.setValue(9.0)
    assert display(residual)[1:3] == (-3.0, 3.0) and "up to 3 SUV" in panel.ui.compareLabel.text
    press(panel, "Off")
    assert nodeIDs(qtSlicer) == before and residualOf(denoised) is None


def test_volumes_on_different_grids_have_no_residual(panel, qtSlicer, views):
    _original, denoised = compared(panel, qtSlicer)
    qtSlicer.util.updateVolumeFromArray(denoised, np.zeros((5, 6, 7), np.float32))
    before = layers(qtSlicer), nodeIDs(qtSlicer)
    press(panel, "Residual")
    assert "are not on the same grid" in panel.ui.compareLabel.text
    assert (layers(qtSlicer), nodeIDs(qtSlicer)) == before


def test_closing_the_scene_gives_the_layout_back(panel, qtSlicer, views):
    compared(panel, qtSlicer)
    before = views.layout
    press(panel, "SideBySide")
    qtSlicer.mrmlScene.Clear(0)
    assert views.layout == before and panel.ui.compareOffButton.checked
    assert {one[:2] for one in layers(qtSlicer).values()} == {(None, None)}
    compared(panel, qtSlicer)
    press(panel, "Flicker")
    section = sectionOf(panel, "CompareSection")
    qtSlicer.mrmlScene.Clear(0)
    assert not section._timer.active and len(section.Observations) == 1


def test_a_saved_scene_still_knows_how_the_views_were(panel, qtSlicer, views, tmp_path):
    from DRMCDenoiseLib.comparison import endComparison

    original, denoised = compared(panel, qtSlicer)
    qtSlicer.util.setSliceViewerLayers(background=denoised)
    colors = display(original)[0]
    press(panel, "Overlay")
    panel.ui.fadeSlider.setValue(0.75)
    qtSlicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    for node in (original, denoised):
        storage = qtSlicer.mrmlScene.AddNewNodeByClass("vtkMRMLNRRDStorageNode")
        storage.SetFileName(str(tmp_path / f"{node.GetName()}.nrrd"))
        node.SetAndObserveStorageNodeID(storage.GetID())
        assert storage.WriteData(node)
    assert qtSlicer.mrmlScene.Commit(str(tmp_path / "scene.mrml"))
    qtSlicer.mrmlScene.Clear(0)
    qtSlicer.mrmlScene.Connect()
    assert panel._parameterNode.compareMode == "overlay" and panel.ui.fadeSlider.value == 0.75
    assert layers(qtSlicer)["Red"][2] == 0.75
    endComparison()
    assert qtSlicer.mrmlScene.GetNodeByID(layers(qtSlicer)["Red"][0]).GetName() == "PET denoised"
    assert display(panel._parameterNode.inputVolume)[0] == colors


def test_without_main_window_the_scenes_views_are_set(qtSlicer):
    """A script without layout: the slice composite nodes of the scene, and what an unknown mode says."""
    from drmc.errors import InputError
    from DRMCDenoiseLib.comparison import endComparison, showComparison

    assert qtSlicer.app.layoutManager() is None
    original, denoised = pair(qtSlicer)
    composites = [qtSlicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode") for _ in range(2)]
    showComparison(original, denoised, "sideBySide")
    assert [one.GetBackgroundVolumeID() for one in composites] == [original.GetID(), denoised.GetID()]
    assert all(one.GetLinkedControl() for one in composites)
    showComparison(original, denoised, fade=0.2, windowSUV=4.0)
    assert {one.GetForegroundOpacity() for one in composites} == {0.2}
    assert display(denoised)[1:3] == (0.0, 4.0)
    with pytest.raises(InputError, match="give one of off, overlay"):
        showComparison(original, denoised, "blink")
    endComparison()
    assert {one.GetBackgroundVolumeID() for one in composites} == {None}


def test_a_volume_without_one_suv_factor_gets_the_originals_window(qtSlicer):
    from DRMCCoreLib.nodes.suvdisplay import showWindow
    from DRMCDenoiseLib.comparison import showComparison

    original, denoised = pair(qtSlicer, FACTOR)
    denoised.SetAttribute("DRMC.SUVFactor", None)
    showWindow(original, 10.0, 900.0)
    showComparison(original, denoised, "overlay")
    assert display(original)[1:3] == display(denoised)[1:3] == (10.0, 900.0)


def test_a_residual_without_one_suv_factor_does_not_pretend_to_be_suv(panel, qtSlicer, views):
    """A factor that differs from slice to slice is none for the node: activity stays activity."""
    from DRMCDenoiseLib.residual import residualOf

    original, denoised = pair(qtSlicer, FACTOR)
    denoised.SetAttribute("DRMC.SUVFactor", None)
    panel._parameterNode.inputVolume, panel._parameterNode.outputVolume = original, denoised
    press(panel, "Residual")
    residual = residualOf(denoised)
    arrays = [qtSlicer.util.arrayFromVolume(node) for node in (original, denoised, residual)]
    assert np.array_equal(arrays[2], arrays[1] - arrays[0])
    assert residual.GetVoxelValueUnits().GetCodeValue() == "Bq/ml"
    assert "own units" in panel.ui.compareLabel.text and "up to" not in panel.ui.compareLabel.text
    assert not panel.ui.windowSpinBox.enabled


@pytest.mark.parametrize("hasViews", [True, False])
def test_the_modules_own_test_of_it(qtSlicer, hasViews):
    """What a real Slicer runs, here with and without views."""
    from DRMCDenoiseLib.selftest import DRMCDenoiseTest
    from host import views

    if hasViews:
        views.openViews()
    try:
        DRMCDenoiseTest("test_comparison").debug()
    finally:
        views.closeViews()


@pytest.mark.parametrize(("name", "last"), [("Reading", "DRMCAxialDenoised"), ("SideBySide", "DRMCRed")])
def test_a_volume_with_another_name_stays_in_its_views(panel, qtSlicer, views, name, last):
    """The selectors of linked views choose one volume for all of them when one of its names changes."""
    _original, denoised = compared(panel, qtSlicer)
    panel._parameterNode.rotate = False
    press(panel, name)
    waitUntil(qtSlicer, lambda: layers(qtSlicer)[last][3], 10.0)
    for isExchanged in (False, True):
        if isExchanged:
            sectionOf(panel, "CompareSection").onExchange()
        expected = layers(qtSlicer)
        assert len({background for background, *_rest in expected.values()}) > 1
        for node in qtSlicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            node.SetBackgroundVolumeID(denoised.GetID())
        denoised.SetName(f"Denoised {isExchanged}")
        waitUntil(qtSlicer, lambda expected=expected: layers(qtSlicer) == expected, 10.0)


@pytest.mark.parametrize("isLoadedFirst", [False, True])
def test_a_scene_that_was_saved_in_a_layout_of_ours_shows_it_without_the_panel(
    qtSlicer, monkeypatch, isLoadedFirst
):
    """Slicer shows nothing at all for the number of a layout that nobody has described to it."""
    from DRMCDenoiseLib import comparelayout, readinglayout, viewstate

    layouts = ((comparelayout.LAYOUT, "DRMCYellow"), (readinglayout.LAYOUT, "DRMCMIPOriginal"))
    for number, view in layouts:
        layout = qtSlicer.vtkMRMLLayoutNode()
        monkeypatch.setattr(viewstate, "layoutNode", lambda layout=layout: layout)
        if isLoadedFirst:  # by the command line
            layout.SetViewArrangement(number)
        qtSlicer.app._signals.startupCompleted.emit()
        if not isLoadedFirst:
            layout.SetViewArrangement(number)
        assert view in layout.GetCurrentLayoutDescription()
