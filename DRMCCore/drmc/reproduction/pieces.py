"""One piece of the queue, as a worker process does it: it returns what became of it, and never raises."""

from __future__ import annotations

import io
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drmc.datasets.manifest import read_manifest
from drmc.errors import DRMCError, InputError
from drmc.evaluation.config import EvaluationConfig, Method
from drmc.files import is_full_disk
from drmc.reproduction.config import ReproductionConfig
from drmc.reproduction.patients import simulate
from drmc.reproduction.states import DONE, EVALUATION, FAILED, Piece, read_state, training_state
from drmc.runtime.progress import JsonProgress
from drmc.runtime.threads import limit_threads

Report = Callable[[float], None]
INTERFERENCE, ROUTING = "interference", "routing"


def run_piece(task: tuple[ReproductionConfig, Piece], report: Report) -> dict[str, Any]:
    """Does a piece; returns its state: `state`, `message` of a failure, `seconds`, and facts about it."""
    config, piece = task
    began = time.monotonic()
    try:
        if config.threads:
            limit_threads(config.threads)
        found = {"state": DONE, **_WORK[piece.kind](config, piece, report)}
    except DRMCError as error:
        found = {"state": FAILED, "message": " ".join(str(error).split())}
    except Exception as error:
        if os.environ.get("DRMC_DEBUG") == "1":
            traceback.print_exc()
        found = {"state": FAILED, "message": _line(error)}
    return {"piece_seconds": round(time.monotonic() - began, 1), **found}


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and is_full_disk(error):
        return f"{error.filename or 'the disk'}: {error.strerror}: make room and start again"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _patients(config: ReproductionConfig, piece: Piece, report: Report) -> dict[str, Any]:
    return {"patients": simulate(config, config.patients[int(piece.name) - 1], report)}


def _training(config: ReproductionConfig, piece: Piece, report: Report) -> dict[str, Any]:
    from drmc.reproduction.trainings import run_training

    return run_training(config, piece.name, report)


def _needed(config: ReproductionConfig, name: str) -> dict[str, Any]:
    """The state of a training that is done. Raises InputError where it is not."""
    found = training_state(config, name)
    if found["state"] != DONE:
        raise InputError(f"needs the training {name}, which is not done")
    return found


def _interference(config: ReproductionConfig, piece: Piece, report: Report) -> dict[str, Any]:
    from drmc.training.interference.run import Options, write_interference

    figure = config.figure_1b
    assert figure is not None  # a piece of the queue only then
    kept = _needed(config, figure.training)["kept"]
    before, output = read_state(config, piece), Path(config.output)
    done: dict[str, str] = before.get("results", {}) if before.get("models") == kept else {}
    options = Options(
        centers=config.known_centers,
        batches=figure.batches,
        blocks=figure.blocks,
        prepared=output / "prepared",
    )
    for number, (step, file) in enumerate(kept.items()):
        folder = f"{INTERFERENCE}/step{step}"
        if not (step in done and (output / folder / "interference.json").is_file()):
            write_interference(str(output / file), Path(config.dataset), output / folder, options)
        done[step] = f"{folder}/interference.json"
        report((number + 1) / len(kept))
    return {"models": kept, "results": done}


def _routing(config: ReproductionConfig, piece: Piece, report: Report) -> dict[str, Any]:
    from drmc.evaluation.profile_command import FIRST_EXPERTS, measure, write_first_experts
    from drmc.inference.denoiser import Denoiser
    from drmc.models.registry import find_model

    models = _needed(config, config.figure_3b)["models"]
    if "" not in models:
        raise InputError(f"figure_3b: {config.figure_3b} has no model for every center")
    output, entry = Path(config.output), find_model(Path(config.output) / models[""])
    result = f"{ROUTING}/{FIRST_EXPERTS}"
    before = read_state(config, piece)
    if before.get("sha256") != entry.sha256 or not (output / result).is_file():
        centers = (*config.known_centers, *config.unknown_centers)
        cases = [
            c for c in read_manifest(Path(config.test_dataset)) if c.split == "test" and c.center in centers
        ]
        experts = []
        denoiser = Denoiser.from_model(entry)
        for number, case in enumerate(cases):
            experts += measure({case.center: [case]}, denoiser, None)[1]
            report((number + 1) / len(cases))
        if not experts:
            raise InputError(f"{config.test_dataset}: no scan of a test patient holds a body")
        write_first_experts(output / ROUTING, experts, entry.name)
    return {"sha256": entry.sha256, "result": result}


def methods_of(config: ReproductionConfig) -> list[Method]:
    """The rows and points of figures whose trainings are done, as methods of the evaluation."""
    output = Path(config.output)
    found: dict[str, Method] = {}
    for row in config.rows:
        if row.filter:
            found[row.filter] = Method(row.filter)
    wanted = {(name, row.center) for row in config.rows for name in row.trainings}
    wanted |= {(name, "") for name in (*config.figure_3c.values(), *config.figure_3d.values())}
    for name, center in sorted(wanted, key=lambda one: (list(config.trainings).index(one[0]), one[1])):
        state = training_state(config, name)
        if state["state"] != DONE:
            continue
        models = {c: str(output / path) for c, path in state["models"].items()}
        if center:
            if center in models:
                found[f"{name}-{center}"] = Method(f"{name}-{center}", model=models[center])
        elif set(models) == {""}:
            found[name] = Method(name, model=models[""])
        else:
            general = models.pop("", None)
            if general is None and state["general"]:
                of_general = training_state(config, state["general"]).get("models", {})
                general = str(output / of_general[""]) if "" in of_general else None
            found[name] = Method(name, model=general, models=models)
    return list(found.values())


def evaluation_config(config: ReproductionConfig) -> EvaluationConfig:
    """The evaluation of all that is done. Raises InputError where no network is."""
    methods = methods_of(config)
    networks = [method.name for method in methods if not method.is_filter]
    if not networks:
        raise InputError("no training is done that a row names: there is nothing to evaluate")
    filters = len(networks) < len(methods)
    mine = [name for row in config.rows if row.row == config.reference for name in row.methods]
    return EvaluationConfig(
        dataset=config.test_dataset,
        output=str(Path(config.output) / EVALUATION),
        methods=tuple(methods),
        reference=next((name for name in mine if name in networks), networks[0]),
        known_centers=config.known_centers,
        tuning_dataset=config.dataset if filters else None,
        spots=0,
        keep_means=False,  # methods are compared as they were published
    )


def _evaluation(config: ReproductionConfig, piece: Piece, report: Report) -> dict[str, Any]:
    from drmc.evaluation.estimators import Methods
    from drmc.evaluation.run import evaluate
    from drmc.evaluation.store import MEASURES

    wanted = evaluation_config(config)
    facts = Methods(wanted).facts()
    cases = [case.case_id for case in read_manifest(Path(config.test_dataset)) if case.split == "test"]
    before, output = read_state(config, piece), Path(wanted.output)
    found = {"methods": facts, "cases": cases, "measures": MEASURES}
    if (
        any(before.get(key) != value for key, value in found.items())
        or not (output / "evaluation.json").is_file()
    ):
        evaluate(wanted, _Shares(report))
    return found


class _Shares(JsonProgress):
    """A reporter that passes on the share that is done, and nothing else."""

    def __init__(self, report: Report):
        super().__init__(io.StringIO())
        self._report = report

    def progress(self, done: float, total: int, seconds_left: float | None, counted: str) -> None:
        """Passes on the share."""
        self._report(done / max(total, 1))

    def _write(self, event: str, **fields: Any) -> None:
        pass


_WORK: dict[str, Callable[[ReproductionConfig, Piece, Report], dict[str, Any]]] = {
    "patients": _patients,
    "training": _training,
    "interference": _interference,
    "routing": _routing,
    "evaluation": _evaluation,
}
