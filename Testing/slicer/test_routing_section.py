"""The routing section: table and chart nodes after a run, heat map, bar chart, nearest center, warning."""

from __future__ import annotations

import host
import numpy as np
import pytest
from support.slicer.modules import logicOf, sectionOf
from support.slicer.processes import waitUntil
from support.slicer.routing import EXPERTS, LAYERS, shown, summaryOf
from support.slicer.scene import nodeIDs, oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")


def section(panel):
    """The section, opened: it starts closed under Advanced."""
    panel.openAdvanced(panel.ui.routingCollapsibleButton)
    return sectionOf(panel, "RoutingSection")


def seriesOf(chart):
    """The series nodes of a chart node by their names, in order."""
    nodes = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    return {node.GetName(): node for node in nodes}


def values(series, column: str = ""):
    """The numbers of a column of a series, by default those on the vertical axis."""
    found = series.GetTableNode().GetTable().GetColumnByName(column or series.GetYColumnName())
    return [found.GetValue(row) for row in range(found.GetNumberOfTuples())]


def gatesShown(chart):
    """The mean gates of the bars in router order: layer by layer, in a layer expert by expert."""
    bars = [
        values(node) for node in seriesOf(chart).values() if node.GetPlotType() == node.PlotTypeScatterBar
    ]
    return [gate for layer in zip(*bars, strict=True) for gate in layer]


def drawn(view):
    """The names in the legend of a chart view of the panel."""
    chart = view.widget.plotView().chart()
    return [chart.GetPlot(number).GetLabel() for number in range(chart.GetNumberOfPlots())]


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
    assert chart.IsA("vtkMRMLPlotChartNode") and list(seriesOf(chart)) == ["Expert 1", "Expert 2", "SD"]
    assert chart.GetXAxisTitle().startswith("Layer") and chart.GetYAxisTitle() == "Mean gate"
    assert chart.GetTitle() == "Body"
    assert gatesShown(chart) == [row["mean_gate"] for row in routing.regions[""]]
    colors = {node.GetColor() for node in seriesOf(chart).values()}
    assert len(colors) == 3


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
    assert own.heatMap.layers()[0][0]["region"] == "Hot"
    assert own.bars.chartNode().GetTitle() == "Lesion Hot"
    assert panel._parameterNode.routingRegion == "Hot"
    once = nodeIDs(qtSlicer)
    ui.applyButton.click()  # again, into the same nodes; the region stays
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert nodeIDs(qtSlicer) == once and ui.regionComboBox.currentText == "Lesion Hot"


def test_nearest_center_and_warning_are_in_plain_words(panel, qtSlicer):
    from drmc.measures.routing_profiles import UNLIKE

    ui = panel.ui
    section(panel)
    shown(panel, qtSlicer, summaryOf(centers=("C1", "C2")))
    assert ui.nearestLabel.visible and ui.nearestLabel.text.startswith("Nearest training center: C1.")
    assert "C2 " in ui.nearestLabel.text and not ui.routingWarningLabel.visible
    assert section(panel).heatMap.centers() == ["C1", "C2"]
    shown(panel, qtSlicer, summaryOf(centers=("C1", "C2"), unlike=True))
    panel._parameterNode.Modified()
    assert ui.routingWarningLabel.visible and ui.routingWarningLabel.text == f"{UNLIKE}."
    shown(panel, qtSlicer, summaryOf(centers=("R2041-*",)))
    panel._parameterNode.Modified()
    assert ui.nearestLabel.text.startswith("Distance from the scanners of the training: R2041-* ")
    shown(panel, qtSlicer, summaryOf(centers=("North",)))
    panel._parameterNode.Modified()
    assert ui.nearestLabel.text.startswith("Nearest training center: North.")
    shown(panel, qtSlicer, summaryOf())
    panel._parameterNode.Modified()
    assert not ui.routingWarningLabel.visible and not ui.nearestLabel.visible


def test_the_chart_follows_the_region_and_goes_into_the_layout(panel, qtSlicer, monkeypatch):
    node = shown(panel, qtSlicer, summaryOf(lesions=("Hot", "Liver"), centers=("C1", "C2")))
    chart = node.GetNodeReference("DRMC.RoutingChart")
    experts = [f"Expert {number + 1}" for number in range(EXPERTS)]
    bars = section(panel).bars
    assert list(seriesOf(chart)) == drawn(bars) == [*experts, "SD", "Center C1"]
    panel.ui.regionComboBox.setCurrentIndex(2)
    assert list(seriesOf(chart)) == [*experts, "SD", "Body", "Center C1"] and set(drawn(bars)) == {
        *seriesOf(chart)
    }
    summary = summaryOf(lesions=("Hot", "Liver"), centers=("C1", "C2"))
    expected = [row["mean_gate"] for row in summary["routing_lesions"]["Liver"]]
    assert chart.GetTitle() == "Lesion Liver" and gatesShown(chart) == expected
    body = values(seriesOf(chart)["Body"])[::3]
    assert body == [row["mean_gate"] for row in summary["routing"]]
    center = values(seriesOf(chart)["Center C1"])[::3]
    assert center == np.ravel(summary["routing_nearest"]["means"]["C1"]).tolist()
    panel.ui.showChartButton.click()  # without a layout nothing happens
    asked = []
    manager = type("Manager", (), {"plotViewCount": 0})()
    monkeypatch.setattr(qtSlicer.app, "layoutManager", lambda: manager, raising=False)
    logic = type("Logic", (), {"ShowChartInLayout": lambda self, one: asked.append(one)})()
    monkeypatch.setattr(qtSlicer.modules, "plots", type("Module", (), {"logic": lambda self: logic})())
    panel.ui.showChartButton.click()
    assert asked == [chart]


def test_a_line_at_the_middle_of_each_bar_is_the_standard_deviation(panel, qtSlicer):
    summary = summaryOf()
    node = shown(panel, qtSlicer, summary)
    spread = seriesOf(node.GetNodeReference("DRMC.RoutingChart"))["SD"]
    lower, upper = (np.array(values(spread)[first::3]) for first in (0, 1))
    rows = summary["routing"]
    np.testing.assert_array_equal(upper, [row["mean_gate"] + row["sd_gate"] for row in rows])
    np.testing.assert_array_equal(lower, [max(0.0, row["mean_gate"] - row["sd_gate"]) for row in rows])
    assert np.isnan(values(spread)[2::3]).all()  # a gap between two lines
    places = np.array(values(spread, "Place")).reshape(LAYERS, EXPERTS, 3)
    np.testing.assert_array_equal(places[..., 0], places[..., 1])
    # vtkChartXY: the bars of a group take 0.8 of the distance between two groups, about the group's number
    thirds = 0.8 * (np.arange(EXPERTS) - 1) / EXPERTS
    np.testing.assert_allclose(places[..., 0], 1 + np.arange(LAYERS)[:, None] + thirds)


def test_the_chart_in_the_panel_goes_with_the_scene_and_leaves_no_node_of_its_own(panel, qtSlicer):
    own = section(panel)
    shown(panel, qtSlicer, summaryOf(centers=("C1",)))
    assert own.bars.widget.visible and own.bars.widget.mrmlScene() is qtSlicer.mrmlScene
    assert own.bars.widget.mrmlPlotViewNode() is not None
    assert qtSlicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotViewNode") == 0
    axis = own.bars.widget.plotView().chart().GetAxis(1)
    assert [axis.GetTickLabels().GetValue(i) for i in range(3)] == ["1", "2", "3"]
    qtSlicer.mrmlScene.Clear(0)
    assert not own.bars.widget.visible and own.bars.chartNode() is None and drawn(own.bars) == []
    shown(panel, qtSlicer, summaryOf())
    assert own.bars.widget.visible and "SD" in drawn(own.bars)


def test_another_number_of_experts_keeps_the_bars_in_order(panel, qtSlicer):
    """A plot view appends the plot of a series whose type changes: bars would stand at another's line."""
    from drmc.measures.routing import routing_table

    shown(panel, qtSlicer, summaryOf())
    five = routing_table(np.tile(np.linspace(0.1, 0.5, 5), (6, LAYERS, 1)))
    node = shown(panel, qtSlicer, {"routing": five, "routing_lesions": {}, "routing_nearest": None})
    assert drawn(section(panel).bars) == [*(f"Expert {number}" for number in range(1, 6)), "SD"]
    assert gatesShown(node.GetNodeReference("DRMC.RoutingChart")) == [row["mean_gate"] for row in five]
    assert qtSlicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 6


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

    section(panel)
    node = shown(panel, qtSlicer, summaryOf(centers=("C1", "C2"), unlike=True))
    panel.ui.regionComboBox.setCurrentIndex(1)
    before = readRouting(node)
    scene = qtSlicer.mrmlScene
    for one in (node, *(node.GetNthNodeReference("DRMC.RoutingChart", number) for number in (1, 2))):
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
def test_the_heat_map_paints_what_it_holds(panel, qtSlicer, width):
    heatMap = section(panel).heatMap
    heatMap.setFixedWidth(width)
    shown(panel, qtSlicer, summaryOf(centers=("C1", "C2")))
    qtSlicer.app.processEvents()
    before = pixels(heatMap)
    assert len(np.unique(before.reshape(-1, 4), axis=0)) > 12
    panel.ui.regionComboBox.setCurrentIndex(1)
    qtSlicer.app.processEvents()
    assert not np.array_equal(before, pixels(heatMap))
    assert heatMap.minimumHeight > 23 * LAYERS


def test_a_scan_of_air_and_a_lesion_without_tiles_are_shown_without_numbers(panel, qtSlicer):
    from drmc.measures.routing import routing_table

    nothing = routing_table(np.zeros((0, LAYERS, EXPERTS)))
    shown(panel, qtSlicer, {"routing": nothing, "routing_lesions": {"Far": nothing}, "routing_nearest": None})
    own = section(panel)
    panel.ui.regionComboBox.setCurrentIndex(1)
    qtSlicer.app.processEvents()
    assert own.heatMap.layers()[0][0]["mean_gate"] is None and pixels(own.heatMap).any()
    assert not own.bars.widget.visible
