"""Measures this machine: the engine's speed and memory against the literal form of the paper's equations.

PART is any of: tile (one 64^3 tile, per precision and number of open gates; on a CPU also by ONNX Runtime and
OpenVINO where they are installed: pip install drmc[benchmark]), training (forward, backward and optimizer's
step on a 64^3 patch), scan SCAN (a scan end to end, by stage; also several times), scaling (seconds against
the body's volume), parallel (1, 2, 4 and 8 tiles at once on a CPU, quiet and beside busy processes). Without
any: tile training. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from drmc.errors import InputError
from drmc.runtime.arguments import add_cpu_or_cuda_argument
from drmc.runtime.progress import Reporter

if TYPE_CHECKING:
    from drmc.benchmark.records import Result

PARTS = ("tile", "training", "scan", "scaling", "parallel")
DEFAULT_PARTS = ("tile", "training")
QUICK_EDGE, QUICK_TILES = 32, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc benchmark`."""
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="tile, training, scan SCAN, scaling, parallel (default: tile training)",
    )
    parser.add_argument(
        "--model",
        metavar="M",
        help="the size of network and tile of this model (default: the paper's); for a scan the model itself "
        "(default: drmc models)",
    )
    add_cpu_or_cuda_argument(parser)
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="runs of which the median is taken (default 3)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiles of 32^3, an eighth of the time; parallel: half as many"
    )
    parser.add_argument(
        "--note", action="append", default=[], metavar="TEXT", help="a sentence to keep with the result"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="also write benchmark.json and benchmark.md there"
    )
    parser.add_argument(
        "--page",
        type=Path,
        nargs="+",
        metavar="JSON",
        help="measure nothing: print a Markdown page of earlier results",
    )


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Measures and prints; returns the exit code."""
    if arguments.page:
        if arguments.parts or arguments.output:
            raise InputError(
                "--page measures nothing: give no PART and no -o; the page goes to standard output"
            )
        return _print_page(arguments.page)
    parts, scans = _parts(arguments.parts)
    if arguments.repeats < 1:
        raise InputError(f"--repeats {arguments.repeats}: at least 1")
    if arguments.output is not None:
        from drmc.denoising.staging import check_output_folder

        check_output_folder(arguments.output, scans)

    from drmc.benchmark.parallel import TILES
    from drmc.benchmark.suite import measure
    from drmc.benchmark.tables import page, terminal
    from drmc.files import write_json, write_text

    result = measure(
        parts,
        scans=scans,
        model=arguments.model,
        device=arguments.device,
        repeats=arguments.repeats,
        edge=QUICK_EDGE if arguments.quick else None,
        parallel_tiles=QUICK_TILES if arguments.quick else TILES,
        notes=arguments.note,
        report=reporter.notice,
    )

    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        write_json(arguments.output / "benchmark.json", result)
        write_text(arguments.output / "benchmark.md", page([result]))
    reporter.result(**result)
    print(
        json.dumps(result, indent=2, allow_nan=False) + "\n" if arguments.json else terminal(result), end=""
    )
    return 0


def _parts(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """The chosen parts, and the scans that follow the words `scan`."""
    parts: list[str] = []
    scans: list[Path] = []
    rest = iter(words)
    for word in rest:
        if word not in PARTS:
            raise InputError(
                f"'{word}': no part of the benchmark; give tile, training, scan SCAN, scaling or parallel"
            )
        parts.append(word)
        if word == "scan":
            path = next(rest, None)
            if path is None:
                raise InputError("scan: give a scan after it, e.g. drmc benchmark scan PET_FOLDER")
            scans.append(Path(path))
    return tuple(dict.fromkeys(parts)) or DEFAULT_PARTS, tuple(scans)


def _print_page(paths: Sequence[Path]) -> int:
    from drmc.benchmark.tables import page
    from drmc.files import read_json_object

    # `page` raises where a file is not such a result.
    results = [cast("Result", read_json_object(path)) for path in paths]
    try:
        text = page(results)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{', '.join(map(str, paths))}: not what drmc benchmark --json prints, or of another version "
            f"({error!r})"
        ) from None
    print(text, end="")
    return 0
