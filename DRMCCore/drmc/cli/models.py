"""The command `drmc models`: what is installed, where it is from and what it was trained on."""

from __future__ import annotations

import argparse
from typing import Any

from drmc.cli.arguments import add_json
from drmc.cli.printing import printed
from drmc.runtime.progress import Reporter
from drmc.texts import shown

EXAMPLES = "  drmc models\n  drmc models --add mine.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "--add",
        metavar="FILE",
        help="check a weight file (.pt) and copy it with its card into the user's folder",
    )
    add_json(parser)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Lists the models, or adds one, and returns the exit code."""
    from drmc.models.registry import add_model, list_models, model_folders

    added = None if options.add is None else add_model(options.add)
    entries = list_models()
    listed = {
        "folders": [str(folder) for folder in model_folders()],
        "models": [_model(e) for e in entries],
        "added": None if added is None else _model(added),
    }
    if printed(options, reporter, listed):
        return 0
    if added is not None:
        print(f"{added.path}: added")
        return 0
    if not entries:
        folders = ", ".join(str(folder) for folder in model_folders())
        print(f"no model installed; weight files (NAME.pt with NAME.json) are looked for in {folders}")
    for entry in entries:
        found = _model(entry)
        print(
            found["name"]
            + (f": {found['title']}" if found["title"] else "")
            + ("  (default)" if found["default"] else "")
        )
        print(f"  file: {found['path']}")
        print(f"  sha256: {found['sha256']}")
        for key in ("problem", "kind", "parameters", "tile", "training", "license", "intended_use"):
            if found[key] is not None:
                print(f"  {key.replace('_', ' ')}: {shown(_plain(found[key]))}")
    return 0


def _model(entry: Any) -> dict[str, Any]:
    card = entry.card or {}
    keys = (
        "title",
        "parameters",
        "tile",
        "kind",
        "config",
        "training",
        "evaluation",
        "license",
        "intended_use",
        "command",
        "problem",
    )
    found = {key: card.get(key) for key in keys}
    return {
        "name": entry.name,
        "path": str(entry.path),
        "sha256": entry.sha256,
        "default": bool(card.get("default")),
        **found,
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return str(value)
