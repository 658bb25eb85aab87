"""Nodes' names outside the scene."""

from __future__ import annotations

import re


def fileName(name: str) -> str:
    """A node's name as a file name on any system."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(". ")[:100] or "volume"
