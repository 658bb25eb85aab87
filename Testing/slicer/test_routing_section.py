"""The routing in the panel: table and chart nodes after a run, heat map, bars, nearest center, warning."""

from __future__ import annotations

import host
import numpy as np
import pytest
from support.slicer.modules import logicOf
from support.slicer.processes import waitUntil
from support.slicer.routing import EXPERTS, LAYERS, shown, summaryOf
from support.slicer.scene import nodeIDs, oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")


def section(panel):
    return next(one for one in panel.sections if one.uiName == "DRMCDenoiseRouting")


def pixels(widget):
    """The widget as it is painted, uint8 (height, width, 4)."""
    image = host.pythonqt.raw(widget).grab().toImage()
    return (
        np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1, 4)[:, : image.width()].copy()
    )


def test_a_run_leaves_table_and_chart_that_say_what_the_summary_says(slicer, tmp_path):
    node = volumeNode(slicer, phantom(), oblique(), units="{SUVbw}g/ml")
    lesions = segmentationNode(slicer, node, {"Hot": phantom() > 5})
    logicOf(slicer).process(node, lesions=lesions, model="tiny", outputFolder=tmp_path / "out")
    from DRMCDenoiseLib.routingnodes import readRouting

    tableNode = slicer.util.getNode("PET routing (DRMC)")
    routing = readRouting(tableNode)
    assert list(routing.regions) == ["", "Hot"] and routing.centers == {} and routing.nearest == {}
    for region, name in (("", "routing.csv"), ("Hot", "routing_lesions.csv")):
        lines = (tmp_path / "out" / name).read_text().splitlines()
        keys = lines[0].split(",")
        for line, row in zip(lines[1:], routing.regions[region], strict=True):
            assert all(
                text == str(row[key])
                for key, text in zip(keys, line.split(","), strict=True)
                if key != "segment"
            )
    chart = tableNode.GetNodeReference("DRMC.RoutingChart")
    assert chart.IsA("vtkMRMLPlotChartNode") and chart.GetNumberOfPlotSeriesNodes() == 1
    series = chart.GetNthPlotSeriesNode(0)
    bars = series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName())
    assert [bars.GetValue(i) for i in range(4)] == [row["mean_gate"] for row in routing.regions[""]]


def test_the_panel_runs_and_shows_the_chosen_region(panel, qtSlicer):
    ui, own = panel.ui, section(panel)
    assert ui.noRoutingLabel.visible and not ui.regionComboBox.visible and not own.heatMap.visible
    node = volumeNode(qtSlicer, phantom(), oblique(), units="{SUVbw}g/ml")
    ui.lesionsSelector.setCurrentNode(segmentationNode(qtSlicer, node, {"Hot": phantom() > 5}))
    panel._parameterNode.model = "tiny"
    ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert panel._parameterNode.routingTable.GetName() == "PET routing (DRMC)", ui.statusLabel.text
    assert ui.regionComboBox.visible and not ui.noRoutingLabel.visible
    assert [ui.regionComboBox.itemText(i) for i in range(ui.regionComboBox.count)] == ["Body", "Lesion Hot"]
    assert own.heatMap.layers()[0][0]["region"] == "body"
    ui.regionComboBox.setCurrentIndex(1)
    assert own.heatMap.layers()[0][0]["region"] == own.bars.layers()[0][0]["region"] == "Hot"
    assert panel._parameterNode.routingRegion == "Hot"
    once = nodeIDs(qtSlicer)
    ui.applyButton.click()  # again, into the same nodes; the region stays
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert nodeIDs(qtSlicer) == once and ui.regionComboBox.currentText == "Lesion Hot"


def test_nearest_center_and_warning_are_in_plain_words(panel, qtSlicer):
    from drmc.measures.routing_profiles import UNLIKE

    ui = panel.ui
    shown(panel, qtSlicer, summaryOf(centers=("C1", "C2")))
    assert ui.nearestLabel.visible and ui.nearestLabel.text.startswith("Nearest training center: C1.")
    assert "C2 " in ui.nearestLabel.text and not ui.routingWarningLabel.visible
    assert section(panel).heatMap.centers() == ["C1", "C2"]
    shown(panel, qtSlicer, summaryOf(centers=("C1", "C2"), unlike=True))
    panel._parameterNode.Modified()
    assert ui.routingWarningLabel.visible and ui.routingWarningLabel.text == f"{UNLIKE}."
    shown(panel, qtSlicer, summaryOf())
    panel._parameterNode.Modified()
    assert not ui.routingWarningLabel.visible and not ui.nearestLabel.visible


def test_the_chart_follows_the_region_and_goes_into_the_layout(panel, qtSlicer, monkeypatch):
    node = shown(panel, qtSlicer, summaryOf(lesions=("Hot", "Liver"), centers=("C1", "C2")))
    chart = node.GetNodeReference("DRMC.RoutingChart")
    names = lambda: [
        chart.GetNthPlotSeriesNode(i).GetName() for i in range(chart.GetNumberOfPlotSeriesNodes())
    ]
    assert names() == ["Body", "Center: C1"]
    panel.ui.regionComboBox.setCurrentIndex(2)
    assert names() == ["Lesion: Liver", "Body"]
    series = chart.GetNthPlotSeriesNode(0)
    column = series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName())
    expected = [row["mean_gate"] for row in summaryOf(lesions=("Hot", "Liver"))["routing_lesions"]["Liver"]]
    assert [column.GetValue(i) for i in range(len(expected))] == expected
    panel.ui.showChartButton.click()  # without a layout nothing happens
    asked = []
    monkeypatch.setattr(qtSlicer.app, "layoutManager", lambda: object(), raising=False)
    logic = type("Logic", (), {"ShowChartInLayout": lambda self, one: asked.append(one)})()
    monkeypatch.setattr(qtSlicer.modules, "plots", type("Module", (), {"logic": lambda self: logic})())
    panel.ui.showChartButton.click()
    assert asked == [chart]


def test_lesions_named_like_a_center_or_the_body_keep_their_own_numbers(slicer):
    from DRMCDenoiseLib.routingnodes import readRouting, showRouting

    summary = summaryOf(lesions=("body", "C1"), centers=("C1",))
    volume = volumeNode(slicer, phantom(), oblique())
    routing = readRouting(showRouting(summary, None, volume))
    assert list(routing.regions) == ["", "body", "C1"] and list(routing.centers) == ["C1"]
    for name in ("body", "C1"):
        means = [row["mean_gate"] for row in routing.regions[name]]
        assert means == [row["mean_gate"] for row in summary["routing_lesions"][name]]
    assert routing.centers["C1"][0]["mean_gate"] == summary["routing_nearest"]["means"]["C1"][0][0]
    assert routing.nearest["distances"] == summary["routing_nearest"]["distances"]


def test_a_saved_scene_shows_the_same_when_it_is_opened_again(panel, qtSlicer, tmp_path):
    from DRMCDenoiseLib.routingnodes import readRouting

    node = shown(panel, qtSlicer, summaryOf(centers=("C1", "C2"), unlike=True))
    panel.ui.regionComboBox.setCurrentIndex(1)
    before = readRouting(node)
    scene = qtSlicer.mrmlScene
    for one in (node, node.GetNthNodeReference("DRMC.RoutingChart", 1)):
        storage = qtSlicer.vtkMRMLTableStorageNode()
        scene.AddNode(storage)
        one.SetAndObserveStorageNodeID(storage.GetID())
        storage.SetFileName(str(tmp_path / f"{one.GetID()}.tsv"))
        assert storage.WriteData(one)
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    scene.Clear(0)
    assert panel.ui.noRoutingLabel.visible and not panel.ui.routingWarningLabel.visible
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Connect()
    ui = panel.ui
    assert ui.regionComboBox.currentText == "Lesion Hot" and ui.routingWarningLabel.visible
    after = readRouting(panel._parameterNode.routingTable)
    assert after.nearest == before.nearest
    for region, rows in before.regions.items():
        for one, other in zip(rows, after.regions[region], strict=True):
            assert other["mean_gate"] == pytest.approx(one["mean_gate"], rel=1e-5)


@pytest.mark.parametrize("width", [300, 520])
def test_heat_map_and_bars_paint_what_they_hold(panel, qtSlicer, width):
    own = section(panel)
    for widget in (own.heatMap, own.bars):
        widget.setFixedWidth(width)
    shown(panel, qtSlicer, summaryOf(centers=("C1", "C2")))
    qtSlicer.app.processEvents()
    before = [pixels(widget) for widget in (own.heatMap, own.bars)]
    assert all(len(np.unique(one.reshape(-1, 4), axis=0)) > 12 for one in before)
    panel.ui.regionComboBox.setCurrentIndex(1)
    qtSlicer.app.processEvents()
    after = [pixels(widget) for widget in (own.heatMap, own.bars)]
    assert all(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert own.heatMap.minimumHeight > 23 * LAYERS


def test_a_scan_of_air_and_a_lesion_without_tiles_are_shown_without_numbers(panel, qtSlicer):
    from drmc.measures.routing import routing_table

    nothing = routing_table(np.zeros((0, LAYERS, EXPERTS)))
    shown(panel, qtSlicer, {"routing": nothing, "routing_lesions": {"Far": nothing}, "routing_nearest": None})
    own = section(panel)
    panel.ui.regionComboBox.setCurrentIndex(1)
    qtSlicer.app.processEvents()
    assert own.heatMap.layers()[0][0]["mean_gate"] is None and pixels(own.heatMap).any()
