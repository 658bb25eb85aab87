"""The command `drmc evaluate CONFIG`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc evaluate`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="evaluation configuration, a JSON file")


def run(arguments: argparse.Namespace) -> int:
    """Prints the comparison table; returns the exit code."""
    from drmc.evaluation.compare import evaluate, markdown_table
    from drmc.evaluation.config import EvaluationConfig

    config = EvaluationConfig.read(arguments.config)
    result = evaluate(config, report=lambda text: print(text, file=sys.stderr, flush=True))
    print(f"model {result['model']['name']}, {result['data']} data; PSNR {result['psnr']}")
    print(markdown_table(result), end="")
    print(f"results: {Path(config.output) / 'results.csv'}")
    return 0
