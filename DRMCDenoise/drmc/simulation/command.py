"""The command `drmc simulate`."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from drmc.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc simulate`."""
    parser.add_argument(
        "--centers", required=True, metavar="C1,C2", help="centers of the paper's Table 1: C1 to C6"
    )
    parser.add_argument("--patients", type=int, default=4, help="patients per center (default 4)")
    parser.add_argument(
        "--seed", type=int, default=7, help="the same seed gives the same patients (default 7)"
    )
    parser.add_argument(
        "--split", default="train", choices=("train", "validation", "test"), help="default train"
    )
    parser.add_argument("--axial-mm", type=float, help="scan only a random axial window of this length")
    parser.add_argument("--drf", metavar="3,4,6", help="dose reduction factors (default: the center's own)")
    parser.add_argument(
        "--workers", type=int, default=1, help="patients simulated at the same time (default 1)"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DATASET", help="dataset folder")


def run(arguments: argparse.Namespace) -> int:
    """Simulates a cohort; returns the exit code."""
    from drmc.simulation.centers import find_center
    from drmc.simulation.cohort import write_cohort

    names = dict.fromkeys(name.strip() for name in arguments.centers.split(",") if name.strip())
    centers = [find_center(name) for name in names]
    if not centers:
        raise InputError("--centers names no center: give for example C1,C2")
    if arguments.axial_mm is not None and not 20 <= arguments.axial_mm < math.inf:
        raise InputError(
            f"--axial-mm {arguments.axial_mm:g}: a window shorter than 20 mm holds no patient; give a length in mm"
        )
    if arguments.seed < 0 or arguments.workers < 1:
        raise InputError("--seed must be at least 0 and --workers at least 1")
    manifest = write_cohort(
        arguments.output,
        centers,
        arguments.patients,
        seed=arguments.seed,
        split=arguments.split,
        axial_mm=arguments.axial_mm,
        dose_reduction_factors=_factors(arguments.drf),
        workers=arguments.workers,
        report=lambda done, total, case, seconds: print(
            f"simulated {case} in {seconds:.0f} s ({done}/{total})", file=sys.stderr, flush=True
        ),
    )
    print(f"simulated dataset: {manifest}")
    return 0


def _factors(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        factors = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--drf '{text}': give numbers like 3,4,6") from None
    if not all(1 < factor < math.inf for factor in factors):
        raise InputError(f"--drf '{text}': a dose reduction factor is greater than 1")
    return factors
