"""The command `drmc`: its subcommands, its exit codes and its last line.

Exit codes: 0 done, 1 failed, 2 refused (bad input or usage: one line on standard error, nothing written),
130 canceled (SIGINT, SIGTERM). With DRMC_DEBUG=1 a failure shows its traceback. Nothing heavy is
imported before a subcommand needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from drmc import __version__
from drmc.cli.streams import without_native_text, without_warnings
from drmc.errors import CanceledError, DRMCError, InputError
from drmc.files import is_full_disk
from drmc.runtime.progress import JsonProgress, Reporter, TerminalProgress
from drmc.texts import RESEARCH_USE, shown_output

DESCRIPTION = "Multi-center low-dose PET denoising by dynamic routing, with the SUV figures a reader trusts."
EPILOG = f"""\
examples:
  drmc denoise PET_FOLDER -o OUT                      a DICOM folder: denoised.nii.gz, report.html, ...
  drmc denoise pet.nii.gz -o OUT --lesions seg.nrrd   with a table of the lesions before and after
  drmc denoise COHORT_FOLDER -o OUT --resume          every scan in a folder, each into OUT/<name>/
  drmc suv PET_FOLDER                                 the SUV factor and the rule it came from
  drmc models                                         what is installed

exit codes: 0 done, 1 failed, 2 refused (bad input or usage), 130 canceled
{RESEARCH_USE}"""

# Subcommands, each a module with `add_arguments` and `run`, imported when it is used: (module, help).
COMMANDS = {
    "denoise": ("drmc.cli.denoise", "denoise a scan, or every scan of a folder"),
    "suv": ("drmc.cli.suv", "show the SUV factor of a scan, the rule it came from and every candidate"),
    "quantify": ("drmc.cli.quantify", "measure the segments of an image: volume, SUV, MTV and TLG"),
    "models": (
        "drmc.cli.models",
        "list the installed models, where they are from and what they were trained on, or add one",
    ),
    "devices": (
        "drmc.cli.devices",
        "list what a network can be computed on here, and which of it auto takes",
    ),
    "simulate": (
        "drmc.simulation.command",
        "simulate low-dose and full-dose PET of the centers of the paper",
    ),
    "calibrate": (
        "drmc.simulation.calibration.command",
        "measure the noise of the simulation against real scans",
    ),
    "validate": ("drmc.datasets.validation.command", "check a dataset before training on it"),
    "train": ("drmc.training.command", "train a network on one's own centers"),
    "evaluate": ("drmc.evaluation.command", "measure a network on patients that it has not seen"),
    "profile": (
        "drmc.evaluation.profile_command",
        "measure which experts a network uses at each training center",
    ),
    "intervals": (
        "drmc.evaluation.interval_command",
        "calibrate or check a model's intervals of what full dose would have shown of a lesion",
    ),
    "spots": ("drmc.cli.spots", "measure what a model leaves of small faint foci in this very scan"),
    "benchmark": ("drmc.benchmark.command", "measure speed and memory on this machine"),
}
# Long-running commands with worker processes of their own: their standard error is not silenced.
KEEP_STDERR = ("train", "evaluate")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's) and returns its exit code; nothing is raised."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Read when torch is loaded: threads that spin while they wait take the cores from those they wait for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("DRMC_DEBUG") == "1":
        with shown_output():
            return _run(arguments)
    own = arguments[:1] == [] or arguments[0] not in KEEP_STDERR
    with without_warnings(), without_native_text() if own else contextlib.nullcontext(), shown_output():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    reporter: Reporter | None = None
    try:
        options = _parser(arguments).parse_args(arguments)
        reporter = _reporter(options)
        code = _run_command(options, reporter)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:
        # The reader of standard output is gone (`drmc models | head`); nothing may be flushed there at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _end(reporter, "canceled", CanceledError.exit_code)
    except DRMCError as error:
        return _end(reporter, str(error), error.exit_code, error.details)
    except Exception as error:
        if isinstance(error, OSError) and is_full_disk(error):
            place = f"{error.filename}: " if error.filename else ""
            return _end(reporter, f"{place}{error.strerror}: make room on the disk and start again", 1)
        return _end(reporter, f"{type(error).__name__}: {error} (DRMC_DEBUG=1 shows where)", 1)


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors that go the way of every other refusal."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser(arguments: Sequence[str]) -> _Parser:
    parser = _Parser(
        prog="drmc",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"drmc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command_name", required=True)
    for name, (module, text) in COMMANDS.items():
        if importlib.util.find_spec(module) is not None:
            _add_command(commands, name, module, text, chosen=name in arguments[:1])
    return parser


def _add_command(commands: Any, name: str, module: str, text: str, *, chosen: bool) -> None:
    """Adds a subcommand; its module is imported only when it is the one that runs."""
    sub = commands.add_parser(
        name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if not chosen:
        return
    command = importlib.import_module(module)
    sub.description = command.__doc__
    if hasattr(command, "EXAMPLES"):
        sub.description = f"{text[0].upper()}{text[1:]}."
        sub.epilog = f"examples:\n{command.EXAMPLES}\n\n{RESEARCH_USE}"
    command.add_arguments(sub)
    sub.set_defaults(run=command.run)


def _run_command(options: argparse.Namespace, reporter: Reporter) -> int:
    """Runs a command. SIGTERM stops it as SIGINT does, unless it has its own handler."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return options.run(options, reporter)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return options.run(options, reporter)


def _reporter(options: argparse.Namespace) -> Reporter:
    return (
        JsonProgress(sys.stdout)
        if getattr(options, "progress", None) == "json"
        else TerminalProgress(sys.stderr)
    )


def _end(reporter: Reporter | None, message: str, code: int, details: dict[str, Any] | None = None) -> int:
    if os.environ.get("DRMC_DEBUG") == "1" and code == 1:
        traceback.print_exc()
    line = " ".join(message.split())
    with contextlib.suppress(OSError):
        if reporter is not None:
            reporter.error(line, code, **(details or {}))
        print(f"drmc: {line}", file=sys.stderr, flush=True)
    return code
