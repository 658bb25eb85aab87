"""With which weights, and where, a volume is denoised."""

from __future__ import annotations

import importlib.util
from typing import Any

from drmc.models import user_folder
from slicer.i18n import tr as _

from .modelchooser import chosenModel, fillModels, showModel
from .section import Section


class ModelSection(Section):
    """The model and the device."""

    uiName = "DRMCDenoiseModel"
    _hasModels = False

    def setup(self) -> None:
        self.enter()
        self.ui.modelComboBox.currentIndexChanged.connect(self.onModelChosen)

    def enter(self) -> None:
        self._hasModels = fillModels(self.ui.modelComboBox)

    def onModelChosen(self) -> None:
        """The user has chosen a model."""
        if self.parameters is not None:
            self.parameters.model = chosenModel(self.ui.modelComboBox)

    def onParametersChanged(self) -> None:
        showModel(self.ui.modelComboBox, self.parameters.model)

    def whyNotApply(self) -> str:
        if importlib.util.find_spec("torch") is None:
            return _(
                "PyTorch is missing: install the extension PyTorch, then PyTorch in its module PyTorch Utils"
            )
        if not self._hasModels:
            return _("No model is installed: put a weight file with its card into {folder}").format(
                folder=user_folder()
            )
        return ""

    def runArguments(self) -> dict[str, Any]:
        return {"model": self.parameters.model or None, "device": self.parameters.device}
