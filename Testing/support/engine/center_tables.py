"""What a table of centers says of its values."""

from __future__ import annotations

import json
from pathlib import Path


def parameter_sources(path: Path) -> dict[str, dict[str, str]]:
    """Center -> parameter -> where its value is from."""
    described = json.loads(path.read_text(encoding="utf-8"))["centers"]
    return {
        name: {key: entry["source"] for key, entry in parameters.items() if key != "like"}
        for name, parameters in described.items()
    }
