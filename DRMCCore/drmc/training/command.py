"""The command `drmc train`, the same program as `torchrun ... -m drmc.training`.

  drmc train DATASET                                     the default preset, into DATASET-default beside it
  drmc train DATASET -o RUN --set steps=5000 --check     what would fail, or take months; trains nothing
  drmc train training.json
  drmc train --preset default --dataset DATASET --output RUN --set steps=5000 --set network.channels=32
  drmc train --preset paper --dataset DATASET --output RUN --write-config training.json
  torchrun --standalone --nproc-per-node=4 --max-restarts=3 -m drmc.training training.json

When it is started again, a run continues from its last checkpoint. SIGTERM saves a checkpoint and ends it
with exit code 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from drmc.errors import InputError, OutputInUseError
from drmc.files import write_json
from drmc.runtime.progress import Reporter, add_progress_argument
from drmc.training import check_command
from drmc.training.arguments import Asked, asked
from drmc.training.check_command import report_checks
from drmc.training.tasks.organ_settings import CONDITIONS

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `drmc train`."""
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="CONFIG",
        help="training configuration (a JSON file), or a dataset: its folder or dataset.json, of which all "
        "centers are trained on that have patients for training and validation",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="settings for what is not set otherwise: default, paper, tiny, or of a method",
    )
    parser.add_argument("--dataset", metavar="FOLDER", help="folder with dataset.json")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        help="folder for checkpoints, log and model (of a dataset: DATASET-PRESET beside it)",
    )
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
        return _run(arguments, reporter)
    except InputError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        return error.exit_code


def _run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    if arguments.check:
        if arguments.config is None:
            raise InputError(
                "--check: name the dataset's folder, or the configuration file that torchrun is to read "
                "(--write-config makes one)"
            )
        return report_checks(arguments)
    wanted = asked(arguments)
    config = wanted.config()
    if arguments.write_config is not None:
        try:
            write_json(arguments.write_config, config.to_dict())
        except OSError as error:
            raise InputError(
                f"{arguments.write_config} cannot be written ({error.strerror}): name another file with "
                "--write-config"
            ) from None
        return _saved(arguments.write_config, arguments, reporter)
    if arguments.page:
        from drmc.training.page import write_page

        return _saved(write_page(config.output), arguments, reporter)
    return _train(wanted, config, arguments.progress, reporter)


def _saved(path: Path, arguments: argparse.Namespace, reporter: Reporter) -> int:
    reporter.result(saved=str(path))
    if arguments.progress != "json":
        print(f"saved: {path}")
    return 0


def _train(wanted: Asked, config: TrainingConfig, progress: str, reporter: Reporter) -> int:
    from drmc.training.loop import train

    first = os.environ.get("RANK", "0") == "0"
    file = wanted.keep()
    for text in wanted.notes if first else ():
        reporter.notice(text)
    if file is not None:
        reporter.notice(f"the run and its model are kept in {file.parent}")
    try:
        path = train(config, report=_print_json if progress == "json" else _print_text)
    except InputError as error:
        # A refused training writes nothing; of two that start at once, the file is the other one's.
        if file is not None and not isinstance(error, OutputInUseError):
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                file.parent.rmdir()
        raise
    if progress == "text" and first:
        print(f"saved: {path}")
    return 0


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
        text = "\n".join([text, *(f"warning: {one}" for one in record.get("warnings", ()))])
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
