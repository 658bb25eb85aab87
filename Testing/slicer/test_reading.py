"""The reading layout: projections, views, CT, window and colors; and what the panel says of a run."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from support.slicer.modules import sectionOf
from support.slicer.processes import waitUntil
from support.slicer.scene import SUV, nodeIDs, oblique, pair, phantom, volumeNode

pytestmark = pytest.mark.usefixtures("model")
SIDES = ("Original", "Denoised")


@pytest.fixture
def views(qtSlicer):
    """Slicer's slice views."""
    from host import views

    yield views.openViews()
    views.closeViews()


def read(panel, slicer, moved=None):
    """An original and a denoised volume in the panel, in the reading layout at rest.

    `moved`: the transform (4 x 4) that both are under.
    """
    nodes = pair(slicer)
    if moved is not None:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
        for node in nodes:
            node.SetAndObserveTransformNodeID(transform.GetID())
    panel._parameterNode.rotate = False
    panel._parameterNode.inputVolume, panel._parameterNode.outputVolume = nodes
    panel.ui.compareReadingButton.click()
    waitUntil(slicer, lambda: composite(slicer, "DRMCAxialDenoised").GetLinkedControl(), 10.0)
    return nodes


def composite(slicer, name: str):
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return next(node for node in nodes if node.GetLayoutName() == name)


def view(slicer, name: str):
    from DRMCDenoiseLib.comparelayout import sliceNode

    return sliceNode(name)


def ct(slicer, units="[hnsf'U]", start=-20.0):
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = start
    return volumeNode(slicer, np.zeros((20, 20, 20), np.int16), matrix, "CT", units)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_projections_are_the_maxima_along_the_line_of_sight(slicer, flips):
    """From the front and from the side, against the maxima of the array, in any direction of the axes."""
    from DRMCDenoiseLib.projections import ANGLES, Body, ProjectionMaker, projectionsOf

    rng = np.random.default_rng(3)
    array = rng.random((7, 9, 9)).astype(np.float32)
    matrix = np.diag([*(2.0 * np.array(flips)), 1.0])
    node = volumeNode(slicer, array, matrix)
    origin = np.where(np.array(flips[::-1]) > 0, 0.0, [-12.0, -16.0, -16.0])
    box = np.zeros((3, 2))  # the world is not asked for
    body = Body(np.full(3, 2.0), origin, np.zeros(3, int), np.array(array.shape), (0.0, 0.0, 0.0), box)
    maker = ProjectionMaker(node, body)
    standing = array[:: flips[2], :: flips[1], :: flips[0]]
    made = slicer.util.arrayFromVolume(projectionsOf(node))
    assert made.shape[0] == ANGLES
    margin = (made.shape[2] - 9) // 2
    inner = slice(margin, margin + 9)
    np.testing.assert_array_equal(made[0, :, inner], standing.max(axis=1))
    maker.make(ANGLES // 4)
    np.testing.assert_array_equal(made[ANGLES // 4, :, inner], standing.max(axis=2))
    maker.make(ANGLES // 2)
    np.testing.assert_array_equal(made[ANGLES // 2, :, inner], standing.max(axis=1)[:, ::-1])
    assert not projectionsOf(node).GetSaveWithScene() and projectionsOf(node).GetHideFromEditors()


def test_a_large_scan_is_reduced_and_keeps_its_hottest_voxel(slicer, monkeypatch):
    from DRMCDenoiseLib import projections

    monkeypatch.setattr(projections, "MOST_VOXELS", 4000)
    array = phantom((40, 41, 43))
    array[20, 18, 22] = 99.0
    node = volumeNode(slicer, array, np.diag([1.0, 2.0, 3.0, 1.0]))
    standing = projections._Standing(node)
    spacing, origin = standing.spacing, standing.origin
    assert standing.array.size <= 4000 and standing.array.max() == 99.0
    hot = np.argwhere(standing.array == 99.0)[0]
    # S, A, R of the hot voxel's center, in a block of the reduced scan
    assert (np.abs(origin + hot * spacing - [60.0, 36.0, 22.0]) <= spacing / 2).all()


def test_reading_begins_inside_the_body(slicer):
    from DRMCDenoiseLib.projections import findBody

    array = np.zeros((30, 40, 40), np.float32)
    array[20:26, 5:15, 25:35] = 3.0
    node = volumeNode(slicer, array, oblique(), units=SUV)
    ijk = np.linalg.inv(oblique()) @ [*findBody(node, 1.0).inside, 1.0]
    assert ((np.array([24, 4, 19]) <= ijk[:3]) & (ijk[:3] <= np.array([36, 16, 27]))).all()


def test_both_of_a_pair_have_one_place_and_one_field_of_view(panel, qtSlicer, views):
    original, denoised = read(panel, qtSlicer)
    for plane in ("MIP", "Axial", "Coronal"):
        upper, lower = (view(qtSlicer, f"DRMC{plane}{side}") for side in SIDES)
        assert upper.GetSliceOffset() == lower.GetSliceOffset()
        assert upper.GetFieldOfView() == pytest.approx(lower.GetFieldOfView())
        assert upper.GetOrientation() == ("Axial" if plane == "Axial" else "Coronal")
    for side, volume in zip(SIDES, (original, denoised), strict=True):
        assert composite(qtSlicer, f"DRMCAxial{side}").GetBackgroundVolumeID() == volume.GetID()
        shown = composite(qtSlicer, f"DRMCMIP{side}").GetBackgroundVolumeID()
        assert shown == volume.GetNodeReferenceID("DRMC.Projections")
    assert (
        view(qtSlicer, "DRMCMIPOriginal").GetViewGroup() != view(qtSlicer, "DRMCAxialOriginal").GetViewGroup()
    )
    for plane, hasSlider in (("MIP", False), ("Axial", True)):  # the angle of a projection is no place in mm
        assert (
            views.sliceWidget(f"DRMC{plane}Denoised").sliceController().sliceOffsetSlider().visible
            == hasSlider
        )
    turned = view(qtSlicer, "DRMCMIPOriginal").GetSliceOffset()
    from DRMCCoreLib.nodes.jump import jumpTo

    jumpTo((1.0, 2.0, 3.0))
    assert view(qtSlicer, "DRMCAxialDenoised").GetSliceOffset() == pytest.approx(3.0)
    assert view(qtSlicer, "DRMCMIPOriginal").GetSliceOffset() == turned


def test_the_slices_of_a_registered_scan_are_where_it_lies(panel, qtSlicer, views):
    """Its projections have no place; a quarter turn exchanges width and depth of the slices."""

    def shown(plane: str) -> tuple:
        node = view(qtSlicer, f"DRMC{plane}Original")
        return [node.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)], node.GetFieldOfView()[0]

    read(panel, qtSlicer)
    before = {plane: shown(plane) for plane in ("MIP", "Axial", "Coronal")}
    panel.ui.compareOffButton.click()
    turned = np.array([[0.0, -1, 0, 150], [1, 0, 0, -200], [0, 0, 1, 320], [0, 0, 0, 1]])
    read(panel, qtSlicer, turned)
    for plane in ("Axial", "Coronal"):
        place, _width = shown(plane)
        assert place == pytest.approx((turned @ [*before[plane][0], 1])[:3], abs=4.0), plane  # two voxels
    assert shown("MIP") == before["MIP"]


def test_off_leaves_the_scene_as_it_was(panel, qtSlicer, views):
    segmentation = qtSlicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    scan = ct(qtSlicer)
    scan.CreateDefaultDisplayNodes()
    scan.GetDisplayNode().SetAutoWindowLevel(False)
    scan.GetDisplayNode().SetWindowLevel(1500.0, -600.0)
    layout = views.layout
    read(panel, qtSlicer)
    assert not segmentation.GetDisplayNode().GetVisibility2DFill()
    assert scan.GetDisplayNode().GetWindow() == 400.0
    panel.ui.compareOffButton.click()
    assert views.layout == layout and segmentation.GetDisplayNode().GetVisibility2DFill()
    assert (scan.GetDisplayNode().GetWindow(), scan.GetDisplayNode().GetLevel()) == (1500.0, -600.0)
    once = nodeIDs(qtSlicer)
    panel.ui.compareReadingButton.click()
    panel.ui.compareOffButton.click()
    assert nodeIDs(qtSlicer) == once
    names = [node.GetName() for node in qtSlicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert not any("MIP" in name for name in names)


def test_a_ct_that_overlaps_is_under_the_slices(panel, qtSlicer, views):
    ct(qtSlicer, start=900.0)  # of another patient
    volumeNode(qtSlicer, np.zeros((4, 4, 4)), name="MR")
    scan = ct(qtSlicer)
    original, denoised = read(panel, qtSlicer)
    assert panel._parameterNode.ctVolume is scan
    for plane in ("Axial", "Coronal"):
        for side, volume in zip(SIDES, (original, denoised), strict=True):
            node = composite(qtSlicer, f"DRMC{plane}{side}")
            assert (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID()) == (
                scan.GetID(),
                volume.GetID(),
            )
            assert node.GetForegroundOpacity() == 0.5
    assert original.GetDisplayNode().GetColorNode().GetName() == "PET-Heat"
    panel.ui.ctSelector.setCurrentNode(None)
    node = composite(qtSlicer, "DRMCAxialDenoised")
    assert (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID()) == (denoised.GetID(), None)
    assert original.GetDisplayNode().GetColorNode().GetName() == "InvertedGrey"
    panel.ui.heatButton.click()
    assert original.GetDisplayNode().GetColorNode().GetName() == "PET-Heat"
    assert panel.ui.heatButton.checked and not panel.ui.grayButton.checked


def test_window_buttons_are_for_volumes_and_projections(panel, qtSlicer, views):
    original, denoised = read(panel, qtSlicer)
    nodes = [original, denoised, *(one.GetNodeReference("DRMC.Projections") for one in (original, denoised))]

    def windows():
        displays = [node.GetDisplayNode() for node in nodes]
        return {(one.GetWindowLevelMin(), one.GetWindowLevelMax()) for one in displays}

    assert windows() == {(0.0, 7.0)} and panel.ui.window7Button.checked
    panel.ui.window15Button.click()
    assert windows() == {(0.0, 15.0)} and panel.ui.windowSpinBox.value == 15.0
    assert panel.ui.window15Button.checked and not panel.ui.window7Button.checked
    nodes[2].GetDisplayNode().SetWindowLevel(4.0, 3.0)  # with the mouse in a view
    assert windows() == {(1.0, 5.0)}


def test_the_key_exchanges_the_volumes(panel, qtSlicer, views):
    original, denoised = read(panel, qtSlicer)
    section = sectionOf(panel, "CompareSection")

    def shown():
        return [
            composite(qtSlicer, f"DRMC{plane}Original").GetBackgroundVolumeID() for plane in ("Axial", "MIP")
        ]

    expected = [[one.GetID(), one.GetNodeReferenceID("DRMC.Projections")] for one in (original, denoised)]
    assert shown() == expected[0]
    section.onExchange()
    assert shown() == expected[1] and view(qtSlicer, "DRMCAxialOriginal").GetLayoutLabel() == "D"
    section.onExchange()
    assert shown() == expected[0] and view(qtSlicer, "DRMCAxialOriginal").GetLayoutLabel() == "O"
    panel.ui.compareSideBySideButton.click()
    section.onExchange()
    assert composite(qtSlicer, "Red").GetBackgroundVolumeID() == denoised.GetID()
    panel.ui.compareOverlayButton.click()
    section.onExchange()
    assert panel._parameterNode.fade == 0.0


def test_the_projections_turn_until_the_module_is_left(panel, qtSlicer, views):
    from DRMCDenoiseLib.projections import FIRST_MM

    read(panel, qtSlicer)
    section = sectionOf(panel, "CompareSection")
    panel.ui.rotateCheckBox.setChecked(True)
    node = view(qtSlicer, "DRMCMIPDenoised")
    waitUntil(qtSlicer, lambda: node.GetSliceOffset() != FIRST_MM, 10.0)
    panel.exit()
    assert section._rotation is None
    offset = node.GetSliceOffset()
    for _ in range(30):
        qtSlicer.app.processEvents()
        time.sleep(0.01)
    assert node.GetSliceOffset() == offset
    panel.enter()
    assert section._rotation is not None and section._rotation.isTurning
    qtSlicer.mrmlScene.Clear(0)
    assert section._rotation is None and not section._shown


def test_new_voxels_are_projected_again(panel, qtSlicer, views):
    _original, denoised = read(panel, qtSlicer)
    qtSlicer.util.arrayFromVolume(denoised)[10, 10, 10] = 77.0
    qtSlicer.util.arrayFromVolumeModified(denoised)
    made = denoised.GetNodeReference("DRMC.Projections")
    assert qtSlicer.util.arrayFromVolume(made)[0].max() == 77.0


@pytest.mark.parametrize(
    ("tracer", "top"),
    [
        ("Fluorodeoxyglucose", 7.0),
        ("FDG -- fluorodeoxyglucose", 7.0),
        (None, 7.0),
        ("Ga-68 PSMA-11", 10.0),
        ("68Ga-DOTATATE", 15.0),
        ("DOTATOC", 15.0),
        ("[18F]FET", 5.0),
        ("Cu-64 something", 7.0),
    ],
)
def test_the_window_of_a_tracer(slicer, tracer, top):
    from drmc.pages.windows import window_of_tracer

    assert window_of_tracer(tracer) == top


def test_the_verdict_says_what_is_known(panel, qtSlicer):
    """Noise, lesions and center in one sentence; what is not known is left out."""
    original, denoised = pair(qtSlicer)
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.outputVolume = original, denoised
    assert panel.ui.verdictLabel.text == "" and not panel.ui.verdictLabel.visible

    def said(**body):
        denoised.SetAttribute("DRMC.BodyChange", json.dumps(body))
        parameters.Modified()
        return panel.ui.verdictLabel.text

    assert said(noise_reduction_percent=41.7) == "Noise in the body down 42 %."
    assert said(noise_reduction_percent=-3.2) == "Noise in the body up 3 %."
    assert said(noise_reduction_percent=None) == ""
    liver = {"segment": "Liver", "noise_reduction_percent": 30.2}
    assert said(noise_reduction_percent=41.7, liver=liver) == "Noise in the liver down 30 %."
    node = qtSlicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    from DRMCCoreLib.nodes.plots import makeTable

    def lesions(changes):
        node.SetAndObserveTable(
            makeTable(
                {
                    "segment": [f"Lesion {number}" for number in range(len(changes))],
                    "stage": ["change_percent"] * len(changes),
                    "suv_peak": changes,
                }
            )
        )
        parameters.lesionTable = node
        return said(noise_reduction_percent=41.7)

    assert lesions([-6.2]) == "Noise in the body down 42 %, SUVpeak of the lesion changed by \u22126 %."
    assert lesions([-6.2, None, 1.4]).endswith("SUVpeak of 2 lesions changed by +1 to \u22126 %.")
    table = qtSlicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    parameters.routingTable = table
    table.SetAttribute("DRMC.RoutingNearest", json.dumps({"center": "C3", "unlike": False}))
    assert lesions([-6.2]).endswith("\u22126 %, scan like training center C3.")
    single = {"center": "R2041-*", "unlike": False, "distances": {"R2041-*": 0.8}}
    table.SetAttribute("DRMC.RoutingNearest", json.dumps(single))
    assert lesions([-6.2]).endswith("\u22126 %, scan like those of the training.")
    single = {"center": "North", "unlike": False, "distances": {"North": 0.8}}
    table.SetAttribute("DRMC.RoutingNearest", json.dumps(single))
    assert lesions([-6.2]).endswith("\u22126 %, scan like training center North.")
    table.SetAttribute("DRMC.RoutingNearest", json.dumps({"center": "C3", "unlike": True}))
    assert lesions([-6.2]).endswith(", scan unlike all training centers.")


def test_advanced_starts_closed_and_opens_for_what_must_be_corrected(panel, qtSlicer):
    ui = panel.ui
    names = ("advanced", "model", "suv", "files", "spots", "routing", "parameters")
    assert all(getattr(ui, f"{name}CollapsibleButton").collapsed for name in names)
    panel.openAdvanced(ui.suvCollapsibleButton)
    assert not ui.advancedCollapsibleButton.collapsed and not ui.suvCollapsibleButton.collapsed
    assert ui.modelCollapsibleButton.collapsed


def test_columns_of_the_lesion_table(panel, qtSlicer):
    """SUVs or volumes; together they would not fit in a panel of the usual width."""
    import qt
    from DRMCDenoiseLib.lesioncolumns import chooseColumns

    widget = qt.QTableWidget()
    widget.setColumnCount(6)
    for hasVolumes, expected in ((False, [0, 1, 2, 3]), (True, [0, 4, 5])):
        chooseColumns(widget, hasVolumes)
        assert [column for column in range(6) if not widget.isColumnHidden(column)] == expected


def test_columns_share_the_width_whenever_it_changes(panel, qtSlicer):
    import qt
    from DRMCDenoiseLib.lesioncolumns import SpreadColumns, chooseColumns

    widget = qt.QTableWidget()
    widget.setColumnCount(6)
    spread = SpreadColumns(widget)  # noqa: F841  an event filter lives as long as its object
    chooseColumns(widget, False)
    widget.show()
    for width in (400, 640):
        widget.resize(width, 200)
        qtSlicer.app.processEvents()
        assert sum(widget.columnWidth(column) for column in range(4)) > widget.viewport().width - 4


def test_a_scene_that_was_closed_keeps_no_volume(panel, qtSlicer, views):
    """A whole body with its CT is some hundred megabytes."""
    import gc

    import vtk

    scan, gone = ct(qtSlicer), []
    volumes = [*read(panel, qtSlicer), scan]
    names = {node.GetName() for node in volumes}
    for node in volumes:
        name = node.GetName()
        node.AddObserver(vtk.vtkCommand.DeleteEvent, lambda *_, name=name: gone.append(name))
    del volumes, node, scan
    qtSlicer.mrmlScene.Clear(0)
    gc.collect()
    assert set(gone) == names
