"""The comparison on unseen patients and of real full-dose scans: from configuration to result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import drmc
from drmc.datasets.manifest import Case, is_simulated, read_manifest
from drmc.errors import DRMCError, InputError
from drmc.evaluation.aims import aims
from drmc.evaluation.config import NONLOCAL_MEANS, EvaluationConfig
from drmc.evaluation.estimators import Estimator, Methods
from drmc.evaluation.paired_tests import comparisons, rules
from drmc.evaluation.records import (
    CasePictures,
    CaseRecord,
    Choice,
    EvaluationResult,
    RealRecord,
    RealResult,
    SpotsRecord,
    Tuning,
)
from drmc.evaluation.report import evaluation_html
from drmc.evaluation.results import Results, pooled, table
from drmc.evaluation.running import TaskRunner
from drmc.evaluation.spots import summarize
from drmc.evaluation.store import file_in
from drmc.evaluation.tables import lesions_csv, markdown, results_csv, spots_csv
from drmc.evaluation.tasks import CaseTask, RealTask, SpotsTask, TuningTask
from drmc.evaluation.tuning import SLABS, Choices, choose, grid_of
from drmc.files import write_json, write_text
from drmc.models.card import trained_centers
from drmc.runtime import hardware
from drmc.runtime.progress import Reporter

PSNR_RULE = "inside the body, SUV, range 20, unclipped, scan's own grid (psnr_2mm: on the network's grid)"


def evaluate(
    config: EvaluationConfig, reporter: Reporter | None = None, *, workers: int = 1
) -> EvaluationResult:
    """Runs the comparison and writes its files.

    Writes results.csv, lesions.csv, spots.csv, table.md, evaluation.json and evaluation.html into the output
    folder. The results of each case are kept under `cases`, `tuning`, `spots` and `real_scans` there as soon
    as they are known, by the content of its files, the method's parameters and the model's checksum: an
    interrupted run continues, and a new method computes only its own.

    Args:
        config: what is compared, on what.
        reporter: shows the progress.
        workers: processes that share the patients.

    Returns:
        The content of evaluation.json.

    Raises:
        InputError: something is missing or contradicts the rest. Models, packages and the choice of patients
            are checked before anything is computed.
        DRMCError: the result cannot be written.
    """
    methods = Methods(config)
    cases = _cases(config)
    tuning_cases = _tuning_cases(config, methods, cases)
    known = _known_centers(config, methods)
    simulated = config.dataset is not None and bool(cases) and is_simulated(Path(config.dataset))
    run = _Run(Path(config.output), reporter, workers)
    tuning = run.tuning_tasks(config, methods, cases, tuning_cases)
    real, spots = run.real_tasks(config, methods), run.spots_tasks(config, methods, cases)
    run.total = len(tuning) + len(cases) + len(real) + len(spots)
    choices = _choices(config, tuning, run(tuning))
    tasks = [run.case_task(case, methods, choices, simulated, shown=case in _shown(cases)) for case in cases]
    results, records_of_tasks = Results(), run(tasks)
    for task, records in zip(tasks, records_of_tasks, strict=True):
        for factor, estimators in task.jobs.items():
            results.add(task.case, factor, list(zip(estimators, records[factor], strict=True)))
    pictures = _pictures(tasks, records_of_tasks)
    scans = _real_results(real, run(real))
    model = methods.reference_model
    result: EvaluationResult = {
        "model": {"name": model.name, "sha256": model.sha256},
        "data": "simulated" if simulated else "as given",
        "version": drmc.__version__,
        "reference": methods.reference,
        "methods": methods.facts(),
        "known_centers": None if known is None else list(known),
        "patients": _counts(cases),
        "tuning": _tuning_facts(config, choices),
        "psnr": PSNR_RULE,
        "tests": rules(methods.reference),
        "device": methods.device_name,
        "hardware": hardware.describe(),
        "precision": methods.precision,
        "table": table(results, known, _labels(tasks)),
        "pooled": pooled(results, known),
        "comparisons": comparisons(results, methods.reference, known),
        "aims": aims(results, scans, methods.reference, known),
        "real_scans": scans,
        "spots": summarize(_kept(spots, run(spots)), known),
    }
    _write(Path(config.output), result, results, pictures)
    return result


def _write(
    output: Path, result: EvaluationResult, results: Results, pictures: Sequence[CasePictures]
) -> None:
    try:
        write_text(output / "results.csv", results_csv(results))
        write_text(output / "lesions.csv", lesions_csv(results))
        write_text(output / "spots.csv", spots_csv(result["spots"]))
        write_text(output / "table.md", markdown(result))
        write_text(output / "evaluation.html", evaluation_html(result, results, pictures))
        write_json(output / "evaluation.json", result)
    except OSError as error:
        raise DRMCError(
            f"{output}: cannot be written ({error.strerror}): make room and run the same command again, "
            "what was computed is kept"
        ) from None


def _real_results(
    tasks: Sequence[RealTask], records_of_tasks: Sequence[Sequence[RealRecord]]
) -> dict[str, list[RealResult]]:
    """The records of the real scans by name, each with its method."""
    return {
        task.scan.name: [
            {"method": estimator.method, **record}
            for estimator, record in zip(task.estimators, records, strict=True)
        ]
        for task, records in zip(tasks, records_of_tasks, strict=True)
    }


def _kept(
    tasks: Sequence[SpotsTask], records_of_tasks: Sequence[Sequence[SpotsRecord]]
) -> list[tuple[str, str, SpotsRecord]]:
    """Center, method and record of virtual spots of every task and network."""
    return [
        (task.case.center, estimator.method, record)
        for task, records in zip(tasks, records_of_tasks, strict=True)
        for estimator, record in zip(task.estimators, records, strict=True)
    ]


def _labels(tasks: Sequence[CaseTask]) -> dict[tuple[str, float, str], str]:
    """Method with its parameters by center, dose reduction factor and method."""
    return {
        (task.case.center, factor, estimator.method): estimator.label()
        for task in tasks
        for factor, estimators in task.jobs.items()
        for estimator in estimators
    }


# ---- what is compared
def _cases(config: EvaluationConfig) -> list[Case]:
    if config.dataset is None:
        return []
    cases = [c for c in read_manifest(Path(config.dataset)) if c.split == config.split]
    if config.centers is not None:
        cases = [c for c in cases if c.center in config.centers]
    if not cases:
        raise InputError(
            f"{config.dataset}: no patient in the split '{config.split}' of the centers asked for"
        )
    if wrong := [case.case_id for case in cases if min(case.low) < 1]:
        raise InputError(f"{config.dataset}: case {wrong[0]} has a dose reduction factor below 1")
    return cases


def _tuning_cases(config: EvaluationConfig, methods: Methods, cases: Sequence[Case]) -> list[Case]:
    """The patients that filters are tuned on; none of them may be a patient of the test."""
    if config.tuning_dataset is None or not any(method.is_filter for method in methods.rows):
        return []
    found = [c for c in read_manifest(Path(config.tuning_dataset)) if c.split == config.tuning_split]
    tested = {case.full.resolve() for case in cases}
    if both := [case.case_id for case in found if case.full.resolve() in tested]:
        raise InputError(
            f"{config.tuning_dataset}: case {both[0]} is a patient of the test: tune on other patients"
        )
    return found


def _known_centers(config: EvaluationConfig, methods: Methods) -> tuple[str, ...] | None:
    """Those of the configuration, else of all trainings in the reference's card; None where neither says."""
    if config.known_centers is not None:
        return config.known_centers
    return trained_centers(methods.reference_model.card)


def _shown(cases: Sequence[Case]) -> list[Case]:
    """The first patient of each center."""
    return list({case.center: case for case in reversed(cases)}.values())


def _counts(cases: Sequence[Case]) -> dict[str, int]:
    return {
        center: len({case.patient for case in cases if case.center == center})
        for center in sorted({case.center for case in cases})
    }


# ---- running
class _Run(TaskRunner):
    """Makes tasks of an output folder, and runs them."""

    def tuning_tasks(
        self, config: EvaluationConfig, methods: Methods, cases: Sequence[Case], tuning: Sequence[Case]
    ) -> list[TuningTask]:
        """A task per filter, dose that is tested, and tuning patient that was scanned at it."""
        tasks = []
        for center, factor in sorted({(case.center, factor) for case in cases for factor in case.low}):
            found = [case for case in tuning if case.center == center and factor in case.low]
            for name in [method.name for method in methods.rows if method.is_filter]:
                for case in found[: config.nlm_patients] if name in NONLOCAL_MEANS else found:
                    store = file_in(self.output, "tuning", center, f"{case.case_id}-{factor:g}-{name}")
                    grid = grid_of(config, name)
                    tasks.append(TuningTask(case, factor, name, grid, store, self.threads))
        return tasks

    def case_task(
        self, case: Case, methods: Methods, choices: Choices, simulated: bool, *, shown: bool
    ) -> CaseTask:
        """The task of a test patient at all its doses."""
        jobs = {}
        for factor in sorted(case.low):
            chosen = choices.get((case.center, factor), {})
            filters = {name: choice["parameters"] for name, choice in chosen.items()}
            jobs[factor] = methods.estimators(case.center, filters)
        store = file_in(self.output, "cases", case.center, case.case_id)
        return CaseTask(case, jobs, store, simulated, shown, self.threads)

    def real_tasks(self, config: EvaluationConfig, methods: Methods) -> list[RealTask]:
        """A task per real scan, with the networks that serve every center.

        A real scan has no center by which filters and specialists could be chosen.
        """
        networks: list[Estimator] = [
            estimator
            for method in methods.rows
            if not method.is_filter
            for estimator in methods.networks(method, None)
        ]
        return [
            RealTask(scan, networks, file_in(self.output, "real_scans", scan.name), self.threads)
            for scan in config.real_scans
        ]

    def spots_tasks(
        self, config: EvaluationConfig, methods: Methods, cases: Sequence[Case]
    ) -> list[SpotsTask]:
        """A task for each of the first patients of a center, at its largest dose reduction factor.

        Measured are the networks that serve the center; a mean over specialists of other centers is not one.
        """
        tasks = []
        for center in dict.fromkeys(case.center for case in cases):
            served = [methods.networks(method, center) for method in methods.rows if not method.is_filter]
            networks = [several[0] for several in served if len(several) == 1]
            first = {case.patient: case for case in reversed(cases) if case.center == center}
            for case in list(reversed(first.values()))[: config.spots] if networks else ():
                store = file_in(self.output, "spots", center, case.case_id)
                tasks.append(SpotsTask(case, max(case.low), networks, store, self.threads))
        return tasks


def _choices(config: EvaluationConfig, tasks: Sequence[TuningTask], scores: Sequence[list[float]]) -> Choices:
    found: dict[tuple[str, float], dict[str, Choice]] = {}
    rows: dict[tuple[str, float, str], list[list[float]]] = {}
    for task, one in zip(tasks, scores, strict=True):
        rows.setdefault((task.case.center, task.factor, task.filter), []).append(one)
    for (center, factor, name), several in rows.items():
        chosen = choose(grid_of(config, name), several)
        if chosen is not None:
            found.setdefault((center, factor), {})[name] = chosen
    return found


def _tuning_facts(config: EvaluationConfig, choices: Choices) -> Tuning | None:
    if not choices:
        return None
    return {
        "rule": "highest mean PSNR per center and dose on other patients",
        "split": config.tuning_split,
        "gaussian": "isotropic, on whole patients",
        "nlm": f"scikit-image, fast form, own grid; tuned on {SLABS.format(config.nlm_slab_mm)}",
        "chosen": [
            {"center": center, "dose_reduction_factor": factor, "filter": name, **choice}
            for (center, factor), chosen in choices.items()
            for name, choice in chosen.items()
        ],
    }


def _pictures(
    tasks: Sequence[CaseTask], results: Sequence[Mapping[float, Sequence[CaseRecord]]]
) -> list[CasePictures]:
    """The pictures for the report: every image of the first patient of each center at its lowest dose."""
    found: list[CasePictures] = []
    for task, records in zip(tasks, results, strict=True):
        if not task.shown:
            continue
        factor = max(task.jobs)
        shown = [
            (estimator.label() + (f" of {estimator.center}" if estimator.center else ""), views)
            for estimator, record in zip(task.jobs[factor], records[factor], strict=True)
            if (views := record["pictures"])
        ]
        found.append(
            {
                "center": task.case.center,
                "case": task.case.case_id,
                "dose_reduction_factor": factor,
                "pictures": shown,
            }
        )
    return found
