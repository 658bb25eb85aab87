"""Settings as a dataclass whose annotations and limits (`setting`) are checked, also for values from JSON."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from drmc.errors import InputError

_KEY = "drmc.settings"
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
_MAPPINGS = (dict, Mapping)
_CONTAINERS = (tuple, list, *_MAPPINGS)
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}


class SettingError(InputError):
    """A value that a setting cannot have; `allowed` describes the allowed ones.

    In a list or an object `value` is the wrong element.
    """

    def __init__(self, key: str, value: Any, allowed: str):
        super().__init__(f"{key} = {value!r}: must be {allowed}")
        self.key, self.value, self.allowed = key, value, allowed


@dataclass(frozen=True)
class Limits:
    """Limits of a value beside its type; for a list or an object, of each element. See `setting`."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    not_empty: bool = False
    distinct: bool = False
    what: str = ""
    note: str = ""


def setting(default: Any = MISSING, *, default_factory: Any = MISSING, **limits: Any) -> Any:
    """A field of a dataclass with limits.

    Args:
        default: the default value, as in `dataclasses.field`.
        default_factory: as in `dataclasses.field`.
        **limits: the fields of `Limits`. `at_least`, `above`, `at_most`, `below`: bounds of a number;
            `choices`: the allowed texts; `pattern`: a regular expression that a whole text matches. For a
            list or an object these apply to each element; `not_empty`: it has at least one element;
            `distinct`: no element occurs twice. `what`: describes the allowed values in messages, in place of
            the description that follows from the limits; `note`: is added to the description.
    """
    return field(default=default, default_factory=default_factory, metadata={_KEY: Limits(**limits)})


def check(settings: Any) -> None:
    """Checks the values of all fields of a settings dataclass.

    Supported annotations are bool, int, float (any finite number), str, Path, Literal, None, other classes,
    Any, and tuple[...], list[...], dict[str, ...] and Mapping[str, ...] of these. An int is a valid float; a
    bool is neither an int nor a float.

    Raises:
        SettingError: the value of a field has another type than annotated, or is beyond its limits.
    """
    check_values(type(settings), {f.name: getattr(settings, f.name) for f in fields(settings)})


def check_values(form: type, values: Mapping[str, Any]) -> None:
    """Like `check`, for those fields of the dataclass `form` that `values` contains.

    Raises:
        SettingError: a value has another type than annotated, or is beyond its limits.
    """
    for key, value in values.items():
        annotation, limits = _fields(form)[key]
        _check(key, value, annotation, limits)


def from_json(
    form: type,
    values: Mapping[str, Any],
    *,
    besides: Iterable[str] = (),
    skip_null: bool = False,
) -> dict[str, Any]:
    """The values of a JSON object as arguments of the dataclass `form`, not yet checked.

    Lists become tuples and texts become paths where the field is annotated so; numbers stay as they are.

    Args:
        form: the dataclass.
        values: the JSON object.
        besides: keys that are allowed although they are not fields.
        skip_null: whether null counts as a missing key if the field cannot be None.

    Raises:
        InputError: a key is neither a field nor in `besides`, or a field without a default is missing.
    """
    refuse_unknown(values, [*besides, *_fields(form)])
    if skip_null:
        needed = {key for key, (annotation, _) in _fields(form).items() if not _without_none(annotation)[1]}
        values = {key: value for key, value in values.items() if value is not None or key not in needed}
    for f in fields(form):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"key '{f.name}' is missing")
    return {k: _converted(v, _fields(form)[k][0]) if k in _fields(form) else v for k, v in values.items()}


def refuse_unknown(values: Iterable[str], known: Sequence[str], noun: str = "key") -> None:
    """Refuses unknown keys; the message suggests a similar known one.

    Args:
        values: the keys.
        known: the allowed keys.
        noun: the word for a key in the message.

    Raises:
        InputError: a key is not known.
    """
    if unknown := sorted(set(values) - set(known)):
        close = get_close_matches(unknown[0], known, 1)
        suggestion = f" (did you mean '{close[0]}'?)" if close else ""
        raise InputError(f"unknown {noun} '{unknown[0]}'{suggestion}; known are {', '.join(known)}")


@contextmanager
def located(where: str) -> Iterator[None]:
    """Prefixes the message of an InputError with its location.

    Raises:
        InputError: the body raised one.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


@cache
def _fields(form: type) -> dict[str, tuple[Any, Limits]]:
    hints = get_type_hints(form)
    return {f.name: (hints[f.name], f.metadata.get(_KEY, Limits())) for f in fields(form)}


def _converted(value: Any, annotation: Any) -> Any:
    annotation = _without_none(annotation)[0]
    if get_origin(annotation) is tuple and isinstance(value, list):
        first = get_args(annotation)[0]
        return tuple(_converted(element, first) for element in value)
    return Path(value) if annotation is Path and isinstance(value, str) else value


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The annotation without None, and whether None is allowed."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    others = [one for one in get_args(annotation) if one is not NoneType]
    if len(others) != 1:
        raise TypeError(f"{annotation}: a setting has one type, or one and None")
    return others[0], True


def _check(key: str, value: Any, annotation: Any, limits: Limits) -> None:
    kind, optional = _without_none(annotation)
    if kind is Any or (optional and value is None):
        return
    allowed = _allowed(kind, limits) + ", or null" * optional
    origin, arguments = get_origin(kind), get_args(kind)
    if origin not in _CONTAINERS:
        if not _is_allowed(value, kind, limits):
            raise SettingError(key, value, allowed)
        return
    if not isinstance(value, origin):
        raise SettingError(key, value, allowed)
    inner = arguments[-1 if origin in _MAPPINGS else 0]
    elements = list(value.values() if origin in _MAPPINGS else value)
    for element in elements:
        if not _is_allowed(element, inner, limits):
            one = allowed if limits.what or inner not in _NAMES else _element(inner, limits)
            raise SettingError(key, element, one)
    size = _size(kind)
    if (
        (limits.not_empty and not elements)
        or (limits.distinct and any(element in elements[:k] for k, element in enumerate(elements)))
        or (size is not None and len(elements) != size)
    ):
        raise SettingError(key, elements, allowed)


def _size(kind: Any) -> int | None:
    """The number of elements of a tuple; None for any number, or another type."""
    arguments = get_args(kind)
    return len(arguments) if get_origin(kind) is tuple and arguments[-1] is not ... else None


def _element(kind: type, limits: Limits) -> str:
    """A description of the allowed elements of a list."""
    return _allowed(kind, replace(limits, not_empty=False, distinct=False))


def _is_allowed(value: Any, kind: Any, limits: Limits) -> bool:
    """Whether a single value has the annotated type and is within the limits."""
    if kind is Any:
        return True
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if kind in (int, float):
        right = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        finite = kind is int or (right and abs(value) <= sys.float_info.max)  # NaN is not
        return right and finite and _within(value, limits)
    if not isinstance(value, get_origin(kind) or kind):
        return False
    if limits.choices and value not in limits.choices:
        return False
    return not limits.pattern or re.fullmatch(limits.pattern, value) is not None


def _within(value: float, limits: Limits) -> bool:
    return (
        (limits.at_least is None or value >= limits.at_least)
        and (limits.above is None or value > limits.above)
        and (limits.at_most is None or value <= limits.at_most)
        and (limits.below is None or value < limits.below)
    )


def _allowed(kind: Any, limits: Limits) -> str:
    """A description of the allowed values."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if limits.what:
        words = limits.what
    elif choices := limits.choices or (arguments if origin is Literal else ()):
        words = f"one of {', '.join(choices)}"
    elif origin in _MAPPINGS:
        words = (
            f"an object of {_PLURALS[arguments[1]]}{_bounds(limits)}"
            if arguments[1] in _PLURALS
            else "an object"
        )
    elif origin in _CONTAINERS:
        count = f"{_size(kind)} " if _size(kind) is not None else ""
        words = f"a list of {count}{_PLURALS.get(arguments[0], 'values')}{_bounds(limits)}"
    else:
        words = _NAMES.get(kind, f"of the kind {getattr(kind, '__name__', kind)}") + _bounds(limits)
    if limits.not_empty:
        words += ", at least one"
    return words + ", each once" * limits.distinct + limits.note


def _bounds(limits: Limits) -> str:
    low = limits.at_least if limits.above is None else limits.above
    high = limits.at_most if limits.below is None else limits.below
    if low is None and high is None:
        return ""
    if high is None:
        return f" above {low:g}" if limits.above is not None else f" of at least {low:g}"
    if low is None:
        return f" below {high:g}" if limits.below is not None else f" of at most {high:g}"
    return (
        f" in {'[' if limits.above is None else '('}{low:g}, {high:g}{']' if limits.below is None else ')'}"
    )
