"""The command `drmc federate`: training across hospitals whose data never leave them."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.runtime.progress import Reporter, add_progress_argument

ACTIONS = ("provision", "serve", "join", "start", "status", "stop")
MOST_DAYS = 36_500  # dates end with the year 9999
EXAMPLES = """\
 the lead, once:
  drmc federate provision PROJECT.json -o KITS   a start-up kit for the server, the lead and each hospital
 the lead, on the machine that all can reach:
  drmc federate serve KITS/server                runs the server; the model is kept in KITS/server/run
 each hospital, with its own kit and its own settings {"dataset": ..., "output": ...}:
  drmc federate join KIT CONFIG                  waits for the run and takes part in it to its end
 the lead, from anywhere:
  drmc federate start KITS/lead                  starts the run when all are there, and follows it
  drmc federate status KITS/lead                 who is connected, and where the run is
  drmc federate stop KITS/lead                   ends the run; started again it continues

Weights, losses, validation scores and the number of patients travel, nothing else: docs/federation.md.
Any of these can be stopped with Ctrl+C or fail at any moment; started again, the run continues."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("path", type=Path, metavar="PATH", help="the kit; of provision the plan, a JSON file")
    parser.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG", help="join: the hospital's settings"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="KITS", help="provision: folder of the kits")
    parser.add_argument(
        "--valid-days",
        type=int,
        metavar="N",
        help="provision: days until all certificates end (default: 360)",
    )
    add_progress_argument(parser)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Does the action and returns the exit code.

    Raises:
        DRMCError: it is refused or fails.
    """
    given = {"config": options.config, "-o": options.output, "--valid-days": options.valid_days}
    wanted = {"join": ["config"], "provision": ["-o", "--valid-days"]}.get(options.action, [])
    if extra := [name for name, value in given.items() if value is not None and name not in wanted]:
        raise InputError(f"{options.action} takes no {extra[0]}; see drmc federate --help")
    missing = {"join": "config", "provision": "-o"}.get(options.action, "")
    if missing and given[missing] is None:
        raise InputError(f"{options.action}: {missing} is missing; see drmc federate --help")
    if sys.platform == "win32":
        raise InputError("drmc federate needs Linux or macOS, as NVIDIA FLARE does")
    if importlib.util.find_spec("nvflare") is None:
        raise InputError('drmc federate needs NVIDIA FLARE: pip install "drmc[federation]"')
    tell = _Teller(options.progress == "json", reporter)
    return {"provision": _provision, "join": _join, "status": _status, "stop": _stop}.get(
        options.action, _run_on
    )(options, reporter, tell)


def _provision(options: argparse.Namespace, reporter: Reporter, tell: _Teller) -> int:
    from drmc.federation.kits import AUTHORITY, make_kits
    from drmc.federation.plan import FEW_STEPS, Plan

    days = 360 if options.valid_days is None else options.valid_days
    if not 1 <= days <= MOST_DAYS:
        raise InputError(f"--valid-days {days}: must be from 1 to {MOST_DAYS}")
    plan = Plan.read(options.path)
    kits = make_kits(plan, options.output, days)
    if plan.config().round_steps < FEW_STEPS:
        reporter.notice(
            f"round_steps = {plan.config().round_steps}: weights that few patches have changed can show "
            f"them; {FEW_STEPS} or more are better, see docs/federation.md"
        )
    reporter.result(kits=[str(kit) for kit in kits], authority=str(options.output / AUTHORITY))
    if not tell.as_json:
        for kit in kits:
            print(f"kit: {kit}")
        print(f"keep to yourself: {options.output / AUTHORITY}, which can make further kits")
        print(
            "each kit holds a private key: hand it to its owner in person or encrypted, and delete your copy"
        )
    return 0


def _run_on(options: argparse.Namespace, reporter: Reporter, tell: _Teller) -> int:
    if options.action == "serve":
        from drmc.federation.attend import serve

        serve(options.path, tell)
        return 0
    from drmc.federation.consortium import run_federation

    run_federation(options.path, tell)
    reporter.result(finished=True)
    if not tell.as_json:
        print("finished: the model is in the server's kit, folder run, and in each hospital's output folder")
    return 0


def _join(options: argparse.Namespace, reporter: Reporter, tell: _Teller) -> int:
    from drmc.federation.attend import join

    output = join(options.path, options.config, tell)
    reporter.result(output=str(output))
    if not tell.as_json:
        print(f"finished: the models are in {output}")
    return 0


def _status(options: argparse.Namespace, reporter: Reporter, tell: _Teller) -> int:
    from drmc.federation.consortium import Lead

    with Lead(options.path) as lead:
        status = lead.status()
    reporter.result(sites=status.sites, run=status.run)
    if not tell.as_json:
        for site, there in status.sites.items():
            print(f"{site:<24} {'connected' if there else 'away'}")
        print(_place(status.run) if status.job else "no run is under way")
    return 0


def _stop(options: argparse.Namespace, reporter: Reporter, tell: _Teller) -> int:
    from drmc.federation.consortium import stop_run

    stopped = stop_run(options.path)
    reporter.result(stopped=stopped)
    if not tell.as_json:
        print("the run is stopped; 'drmc federate start' continues it" if stopped else "no run is under way")
    return 0


class _Teller:
    """Prints what happens, for people on standard error, for programs as JSON lines on standard output."""

    def __init__(self, as_json: bool, reporter: Reporter):
        self.as_json, self._reporter = as_json, reporter

    def __call__(self, record: dict[str, Any]) -> None:
        """Prints one record."""
        if self.as_json:
            print(json.dumps(record), flush=True)
        elif record["event"] in ("notice", "failed"):
            self._reporter.notice(record["message"] if "message" in record else f"{record['site']} failed")
        elif text := _line(record):
            print(text, file=sys.stderr, flush=True)


def _line(record: dict[str, Any]) -> str:
    """A record of a site, of the server or of the lead's view as one line; empty if it is not shown."""
    event = record["event"]
    if event == "progress":
        losses = " ".join("-" if value is None else f"{value:.5f}" for value in record["loss"].values())
        return f"round {record.get('round', '-')}, step {record['step']}/{record['steps']}  loss {losses}"
    if event == "validation" and "psnr" in record:
        gains = [v - record["psnr_low"][c] for c, v in record["psnr"].items() if v is not None]
        return f"validation at step {record['step']}, PSNR gain [dB]: " + " ".join(f"{g:+.2f}" for g in gains)
    if event == "validation" and record.get("sites"):
        gains_of = {site: scores["gain"] for site, scores in record["sites"].items() if "gain" in scores}
        shown = "  ".join(f"{site} {gain:+.2f}" for site, gain in gains_of.items())
        return f"validation at step {record['step']}, PSNR gain [dB]: {shown}"
    if event == "round":
        away = f", without {', '.join(record['away'])}" if record.get("away") else ""
        return (_place(record) if "rounds" in record else f"round {record['round']} averaged") + away
    return ""


def _place(run: dict[str, Any]) -> str:
    if "round" not in run:
        return "the run is starting"
    failed = f"; {run['failed']}" if run.get("failed") else ""
    return f"{run['round']} of {run['rounds']} rounds are averaged, step {run['step']}{failed}"
