"""The command `drmc`: its subcommands, its exit codes and its last line.

Exit codes: 0 done, 1 failed, 2 refused (bad input or usage: one line on standard error, nothing written;
without any argument the help), 130 canceled (SIGINT, SIGTERM). With DRMC_DEBUG=1 a failure shows its
traceback. Nothing heavy is imported before a subcommand needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import importlib
import importlib.util
import itertools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
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

The options and examples of a command: drmc COMMAND --help
exit codes: 0 done, 1 failed, 2 refused (bad input or usage), 130 canceled
{RESEARCH_USE}"""

# Subcommands by group: (module, help). A module has `add_arguments` and `run`, and is imported when used.
GROUPS = {
    "daily use": {
        "denoise": ("drmc.cli.denoise", "denoise a scan, or every scan of a folder"),
        "segment": ("drmc.cli.segment", "label the organs of a scan, from PET alone"),
        "suv": ("drmc.cli.suv", "show the SUV factor of a scan, and the rule and values behind it"),
        "quantify": ("drmc.cli.quantify", "measure the segments of an image: volume, SUV, MTV and TLG"),
        "candidates": ("drmc.cli.candidates", "find lesion candidates in a scan, for a person to judge"),
        "spots": ("drmc.cli.spots", "measure how much of small faint foci a model leaves in this scan"),
        "models": ("drmc.cli.models", "list the installed models, or add one"),
        "devices": ("drmc.cli.devices", "list the devices of this machine, and the one that auto takes"),
    },
    "training": {
        "simulate": ("drmc.simulation.command", "simulate pairs of low-dose and full-dose PET"),
        "import": (
            "drmc.datasets.importing.command",
            "make or extend a dataset of low-dose and full-dose scans of your own",
        ),
        "validate": ("drmc.datasets.validation.command", "check a dataset before a training"),
        "train": ("drmc.training.command", "train a network on your own centers"),
        "evaluate": ("drmc.evaluation.command", "compare networks and filters on unseen patients"),
        "profile": (
            "drmc.evaluation.profile_command",
            "measure which experts a network uses at each training center",
        ),
        "intervals": (
            "drmc.evaluation.interval_command",
            "calibrate or check a model's intervals of the full-dose values of lesions",
        ),
        "interference": (
            "drmc.training.interference.command",
            "measure what learning for one center does to the loss of another",
        ),
        "federate": (
            "drmc.cli.federate",
            "train across hospitals whose data stay where they are (NVIDIA FLARE)",
        ),
        "reproduce": (
            "drmc.reproduction.command",
            "make the paper's whole comparison again: trainings, tables and figures",
        ),
    },
    "developers": {
        "benchmark": ("drmc.benchmark.command", "measure speed and memory on this machine"),
        "calibrate": (
            "drmc.simulation.calibration.command",
            "measure the noise of the simulation against real scans",
        ),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
# Long-running commands with worker processes of their own: their standard error is not silenced.
KEEP_STDERR = ("train", "evaluate", "reproduce")


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
        parser = _parser(arguments)
        if not arguments:
            # A person sees the help; a script that has lost its arguments must not go on as if it had worked.
            parser.print_help(sys.stderr)
            return InputError.exit_code
        options, rest = parser.parse_known_args(arguments)
        if rest:
            found = f"unrecognized arguments: {' '.join(rest)}"
            raise InputError(f"{found}; see drmc {options.command_name} --help")
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
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return _end(reporter, f"{error.filename}: the name is too long: choose a shorter one", 2)
        if isinstance(error, OSError) and is_full_disk(error):
            place = f"{error.filename}: " if error.filename else ""
            return _end(reporter, f"{place}{error.strerror}: make room on the disk and start again", 1)
        return _end(reporter, f"{type(error).__name__}: {error} (DRMC_DEBUG=1 shows where)", 1)


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors that go the way of every other refusal."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}{' See' if message.endswith('?') else '; see'} {self.prog} --help")

    def refuse_unknown_options(self, arguments: Sequence[str]) -> None:
        """Refuses the first `--option` that this parser lacks, with the nearest that it has.

        argparse would complain of a missing argument first, and names nothing that is near.
        """
        for argument in itertools.takewhile(lambda text: text != "--", arguments):
            option = argument.partition("=")[0]
            if argument in ("-h", "--help"):
                return
            if option.startswith("--") and " " not in argument and option not in self._option_string_actions:
                self.error(f"there is no option {option}{_did_you_mean(option, self._option_string_actions)}")


def _did_you_mean(word: str, names: Iterable[str]) -> str:
    """The known names nearest to a mistyped one, as the end of a sentence; empty where none is near.

    `suggest_on_error` of argparse exists only from Python 3.14 on.
    """
    known = {name.lstrip("-"): name for name in names if len(name) > 2}  # dashes would make all options alike
    bare = word.lstrip("-")
    begun = [name for name in known if len(bare) > 2 and name.startswith(bare)]
    near = begun[:3] or difflib.get_close_matches(bare, known, n=3, cutoff=0.7)
    return f"; did you mean {' or '.join(known[name] for name in near)}?" if near else ""


def _parser(arguments: Sequence[str]) -> _Parser:
    available = {
        title: {
            name: found for name, found in group.items() if importlib.util.find_spec(found[0]) is not None
        }
        for title, group in GROUPS.items()
    }
    parser = _Parser(
        prog="drmc",
        usage="drmc COMMAND [OPTIONS]",
        description=f"{DESCRIPTION}\n\n{_listing(available)}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"drmc {__version__}")
    # The description lists them, in groups.
    commands = parser.add_subparsers(
        prog="drmc", metavar="COMMAND", dest="command_name", required=True, help=argparse.SUPPRESS
    )
    word = next(iter(arguments), "--help")
    names = [name for group in available.values() for name in group]
    if not word.startswith("-") and word not in names:
        parser.error(f"there is no command {word}{_did_you_mean(word, names)}")
    for name in names:
        _add_command(commands, name, *COMMANDS[name], arguments=arguments[1:] if name == word else None)
    return parser


def _listing(groups: Mapping[str, Mapping[str, tuple[str, str]]]) -> str:
    """The commands by group, a line each."""
    width = max(len(name) for group in groups.values() for name in group)
    blocks = [
        "\n".join([f"{title}:", *(f"    {name:<{width}}  {text}" for name, (_, text) in group.items())])
        for title, group in groups.items()
        if group
    ]
    return "\n\n".join(blocks)


def _add_command(
    commands: Any, name: str, module: str, text: str, *, arguments: Sequence[str] | None
) -> None:
    """Adds a subcommand; its module is imported only when it is the one that runs, with `arguments`."""
    sub = commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    if arguments is None:
        return
    command = importlib.import_module(module)
    sub.description = f"{text[0].upper()}{text[1:]}."
    if hasattr(command, "EXAMPLES"):
        sub.epilog = f"examples:\n{command.EXAMPLES}\n\n{RESEARCH_USE}"
    elif "\n" in (command.__doc__ or ""):
        sub.description = command.__doc__
    command.add_arguments(sub)
    sub.set_defaults(run=command.run)
    sub.refuse_unknown_options(arguments)


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
