"""Profiles of training centers: the distance of a scan to them, and the warning of a scan unlike all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.datasets.manifest import read_manifest
from drmc.denoising.pipeline import run
from drmc.denoising.request import DenoiseRequest
from drmc.inference.denoiser import Denoiser
from drmc.measures.routing import gates_of, routing_table
from drmc.measures.routing_profiles import (
    CARD_KEY,
    LIMIT_FACTOR,
    UNLIKE,
    ScanGates,
    body_gates,
    make_profiles,
    nearest_center,
)
from drmc.models.card import add_to_card
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine.denoising_cases import request, write_case
from support.engine.evaluation_data import write_dataset

LAYERS, EXPERTS = 4, 3
CENTERS = {"C1": 0.3, "C2": 0.5, "C3": 0.9}


def scan(center: str, rng, spread: float = 0.02) -> np.ndarray:
    """Gates of a scan of a center: a pattern of the center's own, with the spread of its patients."""
    pattern = CENTERS[center] * (1 + np.sin(np.arange(LAYERS * EXPERTS) * CENTERS[center] * 7) / 3)
    return np.maximum(0, pattern.reshape(LAYERS, EXPERTS) + rng.normal(0, spread, (LAYERS, EXPERTS)))


def scans_of(seed: int, patients: int = 4, spread: float = 0.02) -> list[ScanGates]:
    rng = np.random.default_rng(seed)
    return [
        ScanGates(center, f"{center}-{number}", scan(center, rng, spread))
        for center in CENTERS
        for number in range(patients)
    ]


def rows_of(gates_LM: np.ndarray):
    return routing_table(gates_LM[None])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_a_scan_is_nearest_to_its_own_center_and_an_outlier_unlike_all(seed, patients):
    profiles = make_profiles(scans_of(seed, patients))
    rng = np.random.default_rng(seed + 1)
    for center in CENTERS:
        found = nearest_center(profiles, rows_of(scan(center, rng)))
        assert found["center"] == center == min(found["distances"], key=found["distances"].get)
        assert found["distance"] == found["distances"][center]
    outlier = nearest_center(profiles, rows_of(np.full((LAYERS, EXPERTS), 4.0)))
    assert outlier["unlike"] and outlier["distance"] > outlier["limit"]


def test_every_profiled_scan_is_within_the_limit_of_its_own_center():
    scans = scans_of(5, 5)
    profiles = make_profiles(scans)
    found = [nearest_center(profiles, rows_of(one.gates_LM)) for one in scans]
    assert not any(one["unlike"] for one in found)
    assert max(one["distance"] for one in found) * LIMIT_FACTOR < profiles["limit"] * 1.001


def test_distance_and_limit_counted_by_hand():
    gates = {"A": (1.0, 3.0), "B": (10.0, 12.0)}
    scans = [
        ScanGates(c, f"{c}{i}", np.full((2, 1), v)) for c, two in gates.items() for i, v in enumerate(two)
    ]
    profiles = make_profiles(scans)
    # Within each center the squares sum to 2 with one degree of freedom: pooled variance 2 for every gate.
    assert profiles["scale"] == [[1.414214], [1.414214]]  # the seven digits of a card
    assert profiles["centers"]["A"]["mean"] == [[2.0], [2.0]]
    assert profiles["centers"]["A"]["sd"] == [[1.414214], [1.414214]]
    assert profiles["limit"] == pytest.approx(1.5 * 2.0 / np.sqrt(2.0))  # each patient is 2 from the other
    found = nearest_center(profiles, rows_of(np.full((2, 1), 4.0)))
    assert (found["center"], found["distance"]) == ("A", pytest.approx(np.sqrt(2.0)))
    assert found["distances"]["B"] == pytest.approx(7.0 / np.sqrt(2.0)) and not found["unlike"]


def test_the_order_of_centers_and_scans_does_not_matter():
    scans = scans_of(2)
    there, back = make_profiles(scans), make_profiles(scans[::-1])
    rows = rows_of(scan("C2", np.random.default_rng(9)))
    one, other = nearest_center(there, rows), nearest_center(back, rows)
    assert one["center"] == other["center"] == "C2" and list(one["distances"]) == list(other["distances"])
    assert one["distances"] == pytest.approx(other["distances"]) and one["limit"] == pytest.approx(
        other["limit"]
    )
    shuffled = {**there, "centers": dict(reversed(there["centers"].items()))}
    assert nearest_center(shuffled, rows) == one


def test_scans_of_one_patient_count_as_one_and_one_patient_sets_no_limit():
    rng = np.random.default_rng(0)
    twice = [ScanGates("C1", "p", scan("C1", rng)), ScanGates("C1", "p", scan("C1", rng))]
    other = [ScanGates("C2", "q", scan("C2", rng))]
    profiles = make_profiles(twice + other)
    assert (profiles["centers"]["C1"]["patients"], profiles["centers"]["C1"]["scans"]) == (1, 2)
    assert profiles["centers"]["C1"]["sd"] is None and profiles["limit"] is None
    found = nearest_center(profiles, rows_of(scan("C2", rng)))
    assert found["center"] == "C2" and not found["unlike"] and found["limit"] is None


def test_gates_that_never_move_are_no_division_by_zero():
    still = [ScanGates("C1", str(number), np.full((2, 2), 0.5)) for number in range(3)]
    found = nearest_center(make_profiles(still), rows_of(np.full((2, 2), 0.5)))
    assert found["distance"] == 0.0 and not found["unlike"]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"centers": {}},
        {"centers": []},
        {"limit": "far"},
        {"scale": [[0.0] * EXPERTS] * LAYERS},
        {"scale": None},
    ],
    ids=str,
)
def test_what_are_no_profiles_is_an_error(broken):
    profiles = {**make_profiles(scans_of(0)), **broken} if broken else {}
    with pytest.raises(ValueError):
        nearest_center(profiles, rows_of(np.ones((LAYERS, EXPERTS))))
    with pytest.raises(ValueError, match="2 layers"):
        nearest_center(make_profiles(scans_of(0)), rows_of(np.ones((2, EXPERTS))))


def test_a_scan_of_air_is_near_to_nothing():
    assert nearest_center(make_profiles(scans_of(0)), routing_table(np.zeros((0, LAYERS, EXPERTS)))) is None


# ---- from a dataset into the card, and what a run says


def test_the_command_writes_the_profiles_into_the_card(models, tmp_path, capsys):
    dataset = write_dataset(tmp_path / "data", splits=("validation",), patients=2)
    assert main(["profile", "tiny", str(dataset), "--device", "cpu", "--precision", "fp32", "--card"]) == 0
    assert "B: 2 patients, 4 scans" in capsys.readouterr().out
    entry = find_model("tiny")
    profiles = entry.card[CARD_KEY]
    assert (
        set(profiles["centers"]) == {"A", "B"} and profiles["limit"] > 0 and profiles["split"] == "validation"
    )
    case = next(case for case in read_manifest(dataset) if case.case_id == "A-validation-1")
    gates = body_gates(
        case.read(case.low[4.0]), Denoiser(*load_network(entry), device="cpu", precision="fp32")
    )
    out = tmp_path / "out"
    ask = DenoiseRequest(case.low[4.0], out, model="tiny", device="cpu", precision="fp32", units="suv")
    summary = run(ask)
    np.testing.assert_array_equal(gates, gates_of(summary["routing"]))
    assert summary["routing_nearest"] == nearest_center(profiles, rows_of(gates))
    assert not summary["routing_nearest"]["unlike"] and UNLIKE not in summary["notices"]
    assert "Nearest training center" in (out / "report.html").read_text()


def test_profiled_are_the_centers_that_the_model_was_trained_on(models, tmp_path, capsys):
    dataset = write_dataset(tmp_path / "data", doses={"A": (4,), "B": (3,)}, splits=("validation",))
    add_to_card(find_model("tiny"), {"training": {"patients": {"B": 5, "Z": 3}}})
    options = [str(dataset), "--device", "cpu", "--precision", "fp32", "--json"]
    assert main(["profile", "tiny", *options]) == 0
    assert list(json.loads(capsys.readouterr().out)["centers"]) == ["B"]
    add_to_card(find_model("tiny"), {"training": {"patients": {"Z": 3}}})
    assert main(["profile", "tiny", *options]) == 2
    assert "trained on (Z)" in capsys.readouterr().err


def test_centers_of_a_pattern_are_one_as_in_the_training(models, tmp_path, capsys):
    """Of a model that was trained on a hundred drawn scanners the nearest one says nothing."""
    dataset = write_dataset(tmp_path / "data", doses={"A": (4,), "B": (3,)}, splits=("validation",))
    add_to_card(find_model("tiny"), {"training": {"patients": {"[AB]": 2}}})
    assert main(["profile", "tiny", str(dataset), "--device", "cpu", "--precision", "fp32", "--card"]) == 0
    assert "[AB]: 2 patients, 2 scans" in capsys.readouterr().out
    summary = run(request(write_case(tmp_path / "case"), tmp_path / "out"))
    assert list(summary["routing_nearest"]["distances"]) == ["[AB]"]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "trained on many scanners ([AB])" in report and "nearest to that of" not in report


def test_a_single_center_of_its_own_name_is_no_group_of_scanners(models, tmp_path):
    """Of a model that one hospital has trained on its own scanner."""
    gates = [replace(one, gates_LM=one.gates_LM[:2, :2]) for one in scans_of(0)]
    single = make_profiles([one for one in gates if one.center == gates[0].center])
    add_to_card(find_model("tiny"), {CARD_KEY: json.loads(json.dumps(single))})
    summary = run(request(write_case(tmp_path / "case"), tmp_path / "out"))
    assert list(summary["routing_nearest"]["distances"]) == [gates[0].center]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "many scanners" not in report and "nearest to that of" in report


def test_a_split_without_patients_is_refused(models, tmp_path, capsys):
    dataset = write_dataset(tmp_path / "data", splits=("train",))
    assert main(["profile", "tiny", str(dataset), "--device", "cpu"]) == 2
    assert "no patient in the split 'validation'" in capsys.readouterr().err


def test_unlike_is_said_without_profiles_nothing_and_misfits_are_left_alone(models, tmp_path):
    case = write_case(tmp_path / "case")
    silent = run(request(case, tmp_path / "a"))
    assert silent["routing_nearest"] is None and not [n for n in silent["notices"] if "routing" in n.lower()]
    assert "Nearest training center" not in (tmp_path / "a" / "report.html").read_text()
    far = make_profiles([replace(one, gates_LM=one.gates_LM[:2, :2] + 50) for one in scans_of(1)])
    add_to_card(find_model("tiny"), {CARD_KEY: json.loads(json.dumps(far))})
    warned = run(request(case, tmp_path / "b"))
    assert warned["routing_nearest"]["unlike"] and UNLIKE in warned["notices"]
    assert f"{UNLIKE}." in (tmp_path / "b" / "report.html").read_text()
    assert json.loads((tmp_path / "b" / "summary.json").read_text()) == warned
    add_to_card(find_model("tiny"), {CARD_KEY: make_profiles(scans_of(1))})
    other = run(request(case, tmp_path / "c"))
    assert other["routing_nearest"] is None and "do not fit" in "".join(other["notices"])
