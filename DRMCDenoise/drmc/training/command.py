"""The command `drmc train CONFIG`, the same program as `torchrun ... -m drmc.training CONFIG`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc train`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="training configuration, a JSON file")
    parser.add_argument(
        "--progress", choices=("text", "json"), default="text", help="form of the progress lines"
    )


def run(arguments: argparse.Namespace) -> int:
    """Trains or resumes; returns the exit code (0 also after a stop that saved)."""
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


def _print_text(record: dict) -> None:
    if record["event"] == "progress":
        left = record["seconds"] / record["step"] * (record["steps"] - record["step"])
        losses = " ".join(f"{c} {v:.5f}" for c, v in record["loss"].items())
        text = f"step {record['step']}/{record['steps']}  loss {losses}  {left / 60:.0f} min left"
    elif record["event"] == "validation":
        text = "validation PSNR [dB] " + " ".join(f"{c} {v:.2f}" for c, v in record["psnr"].items())
    else:
        text = f"{record['event']} at step {record['step']} of {record['steps']}"
    print(text, file=sys.stderr, flush=True)
