"""Settings: a dataclass says what its values may be, and one line says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from drmc.errors import InputError
from drmc.settings import SettingError, check, check_values, from_json, located, refuse_unknown, setting


@dataclass(frozen=True)
class Scan:
    folder: Path
    frames: int = setting(1, at_least=1)
    dose: float = setting(0.5, above=0, at_most=1)
    decay: float = setting(0.0, at_least=0, below=1)
    radius: float = setting(1.0, above=0)
    shift: float = setting(0.0, below=3)
    most: float = setting(0.0, at_most=3)
    quick: bool = False
    name: str = setting("scan", pattern="[a-z]+", what="small letters", note=" (see the manual)")
    unit: Literal["SUV", "Bq/ml"] = "SUV"
    tracer: str = setting("FDG", choices=("FDG", "PSMA"))
    centers: tuple[str, ...] = setting(("A",), not_empty=True, distinct=True)
    voxel_mm: tuple[float, float, float] = setting((2.0, 2.0, 2.0), above=0)
    widths: list[int] = setting(default_factory=list, at_least=1)
    card: dict[str, Any] = setting(default_factory=dict)
    models: Mapping[str, str] = setting(default_factory=dict)
    seed: int | None = setting(None, at_least=0)
    anything: Any = None

    def __post_init__(self) -> None:
        check(self)


def scan(**values) -> Scan:
    return Scan(**from_json(Scan, {"folder": "data", **values}))


def test_values_of_json_come_as_annotated():
    made = scan(centers=["A", "B"], voxel_mm=[4, 2.5, 2.5], widths=[1, 2], dose=1, seed=None)
    assert made.folder == Path("data") and made.centers == ("A", "B") and made.widths == [1, 2]
    assert made.voxel_mm == (4, 2.5, 2.5) and type(made.voxel_mm[0]) is int  # numbers stay as they are
    assert type(made.dose) is int and made.seed is None
    assert scan(seed=3, anything=[1], card={"a": 1}, models={"A": "a"}, unit="Bq/ml", tracer="PSMA").seed == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"folder": 3}, "folder = 3: must be a path"),
        ({"frames": 0}, "frames = 0: must be a whole number of at least 1"),
        ({"frames": 1.0}, "frames = 1.0: must be a whole number of at least 1"),
        ({"frames": True}, "frames = True: must be a whole number of at least 1"),
        ({"frames": None}, "frames = None: must be a whole number of at least 1"),
        ({"dose": 0}, "dose = 0: must be a number in (0, 1]"),
        ({"dose": float("nan")}, "dose = nan: must be a number in (0, 1]"),
        ({"decay": 1}, "decay = 1: must be a number in [0, 1)"),
        ({"radius": float("inf")}, "radius = inf: must be a number above 0"),
        ({"radius": float("-inf")}, "radius = -inf: must be a number above 0"),
        ({"radius": 10**400}, "radius = 1000"),  # no float is as large
        ({"radius": "wide"}, "radius = 'wide': must be a number above 0"),
        ({"shift": 3}, "shift = 3: must be a number below 3"),
        ({"most": 4}, "most = 4: must be a number of at most 3"),
        ({"quick": 1}, "quick = 1: must be true or false"),
        ({"name": "A"}, "name = 'A': must be small letters (see the manual)"),
        ({"unit": "MBq"}, "unit = 'MBq': must be one of SUV, Bq/ml"),
        ({"unit": ["SUV"]}, "unit = ['SUV']: must be one of SUV, Bq/ml"),
        ({"tracer": "NaF"}, "tracer = 'NaF': must be one of FDG, PSMA"),
        ({"centers": "A"}, "centers = 'A': must be a list of texts, at least one, each once"),
        ({"centers": []}, "centers = []: must be a list of texts, at least one, each once"),
        ({"centers": ["A", "A"]}, "centers = ['A', 'A']: must be a list of texts, at least one, each once"),
        ({"centers": ["A", 1]}, "centers = 1: must be a text"),
        ({"voxel_mm": [2, 2]}, "voxel_mm = [2, 2]: must be a list of 3 numbers above 0"),
        ({"voxel_mm": [2, 2, 0]}, "voxel_mm = 0: must be a number above 0"),
        ({"widths": [1, 2.5]}, "widths = 2.5: must be a whole number of at least 1"),
        ({"card": "mine"}, "card = 'mine': must be an object"),
        ({"models": ["a"]}, "models = ['a']: must be an object of texts"),
        ({"models": {"A": "a", "B": 1}}, "models = 1: must be a text"),
        ({"seed": -1}, "seed = -1: must be a whole number of at least 0, or null"),
        ({"sede": 1}, "unknown key 'sede' (did you mean 'seed'?); known are folder, frames"),
        ({"zzz": 1}, "unknown key 'zzz'; known are folder, frames"),
    ],
)
def test_one_line_says_the_key_and_what_is_allowed(values, said):
    with pytest.raises(InputError) as refusal:
        scan(**values)
    assert str(refusal.value).startswith(said) and "\n" not in str(refusal.value)


def test_a_missing_key_and_keys_besides_the_fields():
    with pytest.raises(InputError, match="key 'folder' is missing"):
        from_json(Scan, {})
    with pytest.raises(InputError, match="unknown parameter 'b'; known are a"):
        refuse_unknown({"a": 1, "b": 2}, ["a"], "parameter")
    nulls = {"folder": "x", "frames": None, "seed": None}
    assert from_json(Scan, nulls, skip_null=True) == {"folder": Path("x"), "seed": None}
    with pytest.raises(InputError, match="key 'folder' is missing"):
        from_json(Scan, {"folder": None}, skip_null=True)
    assert from_json(Scan, {"folder": "x", "preset": "tiny"}, besides=["preset"])["preset"] == "tiny"


def test_some_values_are_checked_without_the_others():
    check_values(Scan, {"frames": 2})
    with pytest.raises(SettingError) as refusal:
        check_values(Scan, {"frames": -2})
    error = refusal.value
    assert (error.key, error.value, error.allowed) == ("frames", -2, "a whole number of at least 1")
    with pytest.raises(InputError, match=r"^scan.json: frames = 0"), located("scan.json"):
        scan(frames=0)
