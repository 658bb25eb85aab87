"""The evaluation of a model of organs: from a dataset to result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import drmc
from drmc.datasets.manifest import Case, is_simulated, read_manifest
from drmc.errors import DRMCError, InputError
from drmc.evaluation.organs import paper
from drmc.evaluation.organs.aims import aims
from drmc.evaluation.organs.cases import LABEL_MAP, PROCEDURAL, Condition, facts_of
from drmc.evaluation.organs.groups import CONDITIONS, find, groups, spread
from drmc.evaluation.organs.page import page_html
from drmc.evaluation.organs.records import NETWORK, TEMPLATE, Group, OrganEvaluation, Row
from drmc.evaluation.organs.scores import ScanScores
from drmc.evaluation.organs.tables import markdown, rows_csv
from drmc.evaluation.organs.task import CaseResult, OrganTask
from drmc.evaluation.organs.template import Template, make_template
from drmc.evaluation.running import TaskRunner
from drmc.evaluation.store import file_in
from drmc.files import jsonable, write_json, write_text
from drmc.inference.device import choose_device, choose_precision
from drmc.models.card import ORGANS, ModelEntry, trained_centers
from drmc.runtime import hardware
from drmc.runtime.progress import Reporter


@dataclass(frozen=True)
class OrganRequest:
    """What is evaluated, on what.

    Attributes:
        dataset: of the patients, with organ labels.
        output: folder of the results.
        model: of organs.
        split: of the patients.
        template: dataset whose patients of the split `train` make the template; None: `dataset`, if it has
            such patients.
        device: as in `drmc segment`.
        precision: the same.
    """

    dataset: Path
    output: Path
    model: ModelEntry
    split: str = "test"
    template: Path | None = None
    device: str = "auto"
    precision: str = "auto"


def evaluate_organs(
    request: OrganRequest, reporter: Reporter | None = None, *, workers: int = 1
) -> OrganEvaluation:
    """Labels every patient in every condition, compares with the simulation's labels, and writes the files.

    Writes organs.csv, table.md, evaluation.json and evaluation.html into the output folder. The scores of
    each image are kept under `organs` there, by the content of the files and of the model.

    Args:
        request: what is evaluated.
        reporter: shows the progress.
        workers: processes that share the patients.

    Raises:
        InputError: something is missing.
        DRMCError: the result cannot be written.
    """
    if request.model.task != ORGANS:
        raise InputError(f"{request.model.path}: is no model of organs")
    cases = _cases(request)
    facts = {case.case_id: facts_of(case) for case in cases}
    precision = choose_precision(request.precision, choose_device(request.device), [])
    template = _template(request)
    run = TaskRunner(request.output, reporter, workers)
    run.total = len(cases)
    tasks = [
        OrganTask(
            case,
            request.model,
            template,
            request.device,
            precision,
            file_in(request.output, "organs", case.center, case.case_id),
            run.threads,
        )
        for case in cases
    ]
    done: list[CaseResult] = run(tasks)
    rows = [
        row for case, one in zip(cases, done, strict=True) for row in _rows(case, facts[case.case_id], one)
    ]
    records = [record for one in done for _, record in one["conditions"]]
    found = groups(rows)
    known = trained_centers(request.model.card)
    result: OrganEvaluation = jsonable(
        {
            "task": ORGANS,
            "model": {"name": request.model.name, "sha256": request.model.sha256},
            "data": "simulated",
            "version": drmc.__version__,
            "device": records[0]["device"],
            "precision": precision,
            "hardware": hardware.describe(),
            "patients": _counts(cases, facts),
            "known_centers": None if known is None else list(known),
            "template": template and {"patients": template.patients, "sha256": template.sha256},
            "sentence": paper.sentence(found),
            "seconds": spread(record["seconds"] for record in records),
            "gap": _gap(found),
            "groups": found,
            "aims": aims(found),
        }
    )
    _write(request.output, result, rows)
    return result


def _cases(request: OrganRequest) -> list[Case]:
    cases = [case for case in read_manifest(request.dataset) if case.split == request.split]
    if not cases:
        raise InputError(f"{request.dataset}: no patient in the split '{request.split}': simulate some")
    if not is_simulated(request.dataset):
        raise InputError(f"{request.dataset}: only labels of simulated patients are known by now")
    return cases


def _template(request: OrganRequest) -> Template | None:
    folder = request.template or request.dataset
    training = [case for case in read_manifest(folder) if case.split == "train" and case.organs is not None]
    if not training and request.template is None:
        return None
    return make_template(training)


def _rows(case: Case, facts: Mapping[str, Any], done: CaseResult) -> list[Row]:
    def row(method: str, condition: Condition, scores: ScanScores) -> Row:
        return {
            "method": method,
            "center": case.center,
            "case": case.case_id,
            "anatomy": facts["anatomy"],
            "tracer": facts["tracer"],
            "corrected": condition.corrected,
            "dose_reduction_factor": condition.dose_reduction_factor,
            "scores": scores,
        }

    rows = [row(NETWORK, Condition(*one), record["scores"]) for one, record in done["conditions"]]
    if done["template"] is not None:
        rows.append(row(TEMPLATE, Condition(True, 1.0), done["template"]))
    return rows


def _counts(cases: Sequence[Case], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Patients by anatomy and center; of label maps, persons are fewer than scans."""
    result: dict[str, dict[str, int]] = {}
    for case in cases:
        by_center = result.setdefault(facts[case.case_id]["anatomy"], {})
        by_center[case.center] = by_center.get(case.center, 0) + 1
    return result


def _gap(found: Sequence[Group]) -> dict[str, float | None]:
    """Mean Dice of procedural patients minus that of label maps, by condition."""
    result: dict[str, float | None] = {}
    for condition in CONDITIONS:
        pair = [find(found, anatomy=anatomy, condition=condition) for anatomy in (PROCEDURAL, LABEL_MAP)]
        drawn, shapes = (None if one is None else one["dice"]["mean"] for one in pair)
        result[condition] = None if drawn is None or shapes is None else drawn - shapes
    return result


def _write(output: Path, result: OrganEvaluation, rows: Sequence[Row]) -> None:
    try:
        write_text(output / "organs.csv", rows_csv(rows))
        write_text(output / "table.md", markdown(result))
        write_text(output / "evaluation.html", page_html(result))
        write_json(output / "evaluation.json", result)
    except OSError as error:
        raise DRMCError(
            f"{output}: cannot be written ({error.strerror}): make room and run the same command again, "
            "what was computed is kept"
        ) from None
