"""The command `drmc profile MODEL DATASET`: which experts a network uses at each training center.

Every low-dose image of the split goes whole through the denoiser; the mean gates over its body make the
profile of its center. With --card they go into the model's card (NAME.json), and `drmc denoise` then says to
which center a scan's routing is nearest, and when it is unlike all of them. What is measured, and how far is
far: the head of drmc/routing_profiles.py.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from drmc.datasets.manifest import SPLITS, read_manifest, select
from drmc.errors import InputError
from drmc.runtime.arguments import add_network_arguments
from drmc.runtime.progress import Reporter, add_progress_argument

if TYPE_CHECKING:
    from drmc.datasets.manifest import Case
    from drmc.inference.denoiser import Denoiser
    from drmc.measures.routing_profiles import ScanGates
    from drmc.models.card import ModelEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc profile`."""
    parser.add_argument("model", metavar="MODEL", help="name of an installed model, or a weight file")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder with dataset.json")
    parser.add_argument(
        "--split", choices=SPLITS, default="validation", help="patients to measure (default validation)"
    )
    parser.add_argument(
        "--centers", metavar="C1,C2", help="centers to measure (default: those that the model was trained on)"
    )
    parser.add_argument("--card", action="store_true", help="write the profiles into the model's card")
    add_network_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the profiles as JSON")
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Measures, prints the distances to the limit, and returns the exit code."""
    from drmc.inference.denoiser import Denoiser
    from drmc.measures.routing_profiles import CARD_KEY, make_profiles
    from drmc.models.card import add_to_card
    from drmc.models.registry import find_model
    from drmc.models.weights import load_network

    entry = find_model(arguments.model)
    manifest = read_manifest(arguments.dataset)
    cases = select(manifest, arguments.split, _centers(arguments, entry, manifest))
    network, tile = load_network(entry)
    if network.config.gates_shape == (0, 0):
        raise InputError(f"{entry.path}: a network of kind {network.config.kind} has no routing to profile")
    denoiser = Denoiser(network, tile, device=arguments.device, precision=arguments.precision)
    scans = measure([case for found in cases.values() for case in found], denoiser, reporter)
    if not scans:
        raise InputError(f"{arguments.dataset}: no scan in the split '{arguments.split}' holds a body")
    profiles = {**make_profiles(scans), "split": arguments.split, "precision": denoiser.precision}
    card = add_to_card(entry, {CARD_KEY: profiles}) if arguments.card else None
    reporter.result(profiles=profiles, card=None if card is None else str(card))
    if arguments.progress == "json":
        return 0
    if arguments.json:
        print(json.dumps(profiles, indent=2))
        return 0
    for center, found in profiles["centers"].items():
        print(f"{center}: {found['patients']} patients, {found['scans']} scans")
    limit = profiles["limit"]
    print("limit: not known, no center has two patients" if limit is None else f"limit: {limit:.2f}")
    print("not written: give --card to write them into the model's card" if card is None else f"card: {card}")
    return 0


def _centers(arguments: argparse.Namespace, entry: ModelEntry, manifest: list[Case]) -> tuple[str, ...]:
    """The centers of --centers, else those of the split that the model's card names, else all of it."""
    if arguments.centers:
        return tuple(name for part in arguments.centers.split(",") if (name := part.strip()))
    found = {case.center for case in manifest if case.split == arguments.split}
    training = entry.card.get("training")
    patients = training.get("patients") if isinstance(training, dict) else None
    trained = set(patients) if isinstance(patients, dict) else found
    names = tuple(sorted(found & trained))
    if not names:
        which = (
            f" of the centers that the model was trained on ({', '.join(patients or ())})" if found else ""
        )
        raise InputError(f"{arguments.dataset}: has no patient in the split '{arguments.split}'{which}")
    return names


def measure(cases: list[Case], denoiser: Denoiser, reporter: Reporter) -> list[ScanGates]:
    """The mean gates of every low-dose image of these cases; a scan without a body is left out."""
    from drmc.measures.routing_profiles import ScanGates, body_gates

    todo = [(case, factor) for case in cases for factor in sorted(case.low)]
    found: list[ScanGates] = []
    began = time.perf_counter()
    for done, (case, factor) in enumerate(todo):
        part = lambda tiles, count, _, done=done: reporter.progress(
            done + 0.99 * tiles / count, len(todo), None, counted="scan"
        )
        gates = body_gates(case.read(case.low[factor]), denoiser, part)
        if gates is None:
            reporter.notice(f"{case.low[factor]}: no body found, left out")
        else:
            found.append(ScanGates(case.center, case.patient, gates))
        left = (time.perf_counter() - began) / (done + 1) * (len(todo) - done - 1)
        reporter.progress(done + 1, len(todo), left, counted="scan")
    return found
