"""The command `drmc profile MODEL DATASET`: which experts a network uses at each training center.

Every low-dose image of the split goes whole through the denoiser; the mean gates over its body make the
profile of its center. With --card they go into the model's card (NAME.json), and `drmc denoise` then says to
which center a scan's routing is nearest, and when it is unlike all of them. What is measured, and how far is
far: the head of drmc/measures/routing_profiles.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.datasets.manifest import SPLITS, read_manifest, select
from drmc.errors import InputError
from drmc.runtime.arguments import add_network_arguments
from drmc.runtime.progress import Reporter, add_progress_argument

if TYPE_CHECKING:
    from drmc.datasets.manifest import Case
    from drmc.evaluation.first_experts import ScanExperts
    from drmc.inference.denoiser import Denoiser
    from drmc.measures.routing_profiles import ScanGates
    from drmc.models.card import ModelEntry


FIRST_EXPERTS = "first_experts.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc profile`."""
    parser.add_argument("model", metavar="MODEL", help="name of an installed model, or a weight file")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder with dataset.json")
    parser.add_argument(
        "--split", choices=SPLITS, default="validation", help="patients to measure (default validation)"
    )
    parser.add_argument(
        "--centers",
        metavar="C1,C2",
        help="centers to measure, a pattern such as R2041-* as one (default: those of the model's training)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write which expert is first in each bank, by center: first_experts.json, .csv, .html",
    )
    parser.add_argument("--card", action="store_true", help="write the profiles into the model's card")
    add_network_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the profiles as JSON")
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Measures, prints the distances to the limit, and returns the exit code."""
    from drmc.denoising.staging import check_output_folder
    from drmc.inference.denoiser import Denoiser
    from drmc.measures.routing_profiles import CARD_KEY, make_profiles
    from drmc.models.card import add_to_card, check_card
    from drmc.models.registry import find_model
    from drmc.models.weights import load_network

    entry = find_model(arguments.model)
    if arguments.card:
        check_card(entry)
    if arguments.output is not None:
        check_output_folder(arguments.output)
    manifest = read_manifest(arguments.dataset)
    cases = select(manifest, arguments.split, _centers(arguments, entry, manifest))
    network, tile = load_network(entry)
    if network.config.gates_shape == (0, 0):
        raise InputError(f"{entry.path}: a network of kind {network.config.kind} has no routing to profile")
    denoiser = Denoiser(network, tile, device=arguments.device, precision=arguments.precision)
    scans, experts = measure(cases, denoiser, reporter)
    if not scans:
        raise InputError(f"{arguments.dataset}: no scan in the split '{arguments.split}' holds a body")
    if arguments.output is not None:
        write_first_experts(arguments.output, experts, entry.name)
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
    """The centers of --centers, else those of the split that the model's card names, else all of it.

    As in a training, a name may be a pattern, whose centers are one.
    """
    if arguments.centers:
        return tuple(name for part in arguments.centers.split(",") if (name := part.strip()))
    found = {case.center for case in manifest if case.split == arguments.split}
    training = entry.card.get("training")
    patients = training.get("patients") if isinstance(training, dict) else None
    trained = patients if isinstance(patients, dict) else found
    names = tuple(sorted(name for name in trained if any(fnmatchcase(center, name) for center in found)))
    if not names:
        which = (
            f" of the centers that the model was trained on ({', '.join(patients or ())})" if found else ""
        )
        raise InputError(f"{arguments.dataset}: has no patient in the split '{arguments.split}'{which}")
    return names


def measure(
    cases: Mapping[str, Sequence[Case]], denoiser: Denoiser, reporter: Reporter | None
) -> tuple[list[ScanGates], list[ScanExperts]]:
    """The routing of every low-dose image of these cases, by center; a scan without a body is left out.

    Returns:
        The mean gates of each scan, and the shares of tiles in which each expert is first.
    """
    from drmc.evaluation.first_experts import ScanExperts, first_experts
    from drmc.measures.routing import gates_of
    from drmc.measures.routing_profiles import ScanGates, scan_routing

    todo = [
        (center, case, factor)
        for center, found_cases in cases.items()
        for case in found_cases
        for factor in sorted(case.low)
    ]
    found: list[ScanGates] = []
    experts: list[ScanExperts] = []
    began = time.perf_counter()
    for done, (center, case, factor) in enumerate(todo):

        def part(tiles: int, count: int, _: float | None, done: int = done) -> None:
            if reporter is not None:
                reporter.progress(done + 0.99 * tiles / count, len(todo), None, "scan")

        rows = scan_routing(case.read(case.low[factor]), denoiser, part)
        gates, first = gates_of(rows), first_experts(rows)
        if gates is not None and first is not None:
            patient = f"{case.center} {case.patient}"  # patients of two centers may have one name
            found.append(ScanGates(center, patient, gates))
            experts.append(ScanExperts(center, patient, first))
        elif reporter is not None:
            reporter.notice(f"{case.low[factor]}: no body found, left out")
        left = (time.perf_counter() - began) / (done + 1) * (len(todo) - done - 1)
        if reporter is not None:
            reporter.progress(done + 1, len(todo), left, "scan")
    return found, experts


def write_first_experts(folder: Path, experts: list[ScanExperts], model: str) -> dict[str, Any]:
    """Writes first_experts.json, .csv and .html, and returns the content of the first.

    Raises:
        OSError: the folder cannot be written.
    """
    from drmc.evaluation.first_experts import STYLE, columns_and_rows, distribution, figures_html
    from drmc.files import csv_text, write_json, write_text
    from drmc.pages.markup import section
    from drmc.pages.page import page
    from drmc.texts import RESEARCH_USE

    found = {"model": model, **distribution(experts)}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "first_experts.csv", csv_text(*columns_and_rows(found)))
    body = section("First experts by bank and center", figures_html(found))
    title = f"Routing of {model}"
    write_text(
        folder / "first_experts.html",
        page(title, body, banner=RESEARCH_USE, footer=RESEARCH_USE, style=STYLE),
    )
    write_json(folder / FIRST_EXPERTS, found)
    return found
