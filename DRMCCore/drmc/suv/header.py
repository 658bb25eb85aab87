"""The headers of a series: values that must be the same in all slices are refused if they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drmc.suv.tags import refused, with_tag
from drmc.suv.values import as_text, number_of, quoted


class Header:
    """Reads the slices' mappings, and collects notices and warnings on them."""

    def __init__(self, slices: Sequence[Mapping[str, Any]], accept_clock: bool = False):
        self.slices = slices
        self.accept_clock = accept_clock  # whether a moment in an unknown zone is read as written
        self.notices: list[str] = []
        self.warnings: list[str] = []

    def one(self, key: str) -> Any:
        """The value that all slices share.

        Raises:
            InputError: it differs between the slices.
        """
        values = [s.get(key) for s in self.slices]
        first = _key(values[0])
        for value in values:
            if _key(value) != first:
                differ = f"differs between the slices ({quoted(values[0])}, {quoted(value)})"
                raise refused(key, differ, "keep one series per folder, or correct the header")
        return values[0]

    def text(self, key: str) -> str:
        """The text that all slices share, stripped; "" if absent."""
        return as_text(self.one(key))

    def positive(self, key: str) -> float | None:
        """The shared number; None if it is absent, empty or zero.

        Raises:
            InputError: it differs between the slices, or is not a positive number.
        """
        value = self.one(key)
        if not as_text(value):
            return None
        number = number_of(value)
        if number is None or number < 0:
            raise refused(key, f"is {quoted(value)}, not a positive number", "correct the header")
        return number or None

    def time(self, key: str, parse: Callable[[Any], Any]) -> Any:
        """The shared time, date or moment; None, with a notice, if it cannot be read."""
        return self._parsed(key, self.one(key), parse)

    def times(self, key: str, parse: Callable[[Any], Any]) -> list[Any]:
        """Like `time`, one value per slice."""
        return [self._parsed(key, s.get(key), parse) for s in self.slices]

    def _parsed(self, key: str, value: Any, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            self.notices.append(f"{with_tag(key)} {quoted(value)} is {error}: not used")
            return None


def _key(value: Any) -> Any:
    """The key by which values are compared: the number if it is one, else the text."""
    number = number_of(value)
    return as_text(value) if number is None else number
