"""The layouts of this module, for Slicer to know before a scene comes that was saved in one of them."""

from __future__ import annotations

from DRMCDenoiseLib import comparelayout, readinglayout, viewstate


def registerLayouts() -> None:
    """Describes the layouts to Slicer; nothing without main window.

    Slicer shows no view at all where a scene names a layout that nobody has described.
    """
    node = viewstate.layoutNode()
    for layout in (comparelayout, readinglayout) if node is not None else ():
        layout.describeTo(node)
        if node.GetViewArrangement() == layout.LAYOUT:  # such a scene is there already
            node.SetViewArrangement(layout.LAYOUT)
