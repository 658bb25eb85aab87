"""The command `drmc train`, the same program as `torchrun ... -m drmc.training`.

  drmc train training.json
  drmc train --preset default --dataset DATASET --output RUN --set steps=5000 --set network.channels=32
  drmc train --preset paper --dataset DATASET --output RUN --write-config training.json
  torchrun --standalone --nproc-per-node=4 --max-restarts=3 -m drmc.training training.json

When it is started again, a run continues from its last checkpoint. SIGTERM saves a checkpoint and ends it
with exit code 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import write_json
from drmc.runtime.progress import Reporter, add_progress_argument
from drmc.training import check_command
from drmc.training.check_command import report_checks
from drmc.training.tasks.organ_settings import CONDITIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `drmc train`."""
    parser.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG", help="training configuration, a JSON file"
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="settings for what is not set otherwise: default, paper, tiny, or of a method",
    )
    parser.add_argument("--dataset", metavar="FOLDER", help="folder with dataset.json")
    parser.add_argument("--output", metavar="FOLDER", help="folder for checkpoints, log and model")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, e.g. steps=5000, network.channels=32, centers='[\"C1\"]'; may be given again",
    )
    parser.add_argument(
        "--write-config",
        type=Path,
        metavar="FILE",
        help="write the whole configuration to FILE and do not train",
    )
    parser.add_argument(
        "--page",
        action="store_true",
        help="do not train: write the page of curves (training.html) again from the log",
    )
    add_progress_argument(parser)
    check_command.add_arguments(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Trains or resumes, and returns the exit code: 0, also after a stop that saved.

    The records of the training are its progress. Of several processes on a machine only the first prints a
    refusal.

    Raises:
        DRMCError: the training is refused or fails.
    """
    try:
        return _run(arguments)
    except InputError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        return error.exit_code


def _run(arguments: argparse.Namespace) -> int:
    if arguments.check:
        if arguments.config is None:
            raise InputError(
                "--check: name the configuration file that torchrun is to read (--write-config makes one)"
            )
        return report_checks(arguments)
    from drmc.training.config import TrainingConfig
    from drmc.training.loop import train

    config = TrainingConfig.from_dict(_values_of(arguments), str(arguments.config or "drmc train"))
    if arguments.write_config is not None:
        write_json(arguments.write_config, config.to_dict())
        print(f"saved: {arguments.write_config}")
        return 0
    if arguments.page:
        from drmc.training.page import write_page

        print(f"saved: {write_page(config.output)}")
        return 0
    report = _print_json if arguments.progress == "json" else _print_text
    path = train(config, report=report)
    if arguments.progress == "text" and os.environ.get("RANK", "0") == "0":
        print(f"saved: {path}")
    return 0


def _values_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of the configuration file, overridden by those of the command line."""
    from drmc.training.config import read_values

    values = read_values(arguments.config) if arguments.config else {}
    for key in ("preset", "dataset", "output"):
        if (value := getattr(arguments, key)) is not None:
            values[key] = value if key == "preset" else str(Path(value).resolve())
    for text in arguments.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: write KEY=VALUE")
        try:
            value = json.loads(value)
        except ValueError:
            pass  # it stays a text
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {text}: '{parent}' has no parts")
        place[last] = value
    return values


def _print_json(record: dict) -> None:
    print(json.dumps(record), flush=True)


def _values(of_centers: dict[str, float | None], digits: int) -> str:
    """The centers' values; None, a number that was not finite, is shown as a dash."""
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
        told, shown = ("validation, mean Dice (corrected full, low; uncorrected full, low)", _dices)
        if "psnr" in record:
            told, shown = "validation, PSNR gain [dB] (best Gaussian filter; share of attainable)", _gains
        text = f"{told}: {shown(record)}"
        if "watched" in record:
            text += f"; watched: {shown(record['watched'])}"
    else:
        text = f"{record['event']} at step {record['step']} of {record['steps']}"
        if "tensorboard" in record:
            text += f" (TensorBoard: {'written' if record['tensorboard'] else 'not installed'})"
        if "made_with" in record:
            text += f" (its checkpoint is of drmc {record['made_with']}: not exact to the last bit)"
        if record.get("idle"):
            text += f" ({record['idle']} of {record['processes']} processes have no patch to compute)"
    print(text, file=sys.stderr, flush=True)


def _dices(measured: dict) -> str:
    """For example "O1 0.812 (0.853, 0.820; 0.801, 0.774)", with "-" for what is not known."""
    found = []
    for center, value in measured["dice"].items():
        parts = [measured[f"dice_{name}"][center] for name in CONDITIONS]
        shown = ["-" if one is None else f"{one:.3f}" for one in (value, *parts)]
        found.append(f"{center} {shown[0]} ({', '.join(shown[1:3])}; {', '.join(shown[3:])})")
    return "  ".join(found)


def _gains(measured: dict) -> str:
    """For example "C1 +3.21 (+2.10; 30 %)", with "-" for what is not finite."""
    found = []
    for center, value in measured["psnr"].items():
        low, share = measured["psnr_low"][center], measured["share"][center]
        mine, gaussian = (
            "-" if one is None or low is None else f"{one - low:+.2f}"
            for one in (value, measured["psnr_gaussian"][center])
        )
        found.append(f"{center} {mine} ({gaussian}; {'-' if share is None else f'{100 * share:.0f} %'})")
    return "  ".join(found)
