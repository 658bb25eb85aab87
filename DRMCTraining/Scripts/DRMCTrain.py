"""Trains from Slicer without a window, or from any Python: over night, with an exit code.

    Slicer --no-splash --no-main-window --python-script DRMCTrain.py -- CONFIG --processes 4
    python DRMCTrain.py DATASET_FOLDER --preset default --network udrmc --strategy fedavg

Started again, it resumes from the last checkpoint. SIGINT and SIGTERM save and stop, a second one ends the
run. Shows no dialog. The exit code: 0 done, or stopped with a checkpoint, 1 failed, 2 refused, 130 ended
without a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path


def findModules() -> None:
    """Makes the libraries importable: side by side where installed, in two folders in the sources."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here, here.parent / "DRMCCore"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments after `--`, or, where Slicer has taken that away, after the script's name."""
    parser = argparse.ArgumentParser(prog="DRMCTrain.py", description=__doc__.splitlines()[0])
    parser.add_argument("training", type=Path, metavar="CONFIG", help="configuration, or a dataset's folder")
    parser.add_argument("--preset", default="default", help="of the configuration for a dataset's folder")
    parser.add_argument("--network", metavar="NAME", help="another network than the preset's, for a dataset")
    parser.add_argument(
        "--strategy", metavar="NAME", help="another strategy than the preset's, for a dataset"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="one for each GPU (default: 1)")
    parser.add_argument("--check", action="store_true", help="only look whether the training can start")
    return parser.parse_args(argv[argv.index("--") + 1 :] if "--" in argv else argv[1:])


def main(argv: list[str]) -> int:
    """Trains, prints the output of the training, and returns the exit code."""
    findModules()
    from drmc.errors import DRMCError
    from drmc.training.launch import Launch, new_configuration
    from DRMCTrainingLib.trainingrun import TrainingRun

    try:
        options = parse(argv)
        path = options.training
        if path.is_dir():
            path = new_configuration(path, options.preset, None, options.network, options.strategy)
        run = TrainingRun(Launch(path, options.processes), checkOnly=options.check)
    except SystemExit as stop:  # --help, or a usage that argparse has refused
        return int(stop.code or 0)
    except DRMCError as error:
        print(f"drmc: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    run.event.connect(lambda event: print(json.dumps(event), flush=True))
    run.text.connect(lambda line: print(line, file=sys.stderr, flush=True))
    earlier = {
        number: signal.signal(number, lambda *_: run.stop()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        run.start()
        run.wait()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    if run.exitCode and not run.checks:
        print(f"drmc: {run.message}", file=sys.stderr, flush=True)
    return run.exitCode


if __name__ == "__main__":
    exitCode = main(sys.argv)
    from DRMCCoreLib.process.scripted import leave  # main has made it importable

    leave(exitCode)
