"""A small stand-in for 3D Slicer, so that the real module files run and are clicked without it.

`start()` gives the real MRML scene and `slicer.util` of the slicer-core wheel, the modules
`slicer.ScriptedLoadableModule`, `slicer.parameterNodeWrapper` and `slicer.i18n`, and over PySide6 `qt`,
`ctk`, `slicer.app` and the qMRML widgets with PythonQt's behavior: properties are attributes, and what a
running Slicer 5.12.3 did not have (pythonqt_api.json) raises AttributeError. Nothing here is Slicer's own
code; the Python files that slicer-core leaves out are written anew, as small as the tests need them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

HOW_TO_INSTALL = "pip install 'slicer-core>=5.12' 'PySide6>=6.6'"
SYSTEM_PACKAGES = "libegl1 libgl1 libx11-6 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0"


def missingCore() -> str | None:
    """What keeps the MRML scene from starting on this machine, and how to mend it; None if nothing does."""
    if importlib.util.find_spec("slicer_core") is None:
        return f"slicer-core is not installed: {HOW_TO_INSTALL}"
    return None


def missingQt() -> str | None:
    """What keeps the panels from opening on this machine, and how to mend it; None if nothing does."""
    if importlib.util.find_spec("PySide6") is None:
        return f"PySide6 is not installed: {HOW_TO_INSTALL}"
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    try:
        importlib.import_module("PySide6.QtUiTools")
    except ImportError as error:
        return f"PySide6 cannot be loaded ({error}); on Debian or Ubuntu: apt-get install {SYSTEM_PACKAGES}"
    return None


def start(*, withQt: bool | None = None) -> ModuleType:
    """Makes this process look like Slicer, once; returns the module `slicer`.

    Without Qt (`withQt` False, or None where it cannot be loaded) there are the scene, `slicer.util` and the
    bases of modules, but no `qt`, `ctk` and panels: a Python that uses the modules as a library. RuntimeError
    says what is missing.
    """
    reason = missingCore() or (missingQt() if withQt else None)
    if reason is not None:
        raise RuntimeError(reason)
    slicer = _importSlicer()
    if hasattr(slicer, "app"):
        return slicer
    from . import core

    scene, logic, moduleLogics = core.makeScene()
    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(
        **{name.lower(): SimpleNamespace(logic=lambda one=one: one) for name, one in moduleLogics.items()}
    )
    if withQt is False or missingQt() is not None:
        slicer.app = core.Application(scene, logic)
    else:
        from . import application, pythonqt, widgets

        sys.modules["qt"] = pythonqt.QtModule("qt")
        sys.modules["ctk"] = pythonqt.namedModule("ctk", widgets.CTK)
        slicer.app = application.Application(scene, logic)
        for name, widgetClass in widgets.SLICER.items():
            setattr(slicer, name, widgetClass)
    from . import modules

    for name, module in modules.slicerModules().items():
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
    return slicer


def _importSlicer() -> ModuleType:
    """slicer-core's package `slicer`; it would import every file of other folders of that name."""
    path = list(sys.path)
    sys.path[:] = [one for one in path if not Path(one, "slicer", "conftest.py").is_file()]
    try:
        return importlib.import_module("slicer")
    finally:
        sys.path[:] = path


def loadModule(path: Path) -> tuple[ModuleType, SimpleNamespace]:
    """Registers the scripted module at `path` as Slicer does: its folder on sys.path, then an instance.

    Returns the Python module and the object that Slicer calls the module (title, dependencies, ...).
    """
    import slicer

    from . import files

    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    python = importlib.import_module(path.stem)
    registered = SimpleNamespace(path=str(path), name=path.stem)
    registered.instance = getattr(python, path.stem)(registered)
    setattr(slicer.modules, path.stem.lower(), registered)
    if hasattr(python, f"{path.stem}FileReader"):
        files.CoreIOManager._register(getattr(python, f"{path.stem}FileReader"))
    return python, registered


def openWidget(python: ModuleType, name: str):
    """The module's widget, set up and entered, in a parent that is shown off-screen."""
    from . import application

    parent = application.ModulePanel()
    widget = getattr(python, f"{name}Widget")(parent)
    widget.setup()
    parent.isEntered = True
    if hasattr(widget, "enter"):
        widget.enter()
    parent.show()
    return widget


def closeWidget(widget) -> None:
    """Ends a widget as Slicer does when it closes."""
    widget.parent.isEntered = False
    if hasattr(widget, "exit"):
        widget.exit()
    widget.cleanup()
    widget.parent.close()
    widget.parent.deleteLater()
