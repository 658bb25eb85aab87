"""The command `drmc evaluate`: networks beside filters and other networks, on unseen patients.

  drmc evaluate DATASET                     the test patients; Gaussian filter and the default model
  drmc evaluate DATASET --model RUN         and the model that drmc train has written into RUN
  drmc evaluate evaluation.json             methods, centers and real scans of a configuration

Writes table.md, evaluation.html, evaluation.json, results.csv and lesions.csv into the output folder; that of
a dataset is DATASET-evaluation beside it. Finished cases are kept there: the same command continues where it
was stopped.
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
    from drmc.denoising.staging import Claim
    from drmc.evaluation.estimators import Methods
    from drmc.evaluation.run import evaluate
    from drmc.evaluation.tables import markdown
    from drmc.models.evaluation import write_evaluation

    config = _config(arguments)
    output = Path(config.output)
    with Claim(output) as claim:
        claim.take()
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


def _config(arguments: argparse.Namespace) -> EvaluationConfig:
    """The configuration of the file, or that of a dataset."""
    from drmc.datasets.manifest import MANIFEST
    from drmc.evaluation.config import EvaluationConfig
    from drmc.evaluation.defaults import dataset_evaluation

    path: Path = arguments.config
    if path.is_dir() or path.name == MANIFEST:
        dataset = path if path.is_dir() else path.parent
        return dataset_evaluation(dataset, arguments.model, arguments.output)
    if arguments.model:
        raise InputError(f"--model {arguments.model[0]}: goes with a dataset; {path} has its own 'methods'")
    config = EvaluationConfig.read(path)
    return config if arguments.output is None else replace(config, output=str(arguments.output))
