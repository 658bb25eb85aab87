"""Presets: settings of the panel that are the same for every scan, in the application's settings."""

from __future__ import annotations

import json
import logging
from typing import Any

GROUP = "DRMCDenoise/presets"
DEFAULTS = "Defaults"  # always there, never changed


def presetNames() -> list[str]:
    """The presets, the built-in one first."""
    return [DEFAULTS, *sorted(_stored(), key=str.casefold)]


def savePreset(name: str, values: dict[str, Any]) -> None:
    """Stores values (texts, numbers, booleans) under a name; raises ValueError for the built-in name."""
    if not name or name == DEFAULTS:
        raise ValueError(name)
    _store({**_stored(), name: values})


def removePreset(name: str) -> None:
    """Removes a preset; an unknown name is ignored."""
    _store({key: values for key, values in _stored().items() if key != name})


def presetValues(name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """The values of a preset; those of `defaults` where it has none, or one of another type."""
    stored = _stored().get(name, {})
    return {
        key: stored[key] if type(stored.get(key)) is type(default) else default
        for key, default in defaults.items()
    }


def _stored() -> dict[str, dict[str, Any]]:
    import qt

    text = qt.QSettings().value(GROUP)
    try:
        stored = json.loads(text) if text else {}
    except (TypeError, ValueError):
        logging.warning("DRMC: the presets in the settings cannot be read and are left out")
        stored = {}
    return {k: v for k, v in stored.items() if isinstance(v, dict)} if isinstance(stored, dict) else {}


def _store(presets: dict[str, dict[str, Any]]) -> None:
    import qt

    qt.QSettings().setValue(GROUP, json.dumps(presets))
