"""Rules of PythonQt for the modules' sources: a Qt object has no truth of its own, a layout no name."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree
from pathlib import Path

import pytest
from support import REPOSITORY
from support.slicer.modules import SLICER_FACING

# A name that is one of these or ends in one is a Qt object; `ui.label.text` or `combo.count` is not.
NOUNS = (
    "widget layout button label menu icon pixmap timer edit combo comboBox slider "
    "spinBox selector action font color dialog "
    "box view bar process url rect size"
).split()
QT_NAME = re.compile(rf"^_*({'|'.join(NOUNS)})$|({'|'.join(noun[0].upper() + noun[1:] for noun in NOUNS)})$")
UI_FILES = sorted(
    path
    for module in ("DRMCDenoise", "DRMCSegment", "DRMCTraining")
    for path in (REPOSITORY / module).rglob("*.ui")
)


def layoutNames(paths: list[Path]) -> set[str]:
    """The object names of all layouts in .ui files."""
    return {
        layout.get("name") for path in paths for layout in xml.etree.ElementTree.parse(path).iter("layout")
    }


def asked(tree: ast.AST) -> list[ast.expr]:
    """Every expression of which Python asks the truth."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)):
            found.append(node.test)
        elif isinstance(node, ast.BoolOp):
            found += node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            found.append(node.operand)
        elif isinstance(node, ast.comprehension):
            found += node.ifs
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "bool":
            found += node.args
    return [one for one in found if not isinstance(one, (ast.BoolOp, ast.UnaryOp, ast.Compare))]


def isQtObject(expression: ast.expr) -> bool:
    """Whether an expression gives a Qt object, by its last name."""
    if isinstance(expression, ast.NamedExpr):
        return isQtObject(expression.target) or isQtObject(expression.value)
    if isinstance(expression, ast.Call):
        function = expression.func
        made = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
        if made and function.value.id in ("qt", "ctk"):
            return True
        return isinstance(function, ast.Attribute) and function.attr in ("layout", "parent", "findChild")
    if isinstance(expression, ast.Attribute):
        isOfUi = isinstance(expression.value, (ast.Attribute, ast.Name)) and (
            getattr(expression.value, "attr", None) or getattr(expression.value, "id", None)
        ) in ("ui", "_ui")
        return isOfUi or QT_NAME.search(expression.attr) is not None
    return isinstance(expression, ast.Name) and QT_NAME.search(expression.id) is not None


def faults(source: str, layouts: set[str]) -> list[str]:
    """Where a source uses the truth of a Qt object or a layout by its name: line and expression."""
    tree = ast.parse(source)
    found = [one for one in asked(tree) if isQtObject(one)]
    found += [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in layouts]
    return [f"{one.lineno}: {ast.unparse(one)}" for one in sorted(found, key=lambda one: one.lineno)]


@pytest.mark.parametrize("path", SLICER_FACING, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_source_asks_a_qt_object_for_its_truth_or_takes_a_layout_by_name(path):
    """In PythonQt an empty layout, menu or icon is false, and `ui` has no layout that was empty at first."""
    assert faults(path.read_text(encoding="utf-8"), layoutNames(UI_FILES)) == [], (
        "compare Qt objects with `is not None`; take a layout from its widget: ui.box.layout()"
    )


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("self.ui.curvesLayout.addWidget(one)", 1),
        ("if self.ui.applyButton: pass", 1),
        ("x = a if widget else b", 1),
        ("while not self._menu and ready: pass", 1),
        ("[one for one in all if one.layout()]", 1),
        ("if qt.QIcon(path): pass", 1),
        ("found = bool(self._statusLabel)", 1),
        ("if self.ui.applyButton.enabled and self._timer is not None: pass", 0),
        ("self.ui.curvesView.layout().addWidget(one)", 0),
    ],
)
def test_the_check_finds_what_it_is_for(source, count):
    assert len(faults(source, {"curvesLayout"})) == count
