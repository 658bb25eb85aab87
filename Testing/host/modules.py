"""Slicer's Python modules that are not in the slicer-core wheel, as far as our modules rely on them."""

from __future__ import annotations

import unittest
from pathlib import Path
from types import ModuleType

import slicer

from . import parameters


class ScriptedLoadableModule:
    """Base of a module's class."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        for key, value in (("title", ""), ("categories", []), ("dependencies", []), ("contributors", [])):
            setattr(parent, key, value)
        parent.helpText = parent.acknowledgementText = ""

    def resourcePath(self, name: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / name)


class ScriptedLoadableModuleWidget:
    """Base of a module's panel."""

    def __init__(self, parent):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout()

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def onReload(self) -> None:
        pass

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)


class ScriptedLoadableModuleLogic:
    """Base of a module's logic: finds or makes the module's parameter node in the scene."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        scene, className = slicer.mrmlScene, "vtkMRMLScriptedModuleNode"
        if self.isSingletonParameterNode:
            node = scene.GetSingletonNode(self.moduleName, className)
        else:
            nodes = slicer.util.getNodesByClass(className)
            node = next((one for one in nodes if one.GetAttribute("ModuleName") == self.moduleName), None)
        if node is None:
            node = scene.CreateNodeByClass(className)
            node.UnRegister(None)
            if self.isSingletonParameterNode:
                node.SetSingletonTag(self.moduleName)
            node.SetName(scene.GenerateUniqueName(self.moduleName))
            node.SetAttribute("ModuleName", self.moduleName)
            node = scene.AddNode(node)
        elif node.GetAttribute("ModuleName") != self.moduleName:  # closing a scene resets its singletons
            node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's own tests."""

    def runTest(self) -> None:
        pass

    def delayDisplay(self, message: str, *_, **__) -> None:
        print(message)


def slicerModules() -> dict[str, ModuleType]:
    """The modules below `slicer`, by name."""
    module = ModuleType("slicer.ScriptedLoadableModule")
    for one in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(module, one.__name__, one)
    module.__all__ = [name for name in vars(module) if name.startswith("Scripted")]
    i18n = ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    wrapper = ModuleType("slicer.parameterNodeWrapper")
    for name in parameters.__all__:
        setattr(wrapper, name, getattr(parameters, name))
    wrapper.__all__ = list(parameters.__all__)
    return {"ScriptedLoadableModule": module, "i18n": i18n, "parameterNodeWrapper": wrapper}
