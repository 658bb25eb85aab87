"""The command `drmc intervals`: intervals of what full dose would have shown of a lesion, for a model.

`drmc intervals calibrate MODEL DATASET` denoises every low-dose image of the split and learns from the
lesions how far full dose is from the denoised values; with --card the calibration goes into the model's card
(NAME.json), and `drmc denoise` then states an interval for each lesion. `drmc intervals check MODEL DATASET`
measures on other patients how many lesions lie in their intervals. Neither may see patients on which the
model was trained. What is learned, and what is promised: drmc/measures/intervals.py, docs/intervals.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.datasets.manifest import SPLITS, is_simulated, read_manifest, select
from drmc.errors import InputError, NothingMarkedError
from drmc.runtime.arguments import add_network_arguments
from drmc.runtime.progress import Reporter, add_progress_argument, table_lines

if TYPE_CHECKING:
    from drmc.datasets.manifest import Case
    from drmc.evaluation.store import Store
    from drmc.imaging.geometry import Geometry
    from drmc.inference.denoiser import Denoiser
    from drmc.measures.intervals import CalibrationLesion
    from drmc.models.card import ModelEntry
    from drmc.runtime.control import Progress
    from drmc.segments.segment import Segment

_DEFAULT_SPLIT = {"calibrate": "validation", "check": "test"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc intervals`."""
    parser.add_argument(
        "action", choices=tuple(_DEFAULT_SPLIT), help="calibrate a model, or check its calibration"
    )
    parser.add_argument("model", metavar="MODEL", help="name of an installed model, or a weight file")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder with dataset.json")
    parser.add_argument(
        "--split", choices=SPLITS, help="patients to measure (default: validation, and test for check)"
    )
    parser.add_argument(
        "--centers", metavar="C1,C2", help="centers to measure, or patterns such as R2042-* (default: all)"
    )
    parser.add_argument("--card", action="store_true", help="write the result into the model's card")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="keep the measured lesions there, so that the same command continues where it was stopped",
    )
    add_network_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Measures, prints what was found, and returns the exit code."""
    from drmc.denoising.staging import check_output_folder
    from drmc.inference.denoiser import Denoiser
    from drmc.measures.intervals import CARD_KEY, Calibration, calibrate, coverage
    from drmc.models.card import add_to_card, card_path, check_card
    from drmc.models.registry import find_model
    from drmc.models.weights import load_network

    entry = find_model(arguments.model)
    if arguments.card:
        check_card(entry)
    if arguments.output is not None:
        check_output_folder(arguments.output)
    calibration = None
    if arguments.action == "check":
        if CARD_KEY not in entry.card:
            raise InputError(
                f"model {entry.name}: its card has no lesion intervals: make them with "
                f"drmc intervals calibrate {arguments.model} DATASET --card"
            )
        calibration = Calibration.read(entry.card[CARD_KEY], card_path(entry.path))
    split = arguments.split or _DEFAULT_SPLIT[arguments.action]
    cases = _cases(arguments, split)
    if split == "train":
        reporter.notice(
            "split 'train': on patients that the model was trained on, intervals come out too narrow"
        )
    network, tile = load_network(entry)
    denoiser = Denoiser(network, tile, device=arguments.device, precision=arguments.precision)
    lesions = measure(cases, denoiser, entry, reporter, arguments.output)
    if not lesions:
        raise InputError(f"{arguments.dataset}: no patient in the split '{split}' has a measurable lesion")
    facts = {
        "split": split,
        "simulated": is_simulated(arguments.dataset),
        "doses": sorted({factor for case in cases for factor in case.low}),
        "precision": denoiser.precision,
    }
    if calibration is None:
        calibration = calibrate(lesions, facts)
        result = calibration.to_dict()
        content = result
    else:
        result = {**facts, **coverage(calibration, lesions)}
        content = {**calibration.to_dict(), "check": result}
    card = add_to_card(entry, {CARD_KEY: content}) if arguments.card else None
    reporter.result(**{arguments.action: result}, card=None if card is None else str(card))
    if arguments.progress == "json":
        return 0
    if arguments.json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return 0
    print(calibrated_text(result) if arguments.action == "calibrate" else checked_text(result))
    print("not written: give --card to write it into the model's card" if card is None else f"card: {card}")
    return 0


def _cases(arguments: argparse.Namespace, split: str) -> list[Case]:
    """The cases of the split, in the manifest's order; of --centers if given."""
    manifest = read_manifest(arguments.dataset)
    names = [name for part in (arguments.centers or "*").split(",") if (name := part.strip())]
    try:
        chosen = {case.case_id for found in select(manifest, split, tuple(names)).values() for case in found}
    except InputError as error:
        raise InputError(f"{arguments.dataset}: {error}") from None
    return [case for case in manifest if case.case_id in chosen]


def measure(
    cases: list[Case],
    denoiser: Denoiser,
    entry: ModelEntry,
    reporter: Reporter,
    keep: Path | None = None,
) -> list[CalibrationLesion]:
    """The lesions of every low-dose image of these cases.

    Args:
        cases: cases of a dataset; those without lesions give none.
        denoiser: the model, ready.
        entry: the model.
        reporter: progress goes there.
        keep: folder in which the lesions of finished images are kept, and found again.
    """
    todo = [(case, factor) for case in cases if case.lesions is not None for factor in sorted(case.low)]
    found: list[CalibrationLesion] = []
    began = time.perf_counter()
    for done, (case, factor) in enumerate(todo):
        part = lambda tiles, count, _, done=done: reporter.progress(
            done + 0.99 * tiles / count, len(todo), None, counted="scan"
        )
        image = _Image(case, factor, keep)
        kept = image.kept(entry, denoiser)
        found += image.measure(entry, denoiser, part) if kept is None else kept
        left = (time.perf_counter() - began) / (done + 1) * (len(todo) - done - 1)
        reporter.progress(done + 1, len(todo), left, counted="scan")
    return found


@dataclass(frozen=True)
class _Image:
    """A low-dose image of a case; its lesions are kept in the folder `keep`, if there is one."""

    case: Case
    factor: float
    keep: Path | None

    def kept(self, entry: ModelEntry, denoiser: Denoiser) -> list[CalibrationLesion] | None:
        """The lesions that were measured before with this model; None if they were not."""
        from drmc.measures.intervals import CalibrationLesion

        if self.keep is None:
            return None
        record = self._store(self.keep).get(self._key(entry, denoiser))
        return None if record is None else [CalibrationLesion.from_dict(one) for one in record["lesions"]]

    def measure(self, entry: ModelEntry, denoiser: Denoiser, progress: Progress) -> list[CalibrationLesion]:
        """The lesions, denoised and at full dose."""
        from drmc.denoising.pipeline import denoise_volume
        from drmc.measures.intervals import calibration_lesions

        case = self.case
        low, full = case.read(case.low[self.factor]), case.read(case.full)
        if not low.geometry.matches(full.geometry):
            raise InputError(f"case {case.case_id}: low and full dose lie on different grids")
        lesions: list[CalibrationLesion] = []
        if segments := _segments(case, full.geometry):
            denoised, _ = denoise_volume(low, denoiser, progress=progress)
            lesions = calibration_lesions(
                low.suv_array(),
                denoised.suv_array(),
                full.suv_array(),
                segments,
                full.geometry.rounded().spacing_zyx,
                center=case.center,
                patient=case.patient,
                image=f"{case.case_id} low {self.factor:g}",
            )
        if self.keep is not None:
            record = {"lesions": [lesion.to_dict() for lesion in lesions]}
            self._store(self.keep).put(self._key(entry, denoiser), record)
        return lesions

    def _store(self, keep: Path) -> Store:
        from drmc.evaluation.store import Store, file_in

        return Store(file_in(keep, f"{self.case.case_id} {self.factor:g}"))

    def _key(self, entry: ModelEntry, denoiser: Denoiser) -> str:
        from drmc.evaluation.store import checksums, key_of
        from drmc.measures.lesion_features import FEATURES

        case = self.case
        files = dict(case.files())
        used = [
            (name, files[name])
            for name in (f"low {self.factor:g}", "full", "lesions", "facts")
            if name in files
        ]
        names = [case.center, case.patient, list(FEATURES)]
        return key_of("intervals", names, checksums(used), entry.sha256, denoiser.precision)


def _segments(case: Case, geometry: Geometry) -> list[Segment]:
    from drmc.segments.reading import read_segments

    try:
        return [] if case.lesions is None else read_segments(case.lesions, geometry)[0]
    except NothingMarkedError:  # a patient without a lesion in the field of view
        return []


_NAMES = {"suv_mean": "SUVmean", "suv_peak": "SUVpeak", "suv_max": "SUVmax"}


def calibrated_text(calibration: dict[str, Any]) -> str:
    """What was calibrated, for people."""
    made = calibration["made_from"]
    return (
        f"calibrated on {made['lesions']} lesions in {made['images']} images of {made['patients']} patients "
        f"of {made['centers']} centers; the intervals hold for lesions of a new {made['unit']}"
    )


def checked_text(check: dict[str, Any]) -> str:
    """The coverage, for people."""
    first = (
        f"{check['stated']} of {check['lesions']} lesions have an interval, of {check['patients']} patients "
        f"of {check['centers']} centers; aim 90 %"
    )
    if not check["stated"]:
        return first
    percent = lambda share: f"{100 * share:.1f} %"
    cells = []
    for metric, name in _NAMES.items():
        one = check[metric]
        shares = [one[key] for key in ("coverage", "of_lesions", "below", "above", "width")]
        cells.append([name, "all", str(check["stated"]), *map(percent, shares)])
        for size in one["sizes"]:
            low, high = size["mm"]
            title = f"{low:g} to {high:g} mm" if high is not None else f"from {low:g} mm"
            covered, width = percent(size["coverage"]), percent(size["width"])
            cells.append([name, title, str(size["lesions"]), "", covered, "", "", width])
    titles = ["", "diameter", "lesions", "mean of centers", "of lesions", "below", "above", "median width"]
    lines = [first, *table_lines(titles, cells), "per center, SUVmean / SUVpeak / SUVmax:"]
    for center, one in check["suv_mean"]["by_center"].items():
        covered = " / ".join(percent(check[metric]["by_center"][center]["coverage"]) for metric in _NAMES)
        lines.append(f"  {center}: {covered} of {one['lesions']}")
    return "\n".join(lines)
