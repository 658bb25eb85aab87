"""`slicer.parameterNodeWrapper`: typed parameters in a MRML node, and their widgets.

Known types: str, int, float, bool, pathlib.Path and MRML node classes; validators Choice and WithinRange.
Widgets are matched by their exact class, as in Slicer.
"""

from __future__ import annotations

import typing
import weakref
from pathlib import Path

import slicer
import vtk

__all__ = ["Choice", "WithinRange", "parameterNodeWrapper"]
PROPERTY = "SlicerParameterName"


class Choice:
    """The value is one of `choices`."""

    def __init__(self, choices):
        self.choices = list(choices)

    def check(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


class WithinRange:
    """The value lies between `minimum` and `maximum`."""

    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def check(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value!r} is not within {self.minimum} and {self.maximum}")


class Parameter:
    """One parameter: how it is kept in the node, and which widget shows it."""

    def __init__(self, name: str, annotation, default):
        self.name = name
        self.type, *self.validators = (
            typing.get_args(annotation)
            if typing.get_origin(annotation) is typing.Annotated
            else (annotation,)
        )
        self.isNode = self.type not in (str, int, float, bool, Path)
        if self.isNode and not issubclass(self.type, slicer.vtkMRMLNode):
            raise TypeError(f"{name}: the stand-in does not know parameters of type {self.type}")
        self.default = None if self.isNode else self.type() if default is None else default

    def read(self, node):
        if not self.isIn(node):
            self.write(node, self.default)
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        return text == "True" if self.type is bool else self.type(text)

    def write(self, node, value) -> None:
        if self.isNode:
            if value is not None and not isinstance(value, self.type):
                raise ValueError(f"{self.name}: {value.GetClassName()} is no {self.type.__name__}")
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, None if value is None else value.GetID())
            return
        if not isinstance(value, self.type):
            raise ValueError(f"{self.name}: {value!r} is no {self.type.__name__}")
        for validator in self.validators:
            validator.check(value)
        node.SetParameter(self.name, str(value))

    def isIn(self, node) -> bool:
        return node.HasParameter(self.name)


class Kept:
    """The value of a parameter of one node, read again only when the node says that it was modified.

    So in Slicer: a node reference that was read while a scene is imported, when its node is not there yet,
    stays None.
    """

    def __init__(self, parameter: Parameter, node):
        self._parameter, self._node, self._isWriting = parameter, node, False
        self.value = parameter.read(node)
        this = weakref.ref(self)
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: this()._onModified())

    def __del__(self):
        self._node.RemoveObserver(self._tag)

    def write(self, value) -> None:
        self._isWriting = True
        try:
            with slicer.util.NodeModify(self._node):
                self._parameter.write(self._node, value)
                self.value = self._parameter.read(self._node)
        finally:
            self._isWriting = False

    def _onModified(self) -> None:
        if not self._isWriting:
            self.value = self._parameter.read(self._node)


class Binding:
    """A parameter and its widget."""

    def __init__(self, parameter: Parameter, widget, changed):
        import ctk
        import qt

        self.widget = widget
        kind = type(widget)
        choice = next((one for one in parameter.validators if isinstance(one, Choice)), None)
        if parameter.isNode and kind is slicer.qMRMLNodeComboBox:
            self.read, self.write, signal = (
                widget.currentNode,
                widget.setCurrentNode,
                widget.currentNodeChanged,
            )
        elif kind is qt.QComboBox and choice is not None:
            widget.clear()
            for one in choice.choices:
                widget.addItem(str(one))
            self.read = lambda: choice.choices[widget.currentIndex]
            self.write = lambda value: widget.setCurrentIndex(choice.choices.index(value))
            signal = widget.currentIndexChanged
        elif kind is qt.QSpinBox and parameter.type is int:
            for one in parameter.validators:
                widget.setRange(one.minimum, one.maximum)
            self.read, self.write, signal = lambda: widget.value, widget.setValue, widget.valueChanged
        elif kind in (qt.QDoubleSpinBox, ctk.ctkSliderWidget) and parameter.type is float:
            for one in parameter.validators:
                widget.minimum, widget.maximum = one.minimum, one.maximum
            self.read, self.write, signal = lambda: widget.value, widget.setValue, widget.valueChanged
        elif kind is qt.QCheckBox and parameter.type is bool:
            self.read, self.write, signal = widget.isChecked, widget.setChecked, widget.toggled
        elif kind is qt.QLineEdit and parameter.type is str:
            self.read, self.write, signal = lambda: widget.text, widget.setText, widget.textChanged
        elif kind is ctk.ctkPathLineEdit and parameter.type is Path:
            self.read = lambda: Path(widget.currentPath)
            self.write = lambda value: widget.setCurrentPath(str(value))
            signal = widget.currentPathChanged
        else:
            raise RuntimeError(f"{parameter.name}: no connector from {parameter.type} to {kind.__name__}")
        self._signal, self._slot = signal, lambda *_: changed()
        self._signal.connect(self._slot)

    def disconnect(self) -> None:
        self._signal.disconnect(self._slot)


def parameterNodeWrapper(classtype):
    """Decorator: a class with annotated parameters becomes a view of a vtkMRMLScriptedModuleNode."""
    annotations = typing.get_type_hints(classtype, include_extras=True)
    parameters = {
        name: Parameter(name, one, getattr(classtype, name, None)) for name, one in annotations.items()
    }
    for name in parameters:
        setattr(
            classtype,
            name,
            property(
                lambda self, name=name: self._kept[name].value,
                lambda self, value, name=name: self._kept[name].write(value),
            ),
        )

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode
        self._guis, self._isUpdating = {}, False
        for parameter in parameters.values():
            if not parameter.isIn(parameterNode):
                parameter.write(parameterNode, parameter.default)
        self._kept = {name: Kept(one, parameterNode) for name, one in parameters.items()}

    def connectGui(self, gui) -> int:
        bindings = {}
        for widget in vars(gui).values():
            name = widget.property(PROPERTY)
            if name:
                bindings[name] = Binding(
                    parameters[name], widget, lambda name=name: _fromGui(self, bindings, name)
                )
                self._isUpdating = True
                try:
                    bindings[name].write(getattr(self, name))
                finally:
                    self._isUpdating = False
        tag = len(self._guis)
        observation = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _toGui(self, bindings))
        self._guis[tag] = bindings, observation
        return tag

    def disconnectGui(self, tag) -> None:
        bindings, observation = self._guis.pop(tag, ({}, None))
        for binding in bindings.values():
            binding.disconnect()
        if observation is not None:
            self.RemoveObserver(observation)

    classtype.__init__ = __init__
    classtype.connectGui = connectGui
    classtype.disconnectGui = disconnectGui
    classtype.AddObserver = lambda self, event, slot, priority=0.0: self.parameterNode.AddObserver(
        event, slot, priority
    )
    classtype.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    classtype.StartModify = lambda self: self.parameterNode.StartModify()
    classtype.EndModify = lambda self, before: self.parameterNode.EndModify(before)
    classtype.Modified = lambda self: self.parameterNode.Modified()
    return classtype


def _fromGui(wrapper, bindings, name: str) -> None:
    with slicer.util.NodeModify(wrapper):
        if not wrapper._isUpdating:
            setattr(wrapper, name, bindings[name].read())


def _toGui(wrapper, bindings) -> None:
    if wrapper._isUpdating:
        return
    wrapper._isUpdating = True
    try:
        with slicer.util.NodeModify(wrapper):
            for name, binding in bindings.items():
                binding.write(getattr(wrapper, name))
    finally:
        wrapper._isUpdating = False
