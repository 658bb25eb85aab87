"""Which expert has the largest gate in each bank, by center: figure 3b of the paper, from real routing.

The unit is a tile with body, as in the routing table; every patient counts alike (the mean over the doses of
a patient, then over patients). A tile whose gates are all 0 counts for no expert. Banks are in router order.
Two centers are compared by the Jensen-Shannon distance of their distributions, mean over the banks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import Any

import numpy as np

from drmc.measures.rows import BANKS, RoutingRow
from drmc.pages.colors import NEUTRAL, series_color
from drmc.pages.plot import Plot

PERMUTATIONS = 2000
NOTE = (
    "For each bank in router order (block and bank: a attention, f FFN) the share of tiles with body in "
    "which an expert has the largest gate; every patient counts alike. Gray: tiles in which all gates are 0. "
    "Distance: Jensen-Shannon (base 2, 0 to 1) of two centers' distributions, mean over the banks; p: share "
    "of random exchanges of patients between both centers that give at least this distance."
)


@dataclass(frozen=True)
class ScanExperts:
    """Shares of tiles of a scan in which each expert is first, (L, M + 1); last that of none."""

    center: str
    patient: str
    shares_LM: np.ndarray


def first_experts(rows: Sequence[RoutingRow]) -> np.ndarray | None:
    """The shares (L, M + 1) of a routing table, last that of tiles without any; None without numbers."""
    if not rows or any(row["top1_fraction"] is None for row in rows):
        return None
    shares = np.array([row["top1_fraction"] for row in rows], float)
    shares = shares.reshape(-1, max(row["expert"] for row in rows))
    return np.concatenate([shares, np.clip(1 - shares.sum(1, keepdims=True), 0, 1)], axis=1)


def distribution(scans: Sequence[ScanExperts], *, seed: int = 0) -> dict[str, Any]:
    """The distribution of each center and the distances between centers, JSON-able.

    Args:
        scans: all scans; several of a patient count by their mean.
        seed: of the permutations.
    """
    by_center: dict[str, dict[str, list[np.ndarray]]] = {}
    for scan in scans:
        by_center.setdefault(scan.center, {}).setdefault(scan.patient, []).append(scan.shares_LM)
    patients = {
        center: np.stack([np.mean(found, axis=0) for found in of_center.values()])
        for center, of_center in sorted(by_center.items())
    }
    rng = np.random.default_rng(seed)
    distances = []
    for a, b in combinations(patients, 2):
        distance = js_distance(patients[a].mean(0), patients[b].mean(0))
        both, count = np.concatenate([patients[a], patients[b]]), len(patients[a])
        as_far = 0
        for _ in range(PERMUTATIONS):
            order = rng.permutation(len(both))
            mixed = js_distance(both[order[:count]].mean(0), both[order[count:]].mean(0))
            as_far += mixed >= distance - 1e-12
        p = (1 + as_far) / (1 + PERMUTATIONS)
        distances.append({"centers": [a, b], "distance": distance, "p": p})
    centers = {
        center: {"patients": len(found), "shares": found.mean(0).tolist()}
        for center, found in patients.items()
    }
    return {"centers": centers, "distances": distances, "permutations": PERMUTATIONS}


def js_distance(first_LM: np.ndarray, second_LM: np.ndarray) -> float:
    """Mean over the banks of the Jensen-Shannon distance (base 2): 0 for equal, 1 for disjoint shares."""
    middle = (first_LM + second_LM) / 2

    def divergence(shares: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(shares > 0, shares * np.log2(shares / middle), 0.0)
        return terms.sum(1)

    found = (divergence(first_LM) + divergence(second_LM)) / 2
    return float(np.sqrt(np.clip(found, 0, None)).mean())


def figure_svg(center: str, found: Mapping[str, Any]) -> str:
    """Stacked bars of one center; `found` is its element of `centers` of `distribution`."""
    shares = np.array(found["shares"])
    banks, experts = len(shares), shares.shape[1] - 1
    plot = Plot(f"{center} (patients: {found['patients']})", (0.0, float(banks)), (0.0, 1.0), size=(360, 220))
    names = {k + 0.5: f"{k // len(BANKS) + 1}{'af'[k % len(BANKS)]}" for k in range(banks)}
    plot.axes(names, [0.0, 0.25, 0.5, 0.75, 1.0], "bank", "share of tiles")
    for k, of_bank in enumerate(shares):
        bottom = 0.0
        for expert, share in enumerate(of_bank.tolist()):
            if share > 0:
                last = expert == experts
                name = "no expert" if last else f"expert {expert + 1}"
                title = f"{names[k + 0.5]}, {name}: {100 * share:.0f} %"
                color = NEUTRAL if last else series_color(expert)
                plot.box(k + 0.12, bottom, k + 0.88, bottom + share, color, title)
            bottom += share
    return plot.svg(f"Share of tiles in which each expert is first, center {center}")


def figures_html(found: Mapping[str, Any]) -> str:
    """The figures of all centers, the key of the colors, and the table of distances."""
    experts = max(len(one["shares"][0]) - 1 for one in found["centers"].values())
    keys = [(f"expert {k + 1}", series_color(k)) for k in range(experts)] + [("none", NEUTRAL)]
    key = " ".join(f'<span style="color:{color}">&#9632;</span> {name}' for name, color in keys)
    figures = "".join(figure_svg(center, one) for center, one in found["centers"].items())
    lines = "".join(
        f'<tr><td class="text">{escape(" and ".join(one["centers"]))}</td><td>{one["distance"]:.3f}</td>'
        f"<td>{_probability(one['p'], found['permutations'])}</td></tr>"
        for one in found["distances"]
    )
    table = (
        '<div class="scroll"><table><thead><tr><th class="text">Centers</th><th>Distance</th><th>p</th></tr>'
        f"</thead><tbody>{lines}</tbody></table></div>"
        if lines
        else ""
    )
    return f'<div class="experts">{figures}</div><p class="note">{key}</p>{table}<p class="note">{NOTE}</p>'


def _probability(p: float, permutations: int) -> str:
    least = 1 / (1 + permutations)
    return f"{p:.4f}" if p > least else f"{math.ceil(1e4 * least) / 1e4:.4f}"


STYLE = ".experts { display: flex; flex-wrap: wrap; gap: 8px 16px; } .experts svg { max-width: 340px; }"


def columns_and_rows(found: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Header and rows of first_experts.csv; an empty expert stands for tiles whose gates are all 0."""
    rows: list[list[Any]] = []
    for center, one in found["centers"].items():
        for layer, of_bank in enumerate(one["shares"]):
            for expert, share in enumerate(of_bank):
                name = "" if expert == len(of_bank) - 1 else expert + 1
                rows.append([center, layer // 2 + 1, BANKS[layer % 2], name, repr(float(share))])
    return ("center", "block", "bank", "expert", "share"), rows
