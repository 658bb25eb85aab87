"""The command `drmc reproduce`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from drmc.errors import DRMCError, InputError
from drmc.runtime.progress import Reporter, add_progress_argument

EXAMPLES = """\
  drmc reproduce Resources/Training/paper.json   all of it; started again, it goes on
  drmc reproduce Resources/Training/paper.json --page-only   the page of what is finished, at any time
  drmc reproduce Resources/Training/paper.json --patches 2400 -o SMALL
  drmc reproduce --tiny -o OUT    minutes: tiny networks and patients, shows that all of it runs"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc reproduce`."""
    parser.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="configuration, a JSON file")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and patients in place of CONFIG")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="folder of everything that is made"
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        metavar="FOLDER",
        help="patients for training and validation, taken as they are",
    )
    parser.add_argument(
        "--test-dataset", type=Path, metavar="FOLDER", help="patients of the test, taken as they are"
    )
    parser.add_argument(
        "--patches", type=int, metavar="N", help="patches of each training, all centers together"
    )
    parser.add_argument("--only", metavar="NAME,NAME", help="these trainings alone, in the order of CONFIG")
    parser.add_argument(
        "--page-only", action="store_true", help="write the page of what is finished, and end"
    )
    parser.add_argument("--list", action="store_true", help="print the queue and its state, and end")
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Does what is missing and writes the page; returns the exit code, 1 if a piece failed.

    Raises:
        InputError: the configuration is wrong.
        DRMCError: a piece failed; the others were done.
    """
    from drmc.denoising.staging import Claim
    from drmc.reproduction.config import TINY, ReproductionConfig
    from drmc.reproduction.queue import run_queue
    from drmc.reproduction.states import queue_of, read_state
    from drmc.reproduction.writing import write_pages

    if (arguments.config is None) == (not arguments.tiny):
        raise InputError("give either CONFIG or --tiny; see drmc reproduce --help")
    if arguments.tiny and arguments.output is None:
        raise InputError("--tiny: name a folder for it with -o")
    config = ReproductionConfig.read(TINY if arguments.tiny else arguments.config, **_changes(arguments))
    given = {"test": arguments.test_dataset is not None}
    taken = [one for one in config.patients if given.get(one.split, arguments.dataset is not None)]
    config = replace(config, patients=tuple(one for one in config.patients if one not in taken))
    output = Path(config.output)
    if arguments.list:
        states = {piece.title: read_state(config, piece) for piece in dict.fromkeys(queue_of(config))}
        reporter.result(queue={title: state["state"] for title, state in states.items()})
        if arguments.progress != "json":
            for title, state in states.items():
                print(f"{title:<30} {state['state']:<8} {state.get('message', '')}".rstrip())
        return 0
    if arguments.page_only:
        page = write_pages(config)
        reporter.result(page=str(page))
        if arguments.progress != "json":
            print(f"page: {page}")
        return 0
    only = [name for part in (arguments.only or "").split(",") if (name := part.strip())]
    if unknown := [name for name in only if name not in config.trainings]:
        raise InputError(f"--only {unknown[0]}: there are {', '.join(config.trainings)}")
    with Claim(output) as claim:
        claim.take()
        output.mkdir(parents=True, exist_ok=True)
        failures = run_queue(config, reporter, only)
    reporter.result(output=str(output), failed={piece.title: message for piece, message in failures})
    if arguments.progress != "json":
        print(f"page: {output / 'paper.html'}")
    if failures:
        first, message = failures[0]
        raise DRMCError(
            f"{len(failures)} of the queue failed and can be started again; {first.title}: {message}"
        )
    return 0


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    folders = {key: getattr(arguments, key) for key in ("output", "dataset", "test_dataset")}
    found: dict[str, Any] = {key: str(path.resolve()) for key, path in folders.items() if path is not None}
    return found | ({} if arguments.patches is None else {"patches": arguments.patches})
