"""The engine from a script without a window: its output printed, signals handed on, its exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from DRMCCoreLib.process.processes import createProcess
from DRMCCoreLib.process.runner import Job, engineCommand


def scriptArguments(argv: Sequence[str]) -> list[str]:
    """What follows `--`, or, where Slicer has taken that away, what follows the script's name."""
    return list(argv[argv.index("--") + 1 :] if "--" in argv else argv[1:])


def runEngine(command: str, arguments: Sequence[str]) -> int:
    """Runs `drmc COMMAND ARGUMENTS` in a child process; SIGINT and SIGTERM cancel it."""
    process = createProcess()
    process.outputLine.connect(lambda line: print(line, flush=True))
    process.errorLine.connect(lambda line: print(line, file=sys.stderr, flush=True))
    job = Job(engineCommand(command, *arguments, "--cancel-on-eof"), process=process)
    earlier = {
        number: signal.signal(number, lambda *_: job.cancel()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        job.start()
        job.wait()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    assert job.exitCode is not None
    return job.exitCode


def leave(exitCode: int) -> None:
    """Ends Slicer, or this Python, with the exit code: Slicer does not end by itself after a script."""
    slicer = sys.modules.get("slicer")
    if hasattr(slicer, "app"):
        slicer.util.exit(exitCode)
    else:
        sys.exit(exitCode)
