"""`drmc simulate` without the command line around it."""

from __future__ import annotations

import argparse
import sys

from drmc.runtime.progress import TerminalProgress
from drmc.simulation import command


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(arguments)), TerminalProgress(sys.stderr))
