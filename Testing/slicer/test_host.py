"""The stand-in itself: what a real Slicer does not have must fail here."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import host
import pytest
from support import REPOSITORY

pytestmark = pytest.mark.usefixtures("qtSlicer")


def test_properties_are_attributes_and_never_called():
    import qt

    button = qt.QPushButton("Apply")
    assert button.text == "Apply" and button.enabled is True
    with pytest.raises(TypeError):
        button.text()
    button.text = "Cancel"
    button.enabled = False
    assert button.text == "Cancel" and not button.isEnabled()


def test_settings_are_nobodys(qtSlicer):
    import qt

    settings = qt.QSettings()
    assert not settings.allKeys() and Path(tempfile.gettempdir()) in Path(settings.fileName()).parents


def test_what_is_not_there_raises():
    import ctk
    import qt
    import slicer

    button = qt.QPushButton()
    for owner, name in (
        (button, "noSuchThing"),
        (button, "setNoSuchThing"),
        (button.clicked, "emit"),
        (qt, "NoSuchClass"),
        (qt.QProcess, "noSuchValue"),
        (ctk, "ctkNoSuchWidget"),
        (slicer.app, "noSuchThing"),
    ):
        with pytest.raises(AttributeError):
            getattr(owner, name)
    with pytest.raises(AttributeError):
        button.answer = 42
    with pytest.raises(NotImplementedError):
        slicer.app.restart()


def test_a_plot_widget_has_what_slicers_has_and_nothing_else(qtSlicer):
    """A view node outside the scene is enough; the chart follows the nodes."""
    widget = qtSlicer.qMRMLPlotWidget()
    view = widget.plotView()
    for owner, name in (
        (widget, "setPlotChartNode"),
        (widget, "chart"),
        (view, "mrmlPlotViewNode"),
        (view, "setPlotChartNode"),
    ):
        with pytest.raises(AttributeError):
            getattr(owner, name)
    scene, node = qtSlicer.mrmlScene, qtSlicer.vtkMRMLPlotViewNode()
    table = scene.AddNewNodeByClass("vtkMRMLTableNode")
    for name in ("x", "y"):
        table.AddColumn().SetName(name)
    series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "y over x")
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    widget.setMRMLScene(scene)
    node.SetPlotChartNodeID(chart.GetID())
    widget.setMRMLPlotViewNode(node)
    assert view.chart().GetNumberOfPlots() == 0  # the series has no table yet
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    chart.Modified()
    assert view.chart().GetNumberOfPlots() == 1 and view.chart().GetPlot(0).GetLabel() == "y over x"
    scene.Clear(0)
    widget.setMRMLPlotViewNode(None)
    widget.setMRMLPlotViewNode(node)
    assert view.chart().GetNumberOfPlots() == 0 and widget.mrmlPlotViewNode() is node


def test_a_python_subclass_may_have_members_of_its_own():
    import qt

    class Bar(qt.QWidget):
        def __init__(self):
            super().__init__()
            self.answer = 42

        def ask(self):
            return self.answer, self.visible

    assert Bar().ask() == (42, False)


def test_connecting_by_signature_and_by_signal(capsys):
    import qt

    button, heard = qt.QPushButton(), []
    assert button.connect("clicked(bool)", lambda checked: heard.append(checked)) is True
    button.clicked.connect(lambda: heard.append("second"))
    button.click()
    assert heard == [False, "second"]
    assert button.connect("clicked(QString)", heard.append) is False
    assert "no signal clicked(QString)" in capsys.readouterr().out


def test_enumerations_are_numbers_and_classes_are_known():
    import qt

    process = qt.QProcess()
    assert process.state() == qt.QProcess.NotRunning == 0
    label = qt.QLabel()
    assert (
        isinstance(label, qt.QWidget) and not isinstance(label, qt.QPushButton) and type(label) is qt.QLabel
    )
    assert label.className() == "QLabel" and label.inherits("QWidget")


def test_the_list_is_a_part_of_what_was_read_in_slicer():
    whole = REPOSITORY.parent / "shared" / "reference" / "pythonqt-api.json"
    if not whole.is_file():
        pytest.skip(f"the whole reading is not here: {whole}")
    read = json.loads(whole.read_text())
    ours = json.loads((Path(host.__file__).parent / "pythonqt_api.json").read_text())
    for name, listed in ours["classes"].items():
        if name not in ours["read_later"] or name in read["classes"]:
            assert listed == read["classes"][name], name
    assert set(ours["slicer.util"]) == set(read["slicer.util"])


def test_the_truth_of_qt_objects_is_that_of_pythonqt():
    """An empty layout, icon or URL is false; a widget is true even when it is empty."""
    import qt

    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    assert widget and not layout and not widget.layout()
    layout.addWidget(qt.QLabel())
    assert layout and widget.layout()
    assert not qt.QIcon() and not qt.QUrl() and qt.QUrl("file:///tmp") and qt.QLabel() and qt.QTimer()


def test_truths_are_those_that_were_read_in_slicer():
    read = REPOSITORY.parent / "shared" / "reference" / "pythonqt-truth.json"
    if not read.is_file():
        pytest.skip(f"the reading is not here: {read}")
    ours = json.loads((Path(host.__file__).parent / "pythonqt_truth.json").read_text())
    assert ours == json.loads(read.read_text())


def test_an_empty_layout_is_no_member_of_the_ui(tmp_path):
    """slicer.util skips what is false: an empty layout is not found, its widget and a full layout are."""
    import slicer

    path = tmp_path / "one.ui"
    path.write_text(
        """<ui version="4.0"><widget class="QWidget" name="top"><layout class="QVBoxLayout" name="full">
        <item><widget class="QGroupBox" name="box"><layout class="QFormLayout" name="empty"/></widget></item>
        <item><layout class="QHBoxLayout" name="nested"/></item></layout></widget></ui>"""
    )
    ui = slicer.util.childWidgetVariables(slicer.util.loadUI(str(path)))
    assert {name for name in vars(ui) if name in ("full", "box", "empty", "nested")} == {"full", "box"}
    assert ui.box.layout() is not None and ui.box.layout().className() == "QFormLayout"
