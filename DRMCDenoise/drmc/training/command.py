"""The command `drmc train CONFIG`, the same program as `torchrun ... -m drmc.training CONFIG`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from drmc.progress import Reporter, add_progress_argument
from drmc.training import launch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc train`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="training configuration, a JSON file")
    parser.add_argument(
        "--page",
        action="store_true",
        help="do not train: write the page of curves (training.html) again from the log",
    )
    add_progress_argument(parser)
    launch.add_arguments(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Trains or resumes; returns the exit code (0 also after a stop that saved). The records of
    the training are its progress."""
    if arguments.check:
        return launch.report_checks(arguments)
    from drmc.training.config import TrainingConfig
    from drmc.training.loop import train

    config = TrainingConfig.read(arguments.config)
    if arguments.page:
        from drmc.training.page import write_page

        print(f"saved: {write_page(config.output)}")
        return 0
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
        pace = record["patches_per_second"]
        text = (
            f"step {record['step']}/{record['steps']}  loss {_values(record['loss'], 5)}  "
            f"{'-' if pace is None else f'{pace:.3g}'} patches/s  {left / 60:.0f} min left"
        )
    elif record["event"] == "validation":
        gains = "  ".join(f"{center} {_gain(record, center)}" for center in record["psnr"])
        text = f"validation, PSNR gain [dB] (best Gaussian filter; share of attainable): {gains}"
    else:
        text = f"{record['event']} at step {record['step']} of {record['steps']}"
        if "tensorboard" in record:
            text += f" (TensorBoard: {'written' if record['tensorboard'] else 'not installed'})"
    print(text, file=sys.stderr, flush=True)


def _gain(record: dict, center: str) -> str:
    """E.g. "+3.21 (+2.10; 30 %)", with "-" for what is no finite number."""
    low, share = record["psnr_low"][center], record["share"][center]
    mine, gaussian = (
        "-" if value is None or low is None else f"{value - low:+.2f}"
        for value in (record["psnr"][center], record["psnr_gaussian"][center])
    )
    return f"{mine} ({gaussian}; {'-' if share is None else f'{100 * share:.0f} %'})"
