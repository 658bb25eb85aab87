"""What the scene's nodes are watched by: observers that stay behind are a leak."""

from __future__ import annotations


def observers(slicer) -> int:
    """How many observers the scene and its nodes have; the count itself adds one to each of them."""
    scene = slicer.mrmlScene
    found = [scene, *(scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes()))]
    return sum(_observersOf(one) for one in found)


def _observersOf(one) -> int:
    """Counted by the tags: a new observer's tag is one more than the last that was ever given."""
    tags = [tag for tag in range(1, one.AddObserver("UserEvent", lambda *_: None)) if one.GetCommand(tag)]
    return len(tags)
