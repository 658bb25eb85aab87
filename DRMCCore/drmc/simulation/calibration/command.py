"""The command `drmc calibrate`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from drmc.errors import InputError
from drmc.runtime.arguments import add_cpu_or_cuda_argument, cpu_or_cuda
from drmc.runtime.progress import Reporter, add_progress_argument, duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc calibrate`."""
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder of the result"
    )
    parser.add_argument(
        "--centers",
        default="C1,C2,C3,C4,C6",
        metavar="C1,C2",
        help="centers of Table 1 or files of centers (default C1,C2,C3,C4,C6)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="real data to compare with (ge_wb_sts001, udpet_noise_stats)",
    )
    parser.add_argument(
        "--organs",
        type=Path,
        metavar="SEGMENTATION",
        help="organs of the real scan (drmc segment), whose liver and lungs are taken (default: guessed)",
    )
    parser.add_argument("--patients", type=int, help="patients per center for the liver (default 4)")
    parser.add_argument(
        "--law-patients", type=int, help="patients per center for noise against dose (default 2)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed gives the same patients (default 1)"
    )
    parser.add_argument("--tof", action="store_true", help="with time of flight where the scanner has it")
    add_cpu_or_cuda_argument(parser)
    add_progress_argument(parser)
    parser.add_argument("--quick", action="store_true", help="a few small windows: a smoke test, no evidence")


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Measures the simulation against published and real values; returns the exit code."""
    from drmc.denoising.staging import check_output_folder
    from drmc.simulation.calibration.report import contact_sheets, write_report
    from drmc.simulation.calibration.rows import MISS, comparison, outcome_counts
    from drmc.simulation.calibration.study import Plan, calibrate, ge_scan
    from drmc.simulation.centers import find_centers

    if arguments.data is not None and not arguments.data.is_dir():
        raise InputError(f"--data {arguments.data}: is no folder")
    counts = [n for n in (arguments.patients, arguments.law_patients) if n is not None]
    if arguments.seed < 0 or min(counts, default=1) < 1:
        raise InputError("--seed must be at least 0, and --patients at least 1, --law-patients too")
    check_output_folder(arguments.output)
    plan = Plan(
        tuple(find_centers(arguments.centers)),
        seed=arguments.seed,
        tof=arguments.tof,
        device=cpu_or_cuda(arguments.device)[-1],
        data=arguments.data,
        organs=arguments.organs,
    )
    if arguments.organs is not None:
        if ge_scan(plan) is None:
            raise InputError("--organs: are those of a real scan, which is missing: give --data")
        if not arguments.organs.is_file():
            raise InputError(f"{arguments.organs}: no such file (--organs)")
    if arguments.quick:
        plan = plan.quick()
    for name in ("patients", "law_patients"):
        if getattr(arguments, name) is not None:
            plan = replace(plan, **{name: getattr(arguments, name)})
    if ge_scan(plan) is None and not any(center.region == "wholebody" for center in plan.centers):
        raise InputError(
            f"--centers {arguments.centers}: only brain centers, which have no liver; name a whole-body "
            "center"
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    measures = calibrate(plan, arguments.output, _reported(reporter))
    rows = comparison(plan, measures)
    written = write_report(arguments.output, plan, rows, measures, quick=arguments.quick)
    report = lambda done, total, case, seconds: reporter.outcome(
        case, "done", f"{duration(seconds)} ({done}/{total})"
    )
    sheet = contact_sheets(plan, arguments.output, report)
    outcomes = outcome_counts(rows)
    reporter.result(output=str(written), counts=outcomes)
    if arguments.progress == "json":
        return 0
    print(f"calibration: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}")
    for row in rows:
        if row.outcome == MISS:
            print(f"  miss: {row.subject}, {row.measure}: {row.value:.3g}, accepted {row.accepted}")
    print(f"report: {written}")
    print(f"pictures of a patient of each center: {sheet}")
    return 0


def _reported(reporter: Reporter) -> Callable[[int, int, str, float], None]:
    """Tells a reporter of pieces as `calibrate` does."""
    start: dict[str, float] = {}

    def report(done: int, total: int, piece: str, share: float) -> None:
        if share < 1.0:
            start.setdefault(piece, time.monotonic())
            reporter.progress(done + share, total, None, "piece")
        elif piece in start:
            reporter.outcome(piece, "done", f"{duration(time.monotonic() - start[piece])} ({done}/{total})")
        else:
            reporter.outcome(piece, "skipped", f"it is there ({done}/{total})")

    return report
