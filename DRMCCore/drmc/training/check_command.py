"""`drmc train ... --check`: all that can be known before a long run, and the command that starts it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from drmc.errors import InputError
from drmc.training.arguments import asked, repeated
from drmc.training.launch import Launch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `drmc train CONFIG --check`."""
    group = parser.add_argument_group("check before a long run")
    group.add_argument(
        "--check",
        action="store_true",
        help="check configuration, dataset, GPUs, disk and checkpoint and print the torchrun command; "
        "do not train",
    )
    group.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes on each machine (default: 1)"
    )
    group.add_argument("--nodes", type=int, default=1, metavar="N", help="machines (default: 1)")
    group.add_argument("--node-rank", type=int, metavar="K", help="this machine: 0 opens the rendezvous port")
    group.add_argument("--rendezvous", default="", metavar="HOST:PORT", help="where the machines meet")


def report_checks(options: argparse.Namespace) -> int:
    """Prints the checks and the command of `drmc train CONFIG --check`.

    With `--progress json` every check is an event `{"event": "check", "level", "text"}`. The last event,
    `"result"`, has `command`, `output`, `step` (at which the run continues) and `steps`.

    Returns:
        The exit code, 0.

    Raises:
        InputError: a check refuses the run.
    """
    from drmc.training.preflight import REFUSED, preflight

    launch = Launch(
        options.config,
        options.processes,
        options.nodes,
        options.node_rank,
        options.rendezvous.strip(),
        options=tuple(repeated(options)),
    )
    as_json = options.progress == "json"
    found = preflight(launch, lambda: asked(options))
    for check in found.checks:
        if as_json:
            _print_json(event="check", **check._asdict())
        else:
            print(f"{check.level:8} {check.text}")
    line = launch.shell_line()
    if as_json:
        _print_json(event="result", command=line, output=found.output, step=found.step, steps=found.steps)
    refusal = next((check.text for check in found.checks if check.level == REFUSED), None)
    if refusal is not None:
        raise InputError(refusal)
    if not as_json:
        print(f"\n{line}")
    return 0


def _print_json(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)
