"""The routing table: which experts the network opened, layer by layer, over the tiles of a scan.

`gates_TLM`: T tiles, L layers in router order (attention bank, then FFN bank of the first block, then the
next block), M experts; gates are 0 or more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drmc.files import csv_text, write_text
from drmc.measures.rows import BANKS, GATE_NUMBERS, ROUTING_COLUMNS, RoutingRow


def routing_table(
    gates_TLM: np.ndarray, weights: Sequence[float] | np.ndarray | None = None
) -> list[RoutingRow]:
    """One row per block, bank and expert, in router order. Blocks and experts count from 1, as in the paper.

    mean_gate, sd_gate (population) over the tiles; closed_fraction: fraction of tiles whose gate is exactly
    0; top1_fraction: fraction of tiles in which this expert has the largest gate of its bank (the first of
    equal ones). A tile in which every expert of the bank is closed counts for no expert, so the fractions
    then sum to less than 1. If no tile has weight (a scan of air), the four numbers are None.

    Args:
        gates_TLM: gates (T, L, M) of all tiles; (T, 0, 0), of a network without routing, results in no row.
        weights: weight (T,) of each tile, at least 0, such as the voxels of a lesion in it; default: all
            alike.

    Raises:
        ValueError: the gates have another number of axes, an odd number of layers, or negative or non-finite
            values, or the weights do not fit.
    """
    gates = np.asarray(gates_TLM, dtype=np.float64)
    if gates.shape[1:] == (0, 0):
        return []
    if gates.ndim != 3 or gates.shape[1] % 2 or gates.shape[2] == 0:
        raise ValueError(
            f"gates have the axes (tiles, layers, experts) and two layers per block, not {gates.shape}"
        )
    if not np.isfinite(gates).all() or (gates < 0).any():
        raise ValueError("gates are finite and 0 or more")
    tiles, layers, experts = gates.shape
    share = np.ones(tiles) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (tiles,) or not np.isfinite(share).all() or (share < 0).any():
        raise ValueError(f"{tiles} tiles need as many finite weights of 0 or more")
    total = float(share.sum())
    if total > 0:
        share = share / total
        mean = np.einsum("t,tlm->lm", share, gates)
        spread = np.sqrt(np.einsum("t,tlm->lm", share, (gates - mean) ** 2))
        closed = np.einsum("t,tlm->lm", share, (gates == 0).astype(np.float64))
        top = (np.arange(experts) == gates.argmax(axis=2)[:, :, None]) & (gates.max(axis=2) > 0)[:, :, None]
        first = np.einsum("t,tlm->lm", share, top.astype(np.float64))
    rows: list[RoutingRow] = []
    for layer in range(layers):
        for expert in range(experts):
            row: RoutingRow = {
                "block": layer // 2 + 1,
                "bank": BANKS[layer % 2],
                "expert": expert + 1,
                "mean_gate": None,
                "sd_gate": None,
                "closed_fraction": None,
                "top1_fraction": None,
            }
            if total > 0:
                for key, values_LM in zip(GATE_NUMBERS, (mean, spread, closed, first), strict=True):
                    row[key] = float(values_LM[layer, expert])
            rows.append(row)
    return rows


def gates_of(rows: Sequence[RoutingRow]) -> np.ndarray | None:
    """The mean gates of a routing table as an array (L, M); None if the table has no numbers."""
    if not rows or any(row["mean_gate"] is None for row in rows):
        return None
    return np.array([row["mean_gate"] for row in rows]).reshape(-1, max(row["expert"] for row in rows))


def routing_csv_text(rows: Iterable[RoutingRow]) -> str:
    """The table as CSV text: '.' as decimal point, full precision, an empty cell for an undefined number."""
    return csv_text(ROUTING_COLUMNS, map(_cells, rows))


def write_routing_csv(path: str | os.PathLike[str], rows: Iterable[RoutingRow]) -> None:
    """Writes the routing table (UTF-8, atomically)."""
    write_text(path, routing_csv_text(rows))


def write_routing_lesions_csv(
    path: str | os.PathLike[str], tables: Mapping[str, Iterable[RoutingRow]]
) -> None:
    """Writes the routing tables of segments, by their names, as one with a leading column `segment`."""
    cells = ([segment, *_cells(row)] for segment, rows in tables.items() for row in rows)
    write_text(path, csv_text(("segment", *ROUTING_COLUMNS), cells))


def _cells(row: RoutingRow) -> list[Any]:
    numbers = ("" if (value := row[key]) is None else repr(float(value)) for key in GATE_NUMBERS)
    return [row["block"], row["bank"], row["expert"], *numbers]
