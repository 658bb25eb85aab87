"""Preset, network and strategy in the panel: when to choose what their combo boxes offer."""

from __future__ import annotations

from html import escape

import qt
from drmc.training.choices import NETWORKS, PRESETS, STRATEGIES
from slicer.i18n import tr as _

from DRMCTrainingLib.traininglogic import AS_IN_PRESET

_SENTENCES = {"preset": PRESETS, "network": NETWORKS, "strategy": STRATEGIES}


class ChoicesView:
    """The engine's sentences, as tool tips of all items and in one label for what is chosen."""

    def __init__(self, ui):
        self._ui = ui

    def showToolTips(self) -> None:
        """Gives each item its sentence; connecting a parameter node lists the items anew, without."""
        for name, sentences in _SENTENCES.items():
            combo = getattr(self._ui, f"{name}ComboBox")
            for index in range(combo.count):
                text = combo.itemText(index)
                tip = _("What the preset says.") if text == AS_IN_PRESET else sentences[text]
                combo.setItemData(index, tip, qt.Qt.ToolTipRole)

    def show(self, parameters) -> None:
        """Shows when to choose what the parameter node has."""
        chosen = [(getattr(parameters, name), sentences) for name, sentences in _SENTENCES.items()]
        lines = [f"<b>{escape(one)}</b>: {escape(said[one])}" for one, said in chosen if one != AS_IN_PRESET]
        self._ui.choicesLabel.setText("<br>".join(lines))
