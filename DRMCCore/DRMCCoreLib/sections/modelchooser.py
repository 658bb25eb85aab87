"""The combo box of the installed models: its text is a model's title, its data the name, "" the default."""

from __future__ import annotations

from drmc.models.card import DENOISE
from drmc.models.registry import list_models
from slicer.i18n import tr as _


def fillModels(combo, task: str = DENOISE) -> list:
    """Lists the models of a task that are installed now; the caller then shows the choice again."""
    models = [entry for entry in list_models() if entry.task == task]
    wasBlocked = combo.blockSignals(True)
    combo.clear()
    combo.addItem(_("default") if models else _("none is installed"), "")
    for entry in models:
        combo.addItem(str(entry.card.get("title") or entry.name), entry.name)
    combo.blockSignals(wasBlocked)
    return models


def showModel(combo, name: str) -> None:
    """Shows the model of that name, also one that is not installed; this is no choice of the user's."""
    wasBlocked = combo.blockSignals(True)
    index = combo.findData(name)
    if index < 0:
        combo.addItem(_("{name} (not installed)").format(name=name), name)
        index = combo.findData(name)
    combo.setCurrentIndex(index)
    combo.blockSignals(wasBlocked)


def chosenModel(combo) -> str:
    """The name of the model that is shown."""
    return str(combo.itemData(combo.currentIndex) or "") if combo.currentIndex >= 0 else ""
