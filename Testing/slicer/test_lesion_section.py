"""The panel's lesions: table, colors, jump, copy and save, threshold presets, comparison with full dose."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import host
import numpy as np
import pytest
from support.slicer.processes import waitUntil
from support.slicer.scene import oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")


def scan(slicer, array=None, units="{SUVbw}g/ml", **keywords):
    return volumeNode(slicer, phantom() if array is None else array, oblique(), units=units, **keywords)


def changedBy(slicer, panel, volume, changes: dict[str, tuple[float, ...]]):
    """A lesion table of balls, scaled by these factors in the denoised stage; returns the engine's rows."""
    from drmc.imaging.geometry import Geometry
    from drmc.measures.lesion_files import write_lesions_csv
    from drmc.measures.lesions import lesion_table
    from drmc.segments.segment import Segment
    from DRMCCoreLib.nodes import geometry
    from DRMCDenoiseLib import results

    image = geometry.imageFromNode(volume)
    grid = Geometry.from_image(image)
    array = slicer.util.arrayFromVolume(volume)
    rows = []
    for number, (name, factor) in enumerate(changes.items()):
        mask = np.zeros(array.shape, bool)
        mask[2:9, 3 + 6 * number : 9 + 6 * number, 5:15] = True
        stages = {"original": array, "denoised": array * np.float32(factor)}
        rows += lesion_table("PET", [Segment(name, mask)], stages, grid)
    with tempfile.TemporaryDirectory() as folder:
        write_lesions_csv(Path(folder) / "lesions.csv", rows)
        table = results.readLesionTable(Path(folder) / "lesions.csv")
    panel._parameterNode.lesionTable = results.showLesionTable(table, None, volume)
    return rows


def cells(panel) -> list[list[str]]:
    widget = panel.ui.lesionTableWidget
    return [
        [widget.item(row, column).text() for column in range(widget.columnCount)]
        for row in range(widget.rowCount)
    ]


def test_a_row_per_lesion_and_only_changes_beyond_repeatability_are_marked(panel, qtSlicer):
    from drmc.measures.bias import REPEATABILITY_COEFFICIENT_PERCENT as LIMITS

    assert not panel.ui.lesionTableWidget.visible and panel.ui.noLesionsLabel.visible
    changedBy(qtSlicer, panel, scan(qtSlicer), {"Still": 0.95, "Less": 0.88, "More": 1.2})
    widget = panel.ui.lesionTableWidget
    assert widget.visible and not panel.ui.noLesionsLabel.visible and panel.ui.repeatabilityLabel.visible
    text = cells(panel)
    headers = [widget.horizontalHeaderItem(column).text() for column in range(widget.columnCount)]
    assert headers == ["Lesion", "SUVmax", "SUVpeak", "SUVmean", "MTV41 [ml]", "TLG41"]
    assert [row[0].splitlines()[0] for row in text] == ["Still", "Less", "More"]
    assert [row[1].splitlines()[1] for row in text] == ["\u22125.0 %", "\u221212.0 %", "+20.0 % \u25b2"]
    assert LIMITS["suv_peak"] < 12 < LIMITS["suv_max"]
    marked = {(row, column) for row in range(3) for column in range(6) if "\u25b2" in text[row][column]}
    tones = {(r, c): widget.item(r, c).background().color().name() for r in range(3) for c in range(6)}
    plain = tones[0, 1]
    assert marked == {place for place, tone in tones.items() if tone != plain} >= {(2, 1)}
    assert all(column in (1, 2) for _, column in marked)
    assert "Lodge et al. 2012" in widget.item(2, 1).toolTip() and "Beyond" in widget.item(2, 1).toolTip()
    assert "noise alone" in widget.item(2, 1).toolTip() and "noise alone" in panel.ui.repeatabilityLabel.text
    assert "test-retest" not in widget.item(2, 1).toolTip() + panel.ui.repeatabilityLabel.text
    assert "Within" in widget.item(1, 1).toolTip() and "never marked" in widget.item(2, 3).toolTip()


def test_the_suv_of_the_table_and_its_warnings_stand_below_it(panel, qtSlicer, tmp_path):
    from drmc.measures.lesion_files import write_lesions_csv
    from drmc.measures.lesions import lesion_table
    from drmc.segments.segment import Segment
    from DRMCDenoiseLib import results

    volume = scan(qtSlicer)
    changedBy(qtSlicer, panel, volume, {"Hot": 0.9})
    assert not panel.ui.lesionSUVLabel.visible, "a table of an earlier version does not say"
    mask = np.zeros(phantom().shape, bool)
    mask[2:6, 2:6, 2:6] = True
    from drmc.imaging.geometry import Geometry

    stages = dict.fromkeys(("original", "denoised", "reference"), phantom())
    rows = lesion_table("PET", [Segment("Hot", mask)], stages, Geometry(mask.shape))
    heavy = {"rule": "ST", "factor": 2.5e-4, "warnings": ["PatientWeight 320 kg is unusual", "check it"]}
    full = {"rule": "sidecar", "factor": 1.0, "warnings": []}
    decisions = {**dict.fromkeys(("original", "denoised", "change_percent"), heavy), "reference": full}
    write_lesions_csv(tmp_path / "lesions.csv", rows, decisions)
    table = results.readLesionTable(tmp_path / "lesions.csv")
    panel._parameterNode.lesionTable = results.showLesionTable(table, None, volume)
    assert panel.ui.lesionSUVLabel.visible and panel.ui.lesionSUVLabel.text.splitlines() == [
        "SUV factor 0.00025, rule ST",
        "Warning: PatientWeight 320 kg is unusual",
        "Warning: check it",
        "full dose: SUV factor 1, rule sidecar",
    ]
    panel.ui.copyButton.click()
    assert "PatientWeight 320 kg is unusual" in qtSlicer.app.clipboard().text()


def test_intervals_of_full_dose_stand_in_the_cells_or_why_there_is_none(panel, qtSlicer, tmp_path):
    from drmc.imaging.geometry import Geometry
    from drmc.measures.lesion_files import write_lesions_csv
    from drmc.measures.lesions import lesion_table
    from drmc.segments.segment import Segment
    from DRMCDenoiseLib import results

    volume = scan(qtSlicer)
    mask = np.zeros(phantom().shape, bool)
    mask[2:6, 2:6, 2:6] = True
    segments = [Segment("Hot", mask), Segment("Wide", ~mask)]
    rows = lesion_table("PET", segments, {"original": phantom(), "denoised": phantom()}, Geometry(mask.shape))
    hot, wide = (row for row in rows if row["stage"] == "denoised")
    hot |= {"suv_max_interval90_low": 3.704, "suv_max_interval90_high": 4.6}
    wide["interval_note"] = "diameter [mm]: 62 is outside calibration, 4 to 41"
    write_lesions_csv(tmp_path / "lesions.csv", rows)
    table = results.readLesionTable(tmp_path / "lesions.csv")
    panel._parameterNode.lesionTable = results.showLesionTable(table, None, volume)
    widget = panel.ui.lesionTableWidget
    assert cells(panel)[0][1].splitlines()[2] == "90 %: 3.70 to 4.60"
    value = cells(panel)[0][1].split("\u2192")[1].split()[0]
    assert (
        f"{value}, 90 % interval 3.70 to 4.60: what full dose would have shown" in widget.item(0, 1).toolTip()
    )
    assert all(len(cells(panel)[row][column].splitlines()) == 2 for row, column in ((0, 2), (0, 4), (1, 1)))
    note = "No interval of full dose is stated: diameter [mm]: 62 is outside calibration, 4 to 41."
    assert [note in widget.item(1, column).toolTip() for column in range(1, 6)] == [True] * 3 + [False] * 2
    assert not any("interval" in widget.item(0, column).toolTip() for column in (4, 5))
    panel.ui.copyButton.click()
    assert "62 is outside calibration" in qtSlicer.app.clipboard().text()
    assert "3.704" in qtSlicer.app.clipboard().text()


def test_sul_stands_under_suv_where_it_is_known(panel, qtSlicer, tmp_path):
    from drmc.imaging.geometry import Geometry
    from drmc.measures.lesion_files import write_lesions_csv
    from drmc.measures.lesions import lesion_table
    from drmc.segments.segment import Segment
    from DRMCDenoiseLib import results

    volume = scan(qtSlicer)
    mask = np.zeros(phantom().shape, bool)
    mask[2:6, 2:6, 2:6] = True
    rows = lesion_table(
        "PET", [Segment("Hot", mask)], {"original": phantom(), "denoised": phantom()}, Geometry(mask.shape)
    )
    for row, value in zip(rows, (3.0, 2.5, -16.7), strict=True):
        row |= {"sul_max": value}
    write_lesions_csv(tmp_path / "lesions.csv", rows)
    table = results.readLesionTable(tmp_path / "lesions.csv")
    panel._parameterNode.lesionTable = results.showLesionTable(table, None, volume)
    assert cells(panel)[0][1].splitlines()[2] == "SUL 3.00 \u2192 2.50"
    assert [len(text.splitlines()) for text in cells(panel)[0][2:]] == [2] * 4


def test_a_marked_cell_reads_alike_on_a_light_and_a_dark_theme(panel, qtSlicer):
    changedBy(qtSlicer, panel, scan(qtSlicer), {"Hot": 1.4})
    item = panel.ui.lesionTableWidget.item(0, 1)
    luminance = lambda color: (0.299 * color.red() + 0.587 * color.green() + 0.114 * color.blue()) / 255
    assert abs(luminance(item.background().color()) - luminance(item.foreground().color())) > 0.5


def test_a_run_with_full_dose_says_how_near_it_came(panel, qtSlicer):
    node = scan(qtSlicer)
    full = scan(qtSlicer, phantom() * np.float32(0.95), name="Full")
    ui = panel.ui
    ui.inputSelector.setCurrentNode(node)
    ui.lesionsSelector.setCurrentNode(segmentationNode(qtSlicer, node, {"Hot": phantom() > 5}))
    ui.referenceSelector.setCurrentNode(node)
    assert not ui.applyButton.enabled and "other than the input" in ui.applyButton.toolTip
    ui.referenceSelector.setCurrentNode(full)
    panel._parameterNode.model = "tiny"
    ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert ui.statusLabel.text.startswith("Done in"), ui.statusLabel.text
    assert ui.comparisonLabel.visible and ui.comparisonLabel.text.startswith(
        "Against full dose: error of SUVmean 5."
    )
    assert all(word in ui.comparisonLabel.text for word in ("of SUVmax", "PSNR", "dB", "SSIM"))
    assert "full dose" in ui.lesionTableWidget.item(0, 1).toolTip()
    table = panel._parameterNode.lesionTable
    ui.lesionsSelector.setCurrentNode(None)
    ui.referenceSelector.setCurrentNode(None)
    ui.applyButton.click()  # the next run measures nothing: old numbers must not stand beside the new image
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert ui.noLesionsLabel.visible and not ui.lesionTableWidget.visible and not ui.comparisonLabel.visible
    assert qtSlicer.mrmlScene.IsNodePresent(table) and table.GetTable().GetNumberOfRows() == 4


def test_a_click_on_a_row_goes_to_its_suvmax(panel, qtSlicer):
    scene = qtSlicer.mrmlScene
    slices = [scene.AddNewNodeByClass("vtkMRMLSliceNode", name) for name in ("Red", "Green")]
    slices[0].SetOrientationToAxial()
    slices[1].SetOrientationToCoronal()
    node = scan(qtSlicer)
    moved = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = qtSlicer.util.vtkMatrixFromArray(
        np.array([[0, -1, 0, 5], [1, 0, 0, 7], [0, 0, 1, -9], [0, 0, 0, 1.0]])
    )
    moved.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(moved.GetID())
    rows = changedBy(qtSlicer, panel, node, {"One": 0.9, "Two": 0.9})
    array = qtSlicer.util.arrayFromVolume(node)
    for number in (1, 0):
        panel.ui.lesionTableWidget.cellClicked.connect(lambda *_: None)  # a second listener does no harm
        host.pythonqt.raw(panel.ui.lesionTableWidget).cellActivated.emit(number, 0)
        crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        assert crosshair.GetCrosshairMode() == crosshair.ShowBasic
        world = np.array(crosshair.GetCrosshairRAS())
        local = [0.0, 0.0, 0.0]
        node.TransformPointFromWorld(world, local)
        from DRMCCoreLib.nodes import geometry

        index = np.rint(np.linalg.inv(geometry.nodeMatrix(node)) @ [*local, 1])[2::-1].astype(int)
        assert array[tuple(index)] == pytest.approx(rows[3 * number]["suv_max"])
        for one in slices:
            origin = [one.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
            np.testing.assert_allclose(origin, world, atol=1e-6)


def test_copy_and_save_give_the_raw_numbers(panel, qtSlicer, tmp_path, monkeypatch):
    import DRMCCoreLib.panel.tables as module

    rows = changedBy(qtSlicer, panel, scan(qtSlicer), {"One, of two": 0.9, "Two": 1.1})
    panel.ui.copyButton.click()
    copied = list(csv.DictReader(qtSlicer.app.clipboard().text().splitlines(), delimiter="\t"))
    panel.ui.saveButton.click()  # nobody is there to choose a file
    assert not panel.ui.lesionMessageLabel.text.startswith("Saved")
    monkeypatch.setattr(module, "chooseCSV", lambda parent, name: str(tmp_path / name))
    panel.ui.saveButton.click()
    assert panel.ui.lesionMessageLabel.visible and panel.ui.lesionMessageLabel.text.startswith("Saved: ")
    with open(tmp_path / "PET lesions (DRMC).csv", newline="", encoding="utf-8") as file:
        saved = list(csv.DictReader(file))
    assert saved == copied and len(saved) == len(rows)
    for text, row in zip(saved, rows, strict=True):
        assert text["segment"] == row["segment"] and text["stage"] == row["stage"]
        assert (float(text["suv_peak"]) if text["suv_peak"] else None) == row["suv_peak"]
    monkeypatch.setattr(module, "chooseCSV", lambda parent, name: str(tmp_path / "no" / name))
    panel.ui.saveButton.click()
    assert "cannot be written" in panel.ui.lesionMessageLabel.text


def hotScan(slicer, factor: float = 1.0, units: str | None = "{SUVbw}g/ml"):
    """Tissue of SUV 1 with two hot balls of 10 and 6, divided by the factor; and their centers (world)."""
    shape = (20, 40, 44)
    index = np.indices(shape)
    array = np.ones(shape)
    middles = np.array([[10, 12, 14], [8, 28, 32]])
    matrix = oblique()
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)[::-1]
    for middle, top in zip(middles, (10.0, 6.0), strict=True):
        away = np.sqrt((((index - middle[:, None, None, None]) * spacing[:, None, None, None]) ** 2).sum(0))
        array = np.maximum(array, top - away / 3)
    node = volumeNode(slicer, (array / factor).astype(np.float32), matrix, units=units)
    return node, [matrix[:3, :3] @ middle[::-1] + matrix[:3, 3] for middle in middles], array


def masksOf(slicer, segmentation, volume) -> dict[str, np.ndarray]:
    found = segmentation.GetSegmentation()
    names = {
        found.GetNthSegment(i).GetName(): found.GetNthSegmentID(i) for i in range(found.GetNumberOfSegments())
    }
    return {
        name: slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, one, volume).astype(bool)
        for name, one in names.items()
    }


def test_threshold_presets_take_the_lesion_at_the_crosshair(panel, qtSlicer):
    ui = panel.ui
    node, places, array = hotScan(qtSlicer)
    crosshair = qtSlicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCrosshairRAS(places[0] + [4.0, -3.0, 5.0])  # near the middle is enough
    ui.fractionButton.click()
    segmentation = ui.lesionsSelector.currentNode()
    assert segmentation is not None and panel._parameterNode.lesions is segmentation
    assert "Added 'Lesion 1, 41 % of SUVmax 10.0'" in ui.lesionMessageLabel.text
    crosshair.SetCrosshairRAS(places[1])
    ui.suv25Button.click()
    ui.suv40Button.click()
    masks = masksOf(qtSlicer, segmentation, node)
    assert list(masks) == [
        "Lesion 1, 41 % of SUVmax 10.0",
        "Lesion 2, SUV 2.5 or more",
        "Lesion 3, SUV 4.0 or more",
    ]
    left = np.arange(array.shape[2]) < 23  # the balls do not touch there
    for mask, wanted in zip(
        masks.values(), ((array >= 4.1) & left, (array >= 2.5) & ~left, (array >= 4.0) & ~left), strict=True
    ):
        np.testing.assert_array_equal(mask, wanted)
    crosshair.SetCrosshairRAS(places[0] + [500, 0, 0])
    ui.fractionButton.click()
    assert ui.lesionMessageLabel.text.startswith("No segment added: the crosshair is outside 'PET'")
    assert len(masksOf(qtSlicer, segmentation, node)) == 3


def test_presets_need_the_suv_and_take_it_from_an_earlier_run(panel, qtSlicer):
    ui = panel.ui
    node, places, array = hotScan(qtSlicer, factor=2.5e-4, units=None)
    qtSlicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(places[0])
    ui.suv40Button.click()
    assert ui.lesionMessageLabel.text.startswith("No segment added: the SUV of 'PET' is known after a run")
    assert panel._parameterNode.lesions is None
    ui.fractionButton.click()
    output = volumeNode(qtSlicer, np.zeros(array.shape, np.float32), oblique(), name="Out")
    output.SetAttribute("DRMC.SUVFactor", "0.00025")
    output.SetNodeReferenceID("DRMC.Input", node.GetID())
    panel._parameterNode.outputVolume = output
    ui.suv40Button.click()
    masks = masksOf(qtSlicer, panel._parameterNode.lesions, node)
    assert list(masks) == ["Lesion 1, 41 % of the maximum", "Lesion 2, SUV 4.0 or more"]
    left = np.arange(array.shape[2]) < 23
    np.testing.assert_array_equal(masks["Lesion 2, SUV 4.0 or more"], (array >= 4.0) & left)


def test_a_preset_that_finds_nothing_leaves_nothing_and_a_cut_region_is_said(panel, qtSlicer):
    node = scan(qtSlicer, np.full((30, 60, 60), 3.0, np.float32))
    middle = oblique() @ [30, 30, 15, 1]
    qtSlicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(middle[:3])
    panel.ui.suv40Button.click()
    assert "nothing within 15 mm of the crosshair reaches SUV 4" in panel.ui.lesionMessageLabel.text
    assert qtSlicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    panel.ui.suv25Button.click()
    assert "edge of the 12 cm box" in panel.ui.lesionMessageLabel.text
    (mask,) = masksOf(qtSlicer, panel._parameterNode.lesions, node).values()
    assert 0 < mask.sum() < mask.size


def test_new_lesions_open_in_segment_editor(panel, qtSlicer, monkeypatch):
    assert not panel.ui.newLesionsButton.enabled
    node = scan(qtSlicer)
    asked = []
    monkeypatch.setattr(qtSlicer.app, "layoutManager", lambda: object(), raising=False)
    monkeypatch.setattr(qtSlicer.util, "selectModule", asked.append)
    panel.ui.newLesionsButton.click()
    segmentation = panel._parameterNode.lesions
    editor = qtSlicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert asked == ["SegmentEditor"] and segmentation.GetName() == "Lesions of PET"
    assert editor.GetSegmentationNode() is segmentation and editor.GetSourceVolumeNode() is node


def test_a_saved_scene_shows_the_same_table_when_it_is_opened_again(panel, qtSlicer, tmp_path):
    changedBy(qtSlicer, panel, scan(qtSlicer), {"Hot": 1.3, "Liver": 1.0})
    output = scan(qtSlicer, name="Out")
    said = {"B_mean": {"original": 0.05, "denoised": 0.031}, "psnr": {"original": 30.26, "denoised": None}}
    output.SetAttribute("DRMC.FullDoseComparison", json.dumps(said))
    panel._parameterNode.outputVolume = output
    assert (
        panel.ui.comparisonLabel.text
        == "Against full dose: error of SUVmean 5.0 \u2192 3.1 %, PSNR 30.3 \u2192 \u2013 dB"
    )
    before, line = cells(panel), panel.ui.comparisonLabel.text
    scene, table = qtSlicer.mrmlScene, panel._parameterNode.lesionTable
    storage = scene.AddNewNodeByClass("vtkMRMLTableStorageNode")
    storage.SetFileName(str(tmp_path / "lesions.tsv"))
    table.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.WriteData(table)
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    scene.Clear(0)
    assert not panel.ui.lesionTableWidget.visible and not panel.ui.comparisonLabel.visible
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Connect()
    assert cells(panel) == before and panel.ui.comparisonLabel.text == line


def withFoci(slicer, panel, count: int = 2):
    """A denoised volume of a moved scan, with lowered foci on its voxels (2, 3, 4), (3, 4, 5), ..."""
    from DRMCCoreLib.nodes import geometry
    from DRMCDenoiseLib.results import fillDenoised

    node = scan(slicer)
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved.SetMatrixTransformToParent(
        slicer.util.vtkMatrixFromArray(np.array([[0, -1, 0, 5], [1, 0, 0, 7], [0, 0, 1, -9], [0, 0, 0, 1.0]]))
    )
    node.SetAndObserveTransformNodeID(moved.GetID())
    foci = []
    for rank in range(1, count + 1):
        x, y, z = (geometry.nodeMatrix(node) @ [rank + 3, rank + 2, rank + 1, 1.0])[:3]  # RAS
        numbers = {"suv_before": 2.0, "suv_after": 1.0, "change_percent": -50.0, "sigmas": 8.0 - rank}
        place = {"x_mm": -x, "y_mm": -y, "z_mm": z, "slice": rank + 2}
        foci.append({"rank": rank, **place, **numbers, "segment": "Node <1>" if rank == 1 else None})
    lowered = {"count": count + 5 if count else 0, "foci": foci, "candidates": 900, "limit_sigmas": 4.5}
    suv = {"type": "SUVbw", "factor": 1.0, "rule": "as stored"}
    summary = {"suv": suv, "model": {"name": "tiny", "sha256": "0"}, "versions": {"drmc": "0"}}
    summary |= {"input": {"units": "SUV"}, "strength": 1.0, "lowered_foci": lowered}
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Out")
    fillDenoised(output, phantom(), node, summary)
    output.SetNodeReferenceID("DRMC.Input", node.GetID())
    panel._parameterNode.outputVolume = output
    return node


def test_lowered_foci_are_listed_and_a_click_goes_to_each(panel, qtSlicer):
    from DRMCCoreLib.nodes import geometry

    assert not panel.ui.fociTableWidget.visible and not panel.ui.fociLabel.visible
    node = withFoci(qtSlicer, panel)
    widget = panel.ui.fociTableWidget
    assert widget.visible and panel.ui.fociLabel.visible
    assert panel.ui.fociLabel.text == (
        "7 foci were lowered by more than noise explains. Click one to go there. The first 2 are listed."
    )
    text = [[widget.item(row, column).text() for column in range(widget.columnCount)] for row in range(2)]
    assert text[0] == ["1", "3", "2.00", "1.00", "\u221250.0 %", "7.0 SD", "Node <1>"]
    assert text[1][0] == "2" and text[1][-1] == "\u2013"
    for row in (1, 0):
        host.pythonqt.raw(widget).cellActivated.emit(row, 2)
        crosshair = qtSlicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        local = [0.0, 0.0, 0.0]
        node.TransformPointFromWorld(crosshair.GetCrosshairRAS(), local)
        index = np.linalg.inv(geometry.nodeMatrix(node)) @ [*local, 1.0]
        assert index[:3] == pytest.approx([row + 4, row + 3, row + 2], abs=1e-3)


def test_without_lowered_foci_there_is_no_list(panel, qtSlicer):
    withFoci(qtSlicer, panel)
    assert panel.ui.fociTableWidget.visible
    withFoci(qtSlicer, panel, count=0)
    assert not panel.ui.fociTableWidget.visible and not panel.ui.fociLabel.visible
