"""Which of the scene's parameter sets is shown, and presets."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from DRMCCoreLib.panel.presets import DEFAULTS, presetNames, presetValues, removePreset, savePreset
from DRMCCoreLib.panel.section import RESOURCES, Section


class ParameterSection(Section):
    """The choice of a parameter node of this module, and of named settings that are taken over into it."""

    advancedUiName = "DRMCCoreParameters"
    resources = RESOURCES
    _isShowing = False

    def setup(self) -> None:
        selector = self.ui.parameterSetSelector
        selector.addAttribute("vtkMRMLScriptedModuleNode", "ModuleName", self.panel.moduleName)
        selector.setNodeTypeLabel(_("parameter set"), "vtkMRMLScriptedModuleNode")
        selector.currentNodeChanged.connect(self.onParameterSetChosen)
        self.ui.presetComboBox.activated.connect(self.onPresetChosen)
        self.ui.presetComboBox.editTextChanged.connect(self._updateButtons)
        self.ui.savePresetButton.clicked.connect(self.onSavePresetButton)
        self.ui.removePresetButton.clicked.connect(self.onRemovePresetButton)
        self._listPresets(DEFAULTS)

    def onParametersChanged(self) -> None:
        self._isShowing = True
        try:
            self.ui.parameterSetSelector.setCurrentNode(self.parameters.parameterNode)
        finally:
            self._isShowing = False

    def onParameterSetChosen(self, node) -> None:
        """The user has chosen, made or removed a parameter set."""
        shown = self.parameters.parameterNode if self.parameters is not None else None
        if self._isShowing or shown is None or node is shown:
            return
        if node is None and slicer.mrmlScene.IsNodePresent(shown):
            return  # the list is being filled again
        self.panel.showParameterNode(node)

    def onPresetChosen(self, index: int) -> None:
        """The user has chosen a preset: its settings are applied, nodes and settings of a scan stay."""
        name = self.ui.presetComboBox.itemText(index)
        values = presetValues(self.panel.moduleName, name, self.panel.logic.presetDefaults())
        with slicer.util.NodeModify(self.parameters.parameterNode):
            for name, value in values.items():
                setattr(self.parameters, name, value)

    def onSavePresetButton(self) -> None:
        """Saves the present settings under the name that is in the box."""
        name = self.ui.presetComboBox.currentText.strip()
        values = {key: getattr(self.parameters, key) for key in self.panel.logic.presetDefaults()}
        savePreset(self.panel.moduleName, name, values)
        self._listPresets(name)

    def onRemovePresetButton(self) -> None:
        """Forgets the preset whose name is in the box."""
        removePreset(self.panel.moduleName, self.ui.presetComboBox.currentText.strip())
        self._listPresets(DEFAULTS)

    def _listPresets(self, name: str) -> None:
        combo = self.ui.presetComboBox
        wasBlocked = combo.blockSignals(True)
        combo.clear()
        combo.addItems(presetNames(self.panel.moduleName))
        combo.setCurrentIndex(combo.findText(name))
        combo.blockSignals(wasBlocked)
        self._updateButtons()

    def _updateButtons(self) -> None:
        name = self.ui.presetComboBox.currentText.strip()
        isOwn = name not in ("", DEFAULTS)
        self.ui.savePresetButton.setEnabled(isOwn)
        self.ui.savePresetButton.setToolTip(
            _("Keep the present settings as '{name}'.").format(name=name)
            if isOwn
            else _("Type a name to save the present settings under it.")
        )
        self.ui.removePresetButton.setEnabled(isOwn and name in presetNames(self.panel.moduleName))
        self.ui.removePresetButton.setToolTip(_("Forget this preset."))
