"""The command `drmc evaluate CONFIG`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from drmc.progress import Reporter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc evaluate`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="evaluation configuration, a JSON file")
    parser.add_argument(
        "--card", action="store_true", help="write the result into the model's card as well (NAME.json)"
    )


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Prints the comparison table and, line by line, what is under way; returns the exit code."""
    from drmc.evaluation.compare import evaluate, markdown_table
    from drmc.evaluation.config import EvaluationConfig
    from drmc.models import add_to_card, find_model

    config = EvaluationConfig.read(arguments.config)
    result = evaluate(config, report=lambda text: print(text, file=sys.stderr, flush=True))
    print(f"model {result['model']['name']}, {result['data']} data; PSNR {result['psnr']}")
    print(markdown_table(result), end="")
    if arguments.card:
        facts = {key: value for key, value in result.items() if key != "model"}
        print(f"card: {add_to_card(find_model(config.model), {'evaluation': facts})}")
    print(f"results: {Path(config.output) / 'results.csv'}")
    return 0
