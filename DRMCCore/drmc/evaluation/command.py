"""The command `drmc evaluate CONFIG`: a network beside filters and other networks, on unseen patients.

Writes table.md, evaluation.html, evaluation.json, results.csv and lesions.csv into the output folder of the
configuration. Finished cases are kept there: the same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from drmc.runtime.progress import Reporter, add_progress_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc evaluate`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="evaluation configuration, a JSON file")
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
    from drmc.evaluation.config import EvaluationConfig
    from drmc.evaluation.estimators import Methods
    from drmc.evaluation.run import evaluate
    from drmc.evaluation.tables import markdown
    from drmc.models.evaluation import write_evaluation

    config = EvaluationConfig.read(arguments.config)
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
