"""Presets: settings of a panel that are the same for every scan, in the application's settings.

Each module has its own: the name of a model, say, means nothing to another.
"""

from __future__ import annotations

import json
import logging
from typing import Any

DEFAULTS = "Defaults"  # always there, never changed


def groupOf(module: str) -> str:
    """The key of a module's presets in the settings."""
    return f"{module}/presets"


def presetNames(module: str) -> list[str]:
    """The presets of a module, the built-in one first."""
    return [DEFAULTS, *sorted(_stored(module), key=str.casefold)]


def savePreset(module: str, name: str, values: dict[str, Any]) -> None:
    """Stores values (texts, numbers, booleans) under a name; raises ValueError for the built-in name."""
    if not name or name == DEFAULTS:
        raise ValueError(name)
    _store(module, {**_stored(module), name: values})


def removePreset(module: str, name: str) -> None:
    """Removes a preset; an unknown name is ignored."""
    _store(module, {key: values for key, values in _stored(module).items() if key != name})


def presetValues(module: str, name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """The values of a preset; those of `defaults` where it has none, or one of another type."""
    stored = _stored(module).get(name, {})
    return {
        key: stored[key] if type(stored.get(key)) is type(default) else default
        for key, default in defaults.items()
    }


def _stored(module: str) -> dict[str, dict[str, Any]]:
    import qt

    text = qt.QSettings().value(groupOf(module))
    try:
        stored = json.loads(text) if text else {}
    except (TypeError, ValueError):
        logging.warning("DRMC: the presets in the settings cannot be read and are left out")
        stored = {}
    return {k: v for k, v in stored.items() if isinstance(v, dict)} if isinstance(stored, dict) else {}


def _store(module: str, presets: dict[str, dict[str, Any]]) -> None:
    import qt

    qt.QSettings().setValue(groupOf(module), json.dumps(presets))
