"""Volumes that are frames of a sequence, such as a dynamic or gated PET."""

from __future__ import annotations

import slicer


def browserOf(volumeNode):
    """The sequence browser that shows its present frame in this volume node; None without one."""
    module = getattr(slicer.modules, "sequences", None)
    if volumeNode is None or module is None:
        return None
    return module.logic().GetFirstBrowserNodeForProxyNode(volumeNode)


def sequenceOf(volumeNode):
    """The sequence of which this volume node shows a frame; None without one, or with only one frame."""
    browser = browserOf(volumeNode)
    sequence = None if browser is None else browser.GetSequenceNode(volumeNode)
    return sequence if sequence is not None and sequence.GetNumberOfDataNodes() > 1 else None
