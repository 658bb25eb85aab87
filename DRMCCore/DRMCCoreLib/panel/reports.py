"""The report of a run as a text node, so that it is saved with the scene."""

from __future__ import annotations

from pathlib import Path

import slicer
from drmc.files import write_text
from slicer.i18n import tr as _

from DRMCCoreLib.nodes.names import fileName


def showReport(html: str, node, name: str):
    """Puts the page into `node` (a new text node of that name if None) and returns it."""
    if node is None:
        node = slicer.vtkMRMLTextNode()
        node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
        slicer.mrmlScene.AddNode(node)
    node.SetText(html)
    return node


def save(node, path: Path) -> None:
    """Writes the page, atomically; raises OSError."""
    write_text(path, node.GetText())


def savePDF(node, path: Path) -> None:
    """Writes the page as PDF; raises OSError."""
    from DRMCCoreLib.panel.printing import writePDF

    writePDF(node.GetText(), path)


def temporaryFile(node) -> Path:
    """The page as a file that lasts as long as Slicer runs."""
    path = Path(slicer.app.temporaryPath) / f"{fileName(node.GetName())}.html"
    save(node, path)
    return path


def askWhere(parent, node, *, isPDF: bool = False) -> str:
    """The path at which the user wants the page, or its PDF; empty if none."""
    import qt

    ending, kind = ("pdf", _("PDF (*.pdf)")) if isPDF else ("html", _("Page (*.html)"))
    found = qt.QFileDialog.getSaveFileName(
        parent, _("Save the report"), f"{fileName(node.GetName())}.{ending}", kind
    )
    return found or ""
