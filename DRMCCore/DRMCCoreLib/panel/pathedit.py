"""A ctkPathLineEdit for a text parameter: Slicer's connector wants a Path, and an empty one shows as "."."""

from __future__ import annotations


class PathEdit:
    """Keeps a path line edit and the parameter `name` of the parameter node equal; empty stays empty."""

    def __init__(self, edit, name: str):
        self._edit, self._name, self._parameters = edit, name, None
        edit.currentPathChanged.connect(self._onEdited)

    def show(self, parameters) -> None:
        """Shows the path of a parameter node; None disconnects the edit."""
        self._parameters = parameters
        if parameters is not None and self._edit.currentPath != getattr(parameters, self._name):
            self._edit.setCurrentPath(getattr(parameters, self._name))

    def _onEdited(self, path: str) -> None:
        if self._parameters is not None:
            setattr(self._parameters, self._name, path)
