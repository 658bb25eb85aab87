"""PythonQt's view of Qt over PySide6: the module `qt`, and the base of the stand-in's own widgets.

A class of this module offers the members that pythonqt_api.json lists for it, as a property (an attribute,
never called), a method or a signal, and raises AttributeError for any other. Objects that Qt made itself come
back wrapped in a `Wrapper` that obeys the same list.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
import xml.etree.ElementTree
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from .core import API, Members, members, refuse

if sys.version_info < (3, 12):
    # PySide6 6.12 gives these away without counting them, which is right only where they are immortal: after
    # some thousand calls an older Python ends with "deallocating None". The count is the first field of an
    # object in CPython.
    for one in (None, True, False):
        ctypes.c_ssize_t.from_address(id(one)).value += 2**40

NATIVE_MODULES = (QtCore, QtGui, QtWidgets)
# Slicer's own Python files and its script repository use these; they are no part of the reading.
UNLISTED = {
    "QEvent": QtCore.QEvent,
    "Qt": QtCore.Qt,
    "QApplication": QtWidgets.QApplication,
    "QLocale": QtCore.QLocale,
    "QCursor": QtGui.QCursor,
}

# A method of the stand-in's own widgets overrides Qt's only if PySide finds the method itself.
_ASKED_BY_PYSIDE = {"connectNotify", "disconnectNotify", "paintEvent", "mousePressEvent"} | {
    "closeEditor",
    "columnCountChanged",
    "columnMoved",
    "columnResized",
    "commitData",
    "currentChanged",
    "dataChanged",
    "editorDestroyed",
    "horizontalScrollbarAction",
    "horizontalScrollbarValueChanged",
    "isIndexHidden",
    "itemDelegateForIndex",
    "rowCountChanged",
    "rowMoved",
    "rowResized",
    "rowsAboutToBeRemoved",
    "rowsInserted",
    "selectionChanged",
    "updateEditorData",
    "updateEditorGeometries",
    "updateGeometries",
    "verticalScrollbarAction",
    "verticalScrollbarValueChanged",
    "initViewItemOption",
    "paintSection",
}  # fmt: skip  (the second part: of item views)


class Connection:
    """A signal of an object: connect and disconnect only, as PythonQt has it.

    PySide does not keep the object of a method that is connected. PythonQt does, as long as there is the
    object that emits, and no garbage collector sees it (`PythonQtSignalTarget`): `kept` is what it keeps.
    """

    def __init__(self, native, kept: list[Any] | None = None):
        self._native, self._kept = native, kept

    def connect(self, slot) -> bool:
        self._native.connect(slot)
        if self._kept is not None:
            self._kept.append(slot)
        return True

    def disconnect(self, slot) -> bool:
        if self._kept is not None and slot in self._kept:
            self._kept.remove(slot)
        return bool(self._native.disconnect(slot))


_KEPT: dict[int, list[Any]] = {}  # address of a process -> what is connected to its signals


def _keptBy(native, nativeMember) -> list[Any] | None:
    """What an object keeps by its signals; None but for processes: panels would outlive their tests."""
    if not isinstance(native, QtCore.QProcess):
        return None
    (address,) = shiboken6.getCppPointer(native)
    if address not in _KEPT:
        _KEPT[address] = []
        nativeMember("destroyed").connect(lambda *_: _KEPT.pop(address, None))
    return _KEPT[address]


def readMember(native, nativeMember, listed: Members, name: str) -> Any:
    """The member `name` of a native object as in PythonQt; `nativeMember` bypasses the stand-in's rules."""
    if name == "name" and "objectName" in listed.properties:
        return nativeMember("objectName")()
    if name in listed.properties:
        return wrap(_property(native, nativeMember, name))
    if name in listed.signals:
        return Connection(nativeMember(name), _keptBy(native, nativeMember))
    if name in ("connect", "disconnect") and name in listed.methods:
        return lambda signature, slot: _connectBySignature(
            native, nativeMember, listed, name, signature, slot
        )
    if name == "className" and name in listed.methods:
        return lambda: listed.name.rpartition(".")[2]
    if name in listed.methods:
        method = nativeMember(name)
        return lambda *arguments: wrap(method(*map(unwrap, arguments)))
    if name in listed.values:
        return wrap(nativeMember(name))
    raise refuse(listed.name, name)


def writeMember(nativeMember, listed: Members, name: str, value: Any) -> None:
    """Sets a property."""
    if name == "name" and "objectName" in listed.properties:
        name = "objectName"
    if name not in listed.properties:
        raise refuse(listed.name, name)
    try:
        setter = nativeMember("set" + name[0].upper() + name[1:])
    except AttributeError:
        nativeMember("setProperty")(name, unwrap(value))
    else:
        setter(unwrap(value))


TRUTH = json.loads((Path(__file__).parent / "pythonqt_truth.json").read_text(encoding="utf-8"))["classes"]


def truth(native) -> bool:
    """The truth value of a Qt object in PythonQt (pythonqt_truth.json): an empty layout, say, is false.

    An object that Qt has deleted is false too.
    """
    if not shiboken6.isValid(native):
        return False
    for ancestor in type(native).__mro__:
        if ancestor.__name__ in TRUTH and ancestor.__module__.startswith("PySide6"):
            when, _, question = TRUTH[ancestor.__name__].rpartition(" ")
            answer = getattr(ancestor, question.removesuffix("()"))(native)
            return bool(answer) is (when == "true if")
    return True


# Qt computes these in virtual methods, whose Python overrides PySide looks for by the property's own name.
_VIRTUAL = {"sizeHint", "minimumSizeHint"}


def _property(native, nativeMember, name: str) -> Any:
    if name not in _VIRTUAL and nativeMember("metaObject")().indexOfProperty(name) >= 0:
        return nativeMember("property")(name)
    for getter in (name, "is" + name[0].upper() + name[1:]):
        try:
            return nativeMember(getter)()
        except AttributeError:
            continue
    raise NotImplementedError(f"the stand-in does not have the property {name} of {native!r}")


def _connectBySignature(native, nativeMember, listed: Members, verb: str, signature: str, slot) -> bool:
    name, _, _ = signature.partition("(")
    known = nativeMember("metaObject")().indexOfSignal(_normalized(signature)) >= 0
    # The signals of the stand-in's own widgets carry Python objects: only their names can be checked.
    ours = not type(native).__dict__.get("_native", QtCore.QObject).__module__.startswith("PySide6")
    if name not in listed.signals or not (known or ours):
        print(f"{listed.name}.{verb}: there is no signal {signature}")
        return False
    getattr(nativeMember(name), verb)(slot)
    return True


def _normalized(signature: str) -> str:
    return QtCore.QMetaObject.normalizedSignature(signature).data().decode()


class _Type(type(QtCore.QObject)):
    """Makes isinstance(button, qt.QWidget) true, although each class derives from its own Qt class only."""

    def __instancecheck__(cls, one) -> bool:
        native = cls.__dict__.get("_native")
        if native is None:
            return super().__instancecheck__(one)
        return isinstance(one._wrapped if isinstance(one, Wrapper) else one, native)

    def __getattribute__(cls, name: str):
        listed = type.__getattribute__(cls, "__dict__").get("_offered")
        if listed is None or name.startswith("_"):
            return super().__getattribute__(name)
        if name in listed.methods | listed.values or name in type.__getattribute__(cls, "__dict__"):
            value = super().__getattribute__(name)
            return (lambda *a: wrap(value(*map(unwrap, a)))) if isinstance(value, type(len)) else wrap(value)
        raise refuse(listed.name, name)


class PythonQtObject:
    """Base of every class of `qt`: member access by the list; Python subclasses may add members."""

    _offered: Members

    def __bool__(self) -> bool:
        return truth(self)

    def __getattribute__(self, name: str):
        get = super().__getattribute__
        if name.startswith("_") or name in _ASKED_BY_PYSIDE or _isOwn(self, name):
            return get(name)
        return readMember(self, get, get("_offered"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        get = super().__getattribute__
        listed = get("_offered")
        if _isOwn(self, name) or name.startswith("_"):
            super().__setattr__(name, value)
        elif name not in listed.properties and _NativeLoader.isLoading:
            pass  # PySide6's loader gives the top widget an attribute for each child; PythonQt's does not
        elif name in listed.properties or name == "name" or "_native" in type(self).__dict__:
            writeMember(get, listed, name, value)
        else:
            super().__setattr__(name, value)


def _isOwn(one: PythonQtObject, name: str) -> bool:
    """Whether `name` was given by a Python subclass, in its class or on the instance."""
    for ancestor in type(one).__mro__:
        if "_native" in ancestor.__dict__:
            break
        if name in ancestor.__dict__:
            return True
    # PySide6 keeps the signals that were asked for on the instance too.
    known = one._offered.properties | one._offered.methods | one._offered.signals
    return name not in known and name in object.__getattribute__(one, "__dict__")


class Wrapper:
    """An object that Qt made itself: no new attributes, members by the list."""

    def __init__(self, native, listed: Members):
        object.__setattr__(self, "_wrapped", native)
        object.__setattr__(self, "_offered", listed)

    def __getattr__(self, name: str):
        native = object.__getattribute__(self, "_wrapped")
        return readMember(
            native, lambda member: getattr(native, member), object.__getattribute__(self, "_offered"), name
        )

    def __setattr__(self, name: str, value: Any) -> None:
        native = object.__getattribute__(self, "_wrapped")
        writeMember(
            lambda member: getattr(native, member), object.__getattribute__(self, "_offered"), name, value
        )

    def __bool__(self) -> bool:
        return truth(object.__getattribute__(self, "_wrapped"))

    def __eq__(self, other) -> bool:
        return unwrap(self) is unwrap(other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "_wrapped"))


class Value(int):
    """An enumeration's value, which is an integer in PythonQt."""

    def __new__(cls, native: enum.Enum):
        made = super().__new__(cls, native.value)
        made.native = native
        return made


def wrap(value: Any) -> Any:
    """A value that comes from Qt, as PythonQt gives it."""
    if isinstance(value, enum.Enum):
        return Value(value)
    if isinstance(value, list):
        return [wrap(one) for one in value]
    if isinstance(value, (PythonQtObject, ModuleType)) or not type(value).__module__.startswith("PySide6"):
        return value
    for ancestor in type(value).__mro__:
        if f"qt.{ancestor.__name__}" in API["classes"]:
            return Wrapper(value, members(f"qt.{ancestor.__name__}"))
    if isinstance(value, QtCore.QObject):
        return Wrapper(value, members("qt.QObject"))
    return value


def unwrap(value: Any) -> Any:
    """A value as PySide6 takes it."""
    if isinstance(value, Wrapper):
        return object.__getattribute__(value, "_wrapped")
    if isinstance(value, Value):
        return value.native
    if isinstance(value, (list, tuple)):
        return [unwrap(one) for one in value]
    if isinstance(value, type) and "_native" in value.__dict__:
        return value.__dict__["_native"]
    return value


@cache
def qtClass(name: str) -> type:
    """The class `qt.name`."""
    for module in NATIVE_MODULES:
        if hasattr(module, name):
            return offered(f"qt.{name}")(getattr(module, name))
    raise NotImplementedError(f"PySide6 has no {name}")


def offered(name: str):
    """Decorator: makes a PySide6 widget class the class `name` of the list, with its members only.

    Inside such a class `raw(self)` is the widget without PythonQt's rules.
    """

    def make(native: type) -> type:
        module, _, own = name.rpartition(".")
        return _Type(
            own,
            (PythonQtObject, native),
            {"_native": native, "_offered": members(name), "__module__": module},
        )

    return make


class raw:
    """An object of the stand-in as PySide6 has it: properties are methods again, signals can be emitted."""

    def __init__(self, one):
        object.__setattr__(self, "_one", one)

    def __getattr__(self, name: str):
        return object.__getattribute__(object.__getattribute__(self, "_one"), name)


class QtModule(ModuleType):
    """The flat module `qt`."""

    def __getattr__(self, name: str):
        if name in UNLISTED:
            return UNLISTED[name]
        if name == "QUiLoader":
            return UiLoader
        if f"qt.{name}" not in API["classes"]:
            raise AttributeError(f"qt.{name} is not among the classes of the stand-in (pythonqt_api.json)")
        return qtClass(name)


def namedModule(name: str, classes: dict[str, type]) -> ModuleType:
    """A module of the stand-in's own classes."""
    module = ModuleType(name)
    module.__dict__.update(classes)
    return module


class _NativeLoader(QtUiTools.QUiLoader):
    """Makes the classes of `qt`, `ctk` and `slicer` where a .ui file names them."""

    isLoading = False

    def createWidget(self, className: str, parent=None, name: str = ""):
        from .widgets import CTK, SLICER

        widgetClass = CTK.get(className) or SLICER.get(className)
        if widgetClass is None:
            if f"qt.{className}" not in API["classes"]:
                raise NotImplementedError(f"{className} is not among the classes of the stand-in")
            widgetClass = qtClass(className)
        widget = widgetClass(parent)
        QtCore.QObject.setObjectName(widget, name)
        return widget


class UiLoader:
    """`qt.QUiLoader`: loads a .ui file; connects mrmlSceneChanged and setMRMLScene, no other connections."""

    def load(self, file):
        tree = xml.etree.ElementTree.parse(file.fileName())
        connections = tree.getroot().find("connections")
        if connections is not None:
            tree.getroot().remove(connections)
        text = xml.etree.ElementTree.tostring(tree.getroot())
        buffer = QtCore.QBuffer()
        buffer.setData(text)
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        _NativeLoader.isLoading = True
        try:
            top = _NativeLoader().load(buffer)
        finally:
            _NativeLoader.isLoading = False
        for connection in connections if connections is not None else ():
            names = [connection.findtext(key) for key in ("signal", "slot")]
            if names != ["mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)"]:
                raise NotImplementedError(f"the stand-in does not know the connection {names}")
            ends = [_named(top, connection.findtext(key)) for key in ("sender", "receiver")]
            ends[0].mrmlSceneChanged.connect(ends[1].setMRMLScene)
        return top


def _named(top, name: str):
    found = (
        top
        if QtCore.QObject.objectName(top) == name
        else QtWidgets.QWidget.findChild(top, QtWidgets.QWidget, name)
    )
    if found is None:
        raise ValueError(f"the .ui file connects a widget that it does not have: {name}")
    return found
