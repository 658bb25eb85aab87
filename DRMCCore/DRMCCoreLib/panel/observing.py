"""Observers of VTK objects and parameter nodes that end with the object that has added them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Observing:
    """As slicer.util.VTKObservationMixin, but what is observed no longer is not kept.

    That one keeps every object that it has ever observed: the voxels of each volume that was chosen once, and
    for each opening of a module a parameter node with all observers of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._observers: dict[tuple[Any, Any, Callable[..., Any]], int] = {}  # object, event, method -> tag

    @property
    def Observations(self) -> list[tuple[Any, Any, Callable[..., Any]]]:
        """What is observed now: object, event and method of each."""
        return list(self._observers)

    def addObserver(self, observed, event, method: Callable[..., Any], priority: float = 0.0) -> None:
        """`method` is called at each such event; observers of a higher priority are called earlier."""
        if not self.hasObserver(observed, event, method):
            self._observers[observed, event, method] = observed.AddObserver(event, method, priority)

    def removeObserver(self, observed, event, method: Callable[..., Any]) -> None:
        """`method` is not called any more; one that was not added is ignored."""
        tag = self._observers.pop((observed, event, method), None)
        if tag is not None:
            observed.RemoveObserver(tag)

    def removeObservers(self) -> None:
        """Nothing is observed any more."""
        for one in self.Observations:
            self.removeObserver(*one)

    def hasObserver(self, observed, event, method: Callable[..., Any]) -> bool:
        """Whether `method` is called at such an event."""
        return (observed, event, method) in self._observers
