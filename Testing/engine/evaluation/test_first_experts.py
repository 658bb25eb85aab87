"""Figure 3b: which expert is first in each bank, by center."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from drmc.cli.main import main
from drmc.evaluation.first_experts import ScanExperts, distribution, first_experts, js_distance
from drmc.measures.routing import routing_table
from drmc.models.weights import save_model
from drmc.networks.drmc import DRMC, NetworkConfig
from support.engine.evaluation_data import write_dataset


def test_tiles_count_for_their_largest_gate_and_a_closed_bank_for_none():
    gates_TLM = np.zeros((4, 2, 3))
    gates_TLM[0, 0], gates_TLM[1, 0], gates_TLM[2, 0] = [3, 1, 2], [0, 0, 1], [0, 0, 5]  # tile 3: closed
    gates_TLM[:, 1] = [0, 1, 0]
    shares = first_experts(routing_table(gates_TLM))
    assert shares.tolist() == [[0.25, 0, 0.5, 0.25], [0, 1, 0, 0]]
    assert first_experts(routing_table(np.zeros((0, 2, 3)))) is None  # a scan of air


def test_distance_of_distributions():
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert js_distance(a, a) == 0 and js_distance(a, b) == pytest.approx(1)
    half = np.array([[0.5, 0.5]])
    # by hand: 3/4 log2(4/3) + ... of (1, 0) and (1/2, 1/2)
    divergence = (np.log2(1 / 0.75) + 0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25)) / 2
    assert js_distance(a, half) == pytest.approx(divergence**0.5)
    assert js_distance(np.concatenate([a, a]), np.concatenate([a, b])) == pytest.approx(
        0.5
    )  # mean over banks


def test_every_patient_counts_alike_and_only_unlike_centers_are_far():
    left, right = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    scans = [ScanExperts("A", f"a{k}", left) for k in range(5)]
    scans += [ScanExperts("B", f"b{k}", right) for k in range(5)]
    scans += [ScanExperts("C", "c1", left)] * 9 + [ScanExperts("C", "c2", right)]
    found = distribution(scans)
    assert found["centers"]["C"] == {"patients": 2, "shares": [[0.5, 0.5, 0.0]]}
    of_pair = {tuple(one["centers"]): one for one in found["distances"]}
    assert of_pair["A", "B"]["distance"] == pytest.approx(1)
    assert of_pair["A", "B"]["p"] < 0.03  # exactly 2 of 252 exchanges
    same = distribution([ScanExperts(c, f"{c}{k}", left) for c in "AB" for k in range(4)])
    assert same["distances"][0] == {"centers": ["A", "B"], "distance": 0.0, "p": 1.0}


def test_profile_writes_the_distribution_of_real_scans(tmp_path, capsys):
    torch.manual_seed(5)
    save_model(
        tmp_path / "model.pt", DRMC(NetworkConfig(channels=4, blocks=2, experts=3, heads=2, hidden=4)), 16
    )
    dataset = write_dataset(tmp_path / "data", splits=("test",), patients=2)
    arguments = [
        "profile",
        str(tmp_path / "model.pt"),
        str(dataset),
        "--split",
        "test",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "out" / "first_experts.json").read_text())
    assert {center: one["patients"] for center, one in found["centers"].items()} == {"A": 2, "B": 2}
    for one in found["centers"].values():
        shares = np.array(one["shares"])
        assert shares.shape == (4, 4) and shares.sum(1) == pytest.approx(1)
    lines = list(csv.DictReader((tmp_path / "out" / "first_experts.csv").open()))
    assert len(lines) == 2 * 4 * 4 and {line["bank"] for line in lines} == {"attention", "ffn"}
    page = (tmp_path / "out" / "first_experts.html").read_text()
    assert page.count("<svg") == 2 and "A (patients: 2)" in page
