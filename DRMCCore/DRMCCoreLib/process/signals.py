"""A signal in plain Python (qt.Signal has crashed Slicer extensions)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls every connected function, in the order of connection, with the arguments of `emit`."""

    def __init__(self) -> None:
        self._slots: list[Callable[..., Any]] = []

    def connect(self, slot: Callable[..., Any]) -> None:
        """`slot` is called at every `emit` from now on."""
        self._slots.append(slot)

    def disconnect(self, slot: Callable[..., Any]) -> None:
        """`slot` is not called any more; one that is not connected is ignored."""
        if slot in self._slots:
            self._slots.remove(slot)

    def emit(self, *arguments: Any) -> None:
        """Calls the slots; what one of them raises goes to the caller."""
        for slot in list(self._slots):
            slot(*arguments)
