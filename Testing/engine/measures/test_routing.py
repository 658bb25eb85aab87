"""The routing table: counted by hand, and its picture."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from drmc.measures.routing import routing_table, write_routing_csv
from drmc.measures.rows import GATE_NUMBERS, ROUTING_COLUMNS
from drmc.pages.heatmap import routing_svg
from hypothesis import given, settings
from hypothesis import strategies as st

# Four tiles of one block with two experts: [attention bank], [FFN bank].
GATES = np.array(
    [
        [[0.5, 0.0], [0.0, 0.0]],
        [[0.2, 0.4], [0.0, 0.3]],
        [[0.1, 0.0], [0.0, 0.1]],
        [[0.0, 0.8], [0.2, 0.2]],
    ]
)


def by_place(rows):
    return {(row["block"], row["bank"], row["expert"]): row for row in rows}


def test_numbers_counted_by_hand():
    rows = routing_table(GATES)
    assert [(row["block"], row["bank"], row["expert"]) for row in rows] == [
        (1, "attention", 1),
        (1, "attention", 2),
        (1, "ffn", 1),
        (1, "ffn", 2),
    ]
    first, second = by_place(rows)[1, "attention", 1], by_place(rows)[1, "attention", 2]
    assert first["mean_gate"] == pytest.approx(0.2)
    assert first["sd_gate"] == pytest.approx(np.sqrt((0.09 + 0.0 + 0.01 + 0.04) / 4))  # population
    assert (first["closed_fraction"], first["top1_fraction"]) == (0.25, 0.5)
    assert (second["closed_fraction"], second["top1_fraction"]) == (0.5, 0.5)


def test_a_tile_with_every_expert_closed_counts_for_none_and_the_first_of_equals_wins():
    ffn = [row for row in routing_table(GATES) if row["bank"] == "ffn"]
    assert [row["top1_fraction"] for row in ffn] == [0.25, 0.5]  # 3 of 4 tiles: one is all closed


def test_router_order_is_attention_then_ffn_of_each_block():
    gates = np.broadcast_to(np.arange(6.0)[None, :, None] + 1.0, (2, 6, 3))
    rows = routing_table(gates)
    order = list(dict.fromkeys((row["block"], row["bank"]) for row in rows))
    assert order == [(1, "attention"), (1, "ffn"), (2, "attention"), (2, "ffn"), (3, "attention"), (3, "ffn")]
    assert [row["mean_gate"] for row in rows[::3]] == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def test_weights_count_like_repeated_tiles_and_zero_like_absent():
    weights = np.array([1, 3, 0, 2])
    weighted = routing_table(GATES, weights)
    repeated = routing_table(np.repeat(GATES, weights, axis=0))
    for one, other in zip(weighted, repeated, strict=True):
        assert one == {
            key: pytest.approx(value) if key in GATE_NUMBERS else value for key, value in other.items()
        }


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))
def test_shares_add_up(tiles, blocks, experts, seed):
    rng = np.random.default_rng(seed)
    gates = np.maximum(0.0, rng.normal(0.1, 0.3, (tiles, 2 * blocks, experts))).astype(np.float32)
    rows = routing_table(gates)
    for layer in range(2 * blocks):
        part = rows[layer * experts : (layer + 1) * experts]
        asleep = float(np.mean((gates[:, layer] == 0).all(axis=1)))
        assert sum(row["top1_fraction"] for row in part) == pytest.approx(1.0 - asleep)
        assert sum(row["mean_gate"] for row in part) == pytest.approx(
            float(gates[:, layer].sum(axis=1).mean()), rel=1e-5
        )


def test_a_scan_of_air_has_rows_without_numbers(tmp_path: Path):
    rows = routing_table(np.zeros((0, 4, 3)))
    assert len(rows) == 12
    assert all(row[key] is None for row in rows for key in GATE_NUMBERS)
    write_routing_csv(tmp_path / "routing.csv", rows)
    assert (tmp_path / "routing.csv").read_text().splitlines()[1] == "1,attention,1,,,,"
    ElementTree.fromstring(routing_svg(rows))


@pytest.mark.parametrize(
    ("gates", "weights"),
    [
        (np.zeros((2, 3, 3)), None),
        (np.zeros((2, 4)), None),
        (np.full((1, 2, 2), np.nan), None),
        (np.full((1, 2, 2), -0.1), None),
        (np.zeros((2, 2, 2)), [1.0]),
        (np.zeros((2, 2, 2)), [1.0, -1.0]),
    ],
)
def test_what_are_no_gates_is_an_error(gates, weights):
    with pytest.raises(ValueError):
        routing_table(gates, weights)


def test_csv_gives_the_rows_back(tmp_path: Path):
    rows = routing_table(np.maximum(0, np.random.default_rng(0).normal(0.2, 0.3, (7, 10, 3))))
    path = tmp_path / "routing.csv"
    write_routing_csv(path, rows)
    with open(path, encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == "block,bank,expert,mean_gate,sd_gate,closed_fraction,top1_fraction".split(",")
    for one, other in zip(read, rows, strict=True):
        assert one["bank"] == other["bank"]
        assert all(float(one[key]) == other[key] for key in ROUTING_COLUMNS if key != "bank")


def test_heat_map_has_every_number_and_needs_nothing():
    rows = routing_table(np.maximum(0, np.random.default_rng(0).normal(0.2, 0.3, (7, 10, 3))))
    svg = routing_svg(rows)
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag == "text"]
    for row in rows:
        assert f"{row['mean_gate']:.3f}" in texts
        assert f"{100 * row['closed_fraction']:.0f} % closed" in texts
    assert not {"<script", "http", "href", "url("} & set(svg.split())
    assert all(word not in svg for word in ("<script", "http", "href", "url("))
    hostile = [{**row, "bank": '"><script>'} for row in rows[:3]]
    assert "<script>" not in routing_svg(hostile)
