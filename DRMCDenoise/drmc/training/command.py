"""The command `drmc train CONFIG`, the same program as `torchrun ... -m drmc.training CONFIG`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from drmc.progress import Reporter, add_progress_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc train`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="training configuration, a JSON file")
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Trains or resumes; returns the exit code (0 also after a stop that saved). The records of
    the training are its progress."""
    from drmc.training.config import TrainingConfig
    from drmc.training.loop import train

    config = TrainingConfig.read(arguments.config)
    report = _print_json if arguments.progress == "json" else _print_text
    path = train(config, report=report)
    if arguments.progress == "text":
        print(f"saved: {path}")
    return 0


def _print_json(record: dict) -> None:
    print(json.dumps(record), flush=True)


def _values(of_centers: dict[str, float | None], digits: int) -> str:
    """None stands for a number that was not finite."""
    return " ".join(f"{c} {'-' if v is None else f'{v:.{digits}f}'}" for c, v in of_centers.items())


def _print_text(record: dict) -> None:
    if record["event"] == "progress":
        left = record["seconds"] / record["step"] * (record["steps"] - record["step"])
        losses = _values(record["loss"], 5)
        text = f"step {record['step']}/{record['steps']}  loss {losses}  {left / 60:.0f} min left"
    elif record["event"] == "validation":
        text = (
            f"validation PSNR [dB] {_values(record['psnr'], 2)} (low dose {_values(record['psnr_low'], 2)})"
        )
    else:
        text = f"{record['event']} at step {record['step']} of {record['steps']}"
    print(text, file=sys.stderr, flush=True)
