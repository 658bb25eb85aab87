"""The command `drmc interference MODEL DATASET -o OUT`."""

from __future__ import annotations

import argparse
from pathlib import Path

from drmc.datasets.manifest import SPLITS
from drmc.errors import InputError
from drmc.runtime.arguments import add_cpu_or_cuda_argument, cpu_or_cuda, whole_number
from drmc.runtime.progress import Reporter, add_progress_argument

EXAMPLES = """\
  drmc interference baseline.pt DATASET -o OUT                100 patches of each center, every block
  drmc interference baseline.pt DATASET -o OUT --blocks 1,4   those of the paper's figure 1b"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc interference`."""
    parser.add_argument("model", metavar="MODEL", help="name of an installed model, or a weight file")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder with dataset.json")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="folder of the result"
    )
    parser.add_argument(
        "--split", choices=SPLITS, default="train", help="patients whose gradients are taken (default train)"
    )
    parser.add_argument(
        "--centers", metavar="C1,C2", help="centers (default: those that the model was trained on)"
    )
    parser.add_argument(
        "--batches", type=int, default=100, metavar="N", help="patches of each center (default 100)"
    )
    parser.add_argument("--blocks", metavar="1,4", help="blocks, from 1 (default: all)")
    parser.add_argument("--seed", type=whole_number(0), default=1001, help="of the patches (default 1001)")
    parser.add_argument(
        "--patch",
        type=whole_number(1),
        metavar="VOXELS",
        help="edge of a patch (default: that of the training)",
    )
    parser.add_argument("--prepared", type=Path, metavar="FOLDER", help="keep images on the 2 mm grid there")
    add_cpu_or_cuda_argument(parser, "")
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Measures and writes interference.json, .csv, .html and batches.npz; returns the exit code."""
    centers = tuple(name for part in (arguments.centers or "").split(",") if (name := part.strip()))
    try:
        blocks = tuple(int(part) for part in (arguments.blocks or "").split(",") if part.strip())
    except ValueError:
        raise InputError(f"--blocks {arguments.blocks}: write numbers like 1,4") from None
    from drmc.training.interference.run import Options, write_interference

    options = Options(
        centers=centers,
        split=arguments.split,
        batches=arguments.batches,
        blocks=blocks,
        seed=arguments.seed,
        patch=arguments.patch,
        prepared=arguments.prepared,
        device=cpu_or_cuda(arguments.device)[-1],
    )
    found = write_interference(arguments.model, arguments.dataset, arguments.output, options, reporter)
    reporter.result(output=str(arguments.output), interference=found)
    if arguments.progress != "json":
        print(f"page: {arguments.output / 'interference.html'}")
    return 0
