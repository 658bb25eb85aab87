"""What `drmc denoise` writes has exactly the keys and types that the TypedDicts state."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.cli.main import main
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from drmc.measures.bias import Bias, BiasSummary, LesionBias
from drmc.measures.routing_profiles import ScanGates, make_profiles
from drmc.measures.rows import LesionFileRow, LesionRow, RoutingRow
from drmc.models.weights import save_model
from drmc.networks.drmc import DRMC, NetworkConfig
from drmc.report.summary import Summary
from support.engine.synthetic_dicom import write_series

EVERYTHING = ("--lesions", "lesions.nrrd", "--reference", "full", "--header", "PatientWeight=71")
LAYERS, EXPERTS = 2, 2


def mistakes(value: Any, form: Any, where: str = "") -> list[str]:
    """Where a JSON value differs from a type; a TypedDict must have all required keys and no unknown one."""
    if form is Any:
        return []
    if get_origin(form) in (Union, UnionType):
        forms = [one for one in get_args(form) if not (one is NoneType and value is not None)]
        return min((mistakes(value, one, where) for one in forms), key=len)
    if is_typeddict(form):
        if not isinstance(value, dict):
            return [f"{where} is {value!r}, no object"]
        hints = get_type_hints(form)
        found = [f"{where}.{key} is missing" for key in sorted(form.__required_keys__ - set(value))]
        found += [f"{where}.{key} is unknown" for key in sorted(set(value) - set(hints))]
        return found + [
            mistake
            for key in value.keys() & hints.keys()
            for mistake in mistakes(value[key], hints[key], f"{where}.{key}")
        ]
    origin, arguments = get_origin(form), get_args(form)
    if origin is Literal:
        return [] if value in arguments else [f"{where} is {value!r}"]
    kind = origin or form
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        return [f"{where} is {value!r}, not {kind.__name__}"]
    if kind is list:
        return [m for i, item in enumerate(value) for m in mistakes(item, arguments[0], f"{where}[{i}]")]
    if kind is dict:
        found = [m for key in value for m in mistakes(key, arguments[0], f"{where} key")]
        return found + [
            m for key, item in value.items() for m in mistakes(item, arguments[1], f"{where}.{key}")
        ]
    return []


def columns(path: Path) -> list[str]:
    with open(path, encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with series `low` and `full` and `lesions.nrrd`; a model whose card has routing profiles."""
    torch.manual_seed(3)
    network = DRMC(NetworkConfig(channels=4, blocks=1, experts=EXPERTS, heads=2, hidden=4))
    gates = np.full((LAYERS, EXPERTS), 0.5)
    profiles = make_profiles([ScanGates(name, name, gates * scale) for name, scale in (("A", 1), ("B", 2))])
    (tmp_path / "models").mkdir()
    save_model(tmp_path / "models" / "tiny.pt", network, 16, {"default": True, "routing_profiles": profiles})
    monkeypatch.setenv("DRMC_MODELS", str(tmp_path / "models"))
    values = np.random.default_rng(0).gamma(20.0, 250.0, (12, 20, 20)).astype(np.float32)
    values[4:8, 8:12, 8:12] *= 5
    for name, scale in (("low", 1.0), ("full", 0.95)):
        write_series(tmp_path / name, array=values * scale)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "low")))
    mask = np.zeros(values.shape, np.float32)
    mask[4:8, 8:12, 8:12] = 1
    write_image(tmp_path / "lesions.nrrd", mask, Geometry.from_image(image))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("options", [(), EVERYTHING], ids=["plain", "everything"])
def test_the_files_of_a_result_have_the_stated_keys(case, options):
    assert main(["denoise", "low", "-o", "out", *options, "--device", "cpu", "--precision", "fp32"]) == 0
    summary = json.loads((case / "out" / "summary.json").read_text(encoding="utf-8"))
    assert mistakes(summary, Summary, "summary") == []
    assert columns(case / "out" / "routing.csv") == list(RoutingRow.__annotations__)
    assert (case / "out" / "lesions.csv").is_file() == bool(options)
    # What the case must contain for the check above to reach it.
    assert summary["routing"] and summary["suv"]["candidates"] and summary["routing_nearest"]
    if options:
        assert columns(case / "out" / "lesions.csv") == list(LesionFileRow.__annotations__)
        assert columns(case / "out" / "routing_lesions.csv") == ["segment", *RoutingRow.__annotations__]
        assert summary["settings"]["header"] == {"PatientWeight": "71"}
        (rows,) = summary["routing_lesions"].values()
        bias = summary["reference"]["lesions"]
        assert rows and summary["lesions"]["segments"] and bias["lesions"] and set(bias["patient"])


def test_quantify_prints_the_stated_rows(case, capsys):
    command = ["quantify", "low", "--lesions", "lesions.nrrd", "--reference", "full", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert mistakes(found["segments"], list[LesionRow]) == [] and len(found["segments"]) == 2
    assert mistakes(found["bias"], Bias) == []


@pytest.mark.parametrize(
    ("value", "form", "mistake"),
    [
        ({"segment": "a"}, LesionBias, ".stage is missing"),
        ({"n_mean": 1, "n_min": 2}, BiasSummary, ".n_min is unknown"),
        ([{"block": 1, "bank": "mlp"}], list[RoutingRow], "[0].bank is 'mlp'"),
        ({"a": None}, dict[str, float], ".a is None, not float"),
    ],
)
def test_the_check_sees_missing_unknown_and_mistyped_values(value, form, mistake):
    assert mistake in mistakes(value, form)
