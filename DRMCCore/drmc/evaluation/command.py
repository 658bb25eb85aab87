"""The command `drmc evaluate`: networks beside filters and other networks, on unseen patients.

  drmc evaluate DATASET                     the test patients; Gaussian filter and the default model
  drmc evaluate DATASET --model RUN         and the model that drmc train has written into RUN
  drmc evaluate evaluation.json             methods, centers and real scans of a configuration
  drmc evaluate DATASET --model ORGANS      a model of organs against the labels of simulated patients

Writes table.md, evaluation.html, evaluation.json, results.csv and lesions.csv (organs.csv for organs) into
the output folder; that of a dataset is DATASET-evaluation beside it. Finished cases are kept there: the same
command continues where it was stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from drmc.errors import InputError
from drmc.runtime.progress import Reporter, add_progress_argument

if TYPE_CHECKING:
    from drmc.evaluation.config import EvaluationConfig
    from drmc.models.card import ModelEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc evaluate`."""
    parser.add_argument(
        "config",
        type=Path,
        metavar="CONFIG",
        help="evaluation configuration (a JSON file), or a dataset: its folder or dataset.json",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="with a dataset: a model to evaluate, by its name, its file, or the folder of its training; may "
        "be repeated",
    )
    parser.add_argument(
        "--split", metavar="SPLIT", help="with a dataset: the patients of that split (default test)"
    )
    parser.add_argument(
        "--template",
        type=Path,
        metavar="DATASET",
        help="with a model of organs: the mean shape is that of the training patients of this dataset "
        "(default: of the dataset itself, if it has any)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="folder of the results, in place of the default"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="patients that are worked on at the same time (default 1)"
    )
    parser.add_argument(
        "--card",
        action="store_true",
        help="keep the result beside the model as well (NAME.evaluation.json), with a summary in its card",
    )
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Evaluates and prints the tables; returns the exit code."""
    dataset = _dataset(arguments.config)
    organs = _organ_model(arguments, dataset)
    if organs is not None and dataset is not None:
        return _run_organs(arguments, reporter, dataset, organs)
    if arguments.template is not None:
        raise InputError("--template goes with a model of organs: name one by --model, or leave it out")
    from drmc.denoising.staging import Claim
    from drmc.evaluation.estimators import Methods
    from drmc.evaluation.run import evaluate
    from drmc.evaluation.tables import markdown
    from drmc.models.card import check_card
    from drmc.models.evaluation import write_evaluation

    config = _config(arguments)
    output = Path(config.output)
    with Claim(output) as claim:
        claim.take()
        if arguments.card:
            check_card(Methods(config).reference_model)
        result = evaluate(config, reporter, workers=arguments.workers)
    kept = write_evaluation(Methods(config).reference_model, result) if arguments.card else None
    reporter.result(output=str(output), aims=result["aims"])
    if arguments.progress != "json":
        print(f"model {result['model']['name']}, {result['data']} data; PSNR {result['psnr']}")
        print(markdown(result), end="")
        if kept is not None:
            print(f"with the model: {kept}")
        print(f"results: {output / 'results.csv'}\nreport: {output / 'evaluation.html'}")
    return 0


def _dataset(path: Path) -> Path | None:
    """The folder of a dataset, None for a configuration."""
    from drmc.datasets.manifest import MANIFEST

    return path if path.is_dir() else path.parent if path.name == MANIFEST else None


def _organ_model(arguments: argparse.Namespace, dataset: Path | None) -> ModelEntry | None:
    """The model of organs that is named; None where the models denoise."""
    from drmc.evaluation.defaults import models_of
    from drmc.models.card import ORGANS

    if dataset is None:
        return None
    named = [entry for model in arguments.model for entry in models_of(model)]
    found = [entry for entry in named if entry.task == ORGANS]
    if found and len(named) > 1:
        raise InputError(f"--model {found[0].name}: a model of organs is evaluated alone: name one model")
    return found[0] if found else None


def _run_organs(arguments: argparse.Namespace, reporter: Reporter, dataset: Path, model: ModelEntry) -> int:
    from drmc.denoising.staging import Claim
    from drmc.evaluation.defaults import output_of
    from drmc.evaluation.organs.run import OrganRequest, evaluate_organs
    from drmc.evaluation.organs.tables import markdown
    from drmc.models.card import check_card
    from drmc.models.evaluation import write_evaluation

    output = output_of(dataset, arguments.output)
    request = OrganRequest(
        dataset.resolve(), output, model, split=arguments.split or "test", template=arguments.template
    )
    with Claim(output) as claim:
        claim.take()
        if arguments.card:
            check_card(model)
        result = evaluate_organs(request, reporter, workers=arguments.workers)
    kept = write_evaluation(model, result) if arguments.card else None
    reporter.result(output=str(output), aims=result["aims"])
    if arguments.progress != "json":
        print(f"model {result['model']['name']}, {result['data']} data. {result['sentence']}\n")
        print(markdown(result), end="")
        if kept is not None:
            print(f"with the model: {kept}")
        print(f"results: {output / 'organs.csv'}\nreport: {output / 'evaluation.html'}")
    return 0


def _config(arguments: argparse.Namespace) -> EvaluationConfig:
    """The configuration of the file, or that of a dataset."""
    from drmc.evaluation.config import EvaluationConfig
    from drmc.evaluation.defaults import dataset_evaluation

    path: Path = arguments.config
    dataset = _dataset(path)
    if dataset is not None:
        config = dataset_evaluation(dataset, arguments.model, arguments.output)
        return config if arguments.split is None else replace(config, split=arguments.split)
    for option in ("model", "split"):
        if given := getattr(arguments, option):
            given = given[0] if option == "model" else given
            where = "'methods'" if option == "model" else "'split'"
            raise InputError(f"--{option} {given}: goes with a dataset; {path} has its own {where}")
    config = EvaluationConfig.read(path)
    return config if arguments.output is None else replace(config, output=str(arguments.output))
