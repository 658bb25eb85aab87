"""Routing of a made-up run, in the scene and in the panel."""

from __future__ import annotations

import numpy as np

from support.slicer.scene import oblique, phantom, volumeNode

LAYERS, EXPERTS = 4, 3


def gates(seed: int) -> np.ndarray:
    """Gates of 6 tiles, float64 (6, LAYERS, EXPERTS)."""
    return np.maximum(0, np.random.default_rng(seed).normal(0.3, 0.2, (6, LAYERS, EXPERTS)))


def summaryOf(*, lesions=("Hot",), centers=(), unlike=False):
    """The part of summary.json that says something of the routing."""
    from drmc.measures.routing import gates_of, routing_table
    from drmc.measures.routing_profiles import ScanGates, make_profiles, nearest_center

    body = routing_table(gates(0))
    scans = [
        ScanGates(name, f"{name}{number}", gates_of(body) * (1 + index) + 0.01 * number + 0.4 * unlike)
        for index, name in enumerate(centers)
        for number in range(2)
    ]
    return {
        "routing": body,
        "routing_lesions": {name: routing_table(gates(5 + i)) for i, name in enumerate(lesions)},
        "routing_nearest": nearest_center(make_profiles(scans), body) if centers else None,
    }


def shown(panel, slicer, summary):
    """The summary's routing in the scene and in the panel; returns the table node."""
    from DRMCDenoiseLib.routingnodes import showRouting

    volume = volumeNode(slicer, phantom(), oblique(), units="{SUVbw}g/ml")
    node = showRouting(summary, panel._parameterNode.routingTable, volume)
    panel._parameterNode.routingTable = node
    return node
