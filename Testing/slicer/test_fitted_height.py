"""In the scroll area of Slicer's module panel no widget is too low, and nothing overlaps."""

from __future__ import annotations

import random
import sys

import host
import pytest
from support.slicer.modules import sectionOf
from support.slicer.routing import shown, summaryOf

pytestmark = pytest.mark.usefixtures("model")
DEFAULT_WIDTH = 415  # pixels, of Slicer's module panel


@pytest.fixture
def scrolled(qtSlicer):
    """Puts a panel into a scroll area as Slicer does; returns the widgets that are too low or overlap."""
    from PySide6 import QtCore, QtWidgets

    area = QtWidgets.QScrollArea()
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    contents = QtWidgets.QWidget()
    layout = QtWidgets.QVBoxLayout(contents)
    layout.setSizeConstraint(QtWidgets.QLayout.SizeConstraint.SetMinAndMaxSize)
    layout.setContentsMargins(0, 0, 0, 0)
    area.setWidget(contents)

    def isFolded(one) -> bool:
        while one is not None and one is not contents:
            if QtCore.QObject.property(one, "collapsed"):
                return True
            one = QtWidgets.QWidget.parentWidget(one)
        return False

    def least(one) -> int:
        """The least height by which a widget can be read; what scrolls itself can be lower."""
        if isinstance(one, (QtWidgets.QAbstractScrollArea, QtWidgets.QLineEdit)) or isFolded(one):
            return 0
        return QtWidgets.QWidget.minimumSizeHint(one).height()

    def faults(panel, width: int) -> list[str]:
        if layout.count() == 0:
            layout.insertWidget(0, panel.parent, 1)
            QtWidgets.QWidget.layout(panel.parent).setContentsMargins(0, 0, 0, 0)
            policy = QtWidgets.QWidget.sizePolicy(panel.parent).verticalPolicy()
            QtWidgets.QWidget.setSizePolicy(panel.parent, QtWidgets.QSizePolicy.Policy.Minimum, policy)
            QtWidgets.QWidget.setVisible(panel.parent, True)
        area.resize(width, 700)
        area.show()
        for _ in range(10):
            qtSlicer.app.processEvents()
        found = []
        for one in QtCore.QObject.findChildren(panel.parent, QtWidgets.QWidget):
            isShown = QtWidgets.QWidget.isVisible(one) and QtWidgets.QWidget.height(one) > 0
            if not isShown or QtWidgets.QWidget.parentWidget(one).layout() is None:
                continue
            name, height = QtCore.QObject.objectName(one), QtWidgets.QWidget.height(one)
            needed = max(QtWidgets.QWidget.minimumHeight(one), least(one))
            if isinstance(one, QtWidgets.QLabel) and QtWidgets.QLabel.wordWrap(one):
                needed = QtWidgets.QLabel.heightForWidth(one, QtWidgets.QWidget.width(one))
            if height < needed:
                found.append(f"{name}: {height} of {needed}")
        return found

    def leave(panel) -> None:
        """Another module is opened: the panel is taken out of the scroll area until `faults` puts it back."""
        layout.takeAt(0)
        QtWidgets.QWidget.setVisible(panel.parent, False)
        QtWidgets.QWidget.setParent(panel.parent, None)
        for _ in range(10):
            qtSlicer.app.processEvents()

    faults.leave = leave
    yield faults
    layout.takeAt(0)
    area.deleteLater()


@pytest.mark.parametrize("seed", range(3))
def test_the_panel_of_denoise(panel, qtSlicer, scrolled, seed):
    """Whatever is folded, said, shown and resized, in any order."""
    shown(panel, qtSlicer, summaryOf(centers=("C1", "C2", "C3", "C4"), unlike=True))
    ui, chance = panel.ui, random.Random(seed)
    folds = [getattr(ui, name) for name in vars(ui) if name.endswith("CollapsibleButton")]
    assert len(folds) == 15

    def fold() -> None:
        one = chance.choice(folds)
        one.setProperty("collapsed", not one.property("collapsed"))

    steps = {
        "fold": fold,
        "unfold": fold,
        "a status": lambda: ui.statusLabel.setText("word " * chance.randrange(100)),
        "a reason": lambda: ui.suvLabel.setText("x " * chance.randrange(200)),
        "a message": lambda: sectionOf(panel, "LesionSection")._say("said " * chance.randrange(30)),
        "leave": lambda: scrolled.leave(panel),
        "a region": lambda: ui.regionComboBox.setCurrentIndex(chance.randrange(2)),
    }
    width = DEFAULT_WIDTH
    for number in range(40):
        name = chance.choice([*steps, "a width"])
        if name == "a width":
            width = chance.randrange(330, 640)
        else:
            steps[name]()
        assert scrolled(panel, width) == [], f"step {number}: {name}"


def test_the_panel_of_training(qtSlicer, scrolled):
    widget = host.openWidget(sys.modules["DRMCTraining"], "DRMCTraining")
    widget.ui.checksLabel.setText("a check that says much, " * 30)
    widget.ui.validationLabel.setText("a validation of many centers, " * 20)
    assert scrolled(widget, DEFAULT_WIDTH) == []
    host.closeWidget(widget)
