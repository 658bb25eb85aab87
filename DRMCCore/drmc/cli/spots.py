"""The command `drmc spots SCAN`: how much of small faint foci a model leaves in this very scan."""

from __future__ import annotations

import argparse
from pathlib import Path

from drmc.cli.printing import print_spots, printed
from drmc.runtime.arguments import add_network_arguments, whole_number
from drmc.runtime.progress import Reporter, add_progress_argument, counting
from drmc.texts import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `drmc spots`."""
    parser.add_argument("scan", type=Path, metavar="SCAN", help="DICOM folder or file, NIfTI, NRRD, MHA")
    parser.add_argument(
        "--model", help="name of an installed model, or a weight file (default: the shipped one)"
    )
    parser.add_argument(
        "--resolution",
        type=float,
        metavar="MM",
        help="width (FWHM) of the image's resolution, which blurs the spots (default 6)",
    )
    parser.add_argument(
        "--strength", default="high", metavar="S", help="as in drmc denoise: 0 to 1, low, standard or high"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="the same seed gives the same spots (default 0)"
    )
    parser.add_argument("--units", metavar="UNITS", help="as in drmc denoise: suv, bqml, kbqml, ...")
    add_network_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Measures, prints a row for each size and peak, and returns the exit code."""
    from drmc.denoising.finding import find_scan
    from drmc.denoising.pipeline import denoise_volume
    from drmc.denoising.virtual_spots import VirtualSpots
    from drmc.errors import InputError
    from drmc.inference.denoiser import Denoiser
    from drmc.measures.spots import RESOLUTION_MM
    from drmc.models.registry import find_model
    from drmc.pet.reading import read_volume
    from drmc.pet.strength import parse_strength

    resolution = RESOLUTION_MM if arguments.resolution is None else arguments.resolution
    if not 1 <= resolution <= 20:
        raise InputError(f"--resolution {resolution:g}: give a width from 1 to 20 mm")
    strength = parse_strength(arguments.strength)
    entry = find_model(arguments.model)
    volume = read_volume(find_scan(arguments.scan), units=arguments.units)
    spots = VirtualSpots(
        volume, resolution_mm=resolution, seed=arguments.seed, progress=counting(reporter, "tile")
    )
    denoiser = Denoiser.from_model(entry, device=arguments.device, precision=arguments.precision)
    _, result = denoise_volume(volume, denoiser, strength=strength, progress=spots.first_run)
    measured, notices = spots.measure(denoiser, result, strength=strength)
    for notice in dict.fromkeys([*result.notices, *notices]):
        reporter.notice(notice)
    found = {"scan": str(volume.source), "suv": volume.suv.to_dict(), "model": entry.name, **measured}
    if printed(arguments, reporter, found):
        return 0
    print(
        f"{measured['spots']} virtual spots in {shown(volume.source)}, model {entry.name}, strength "
        f"{strength:g}: share of their contrast that is kept"
    )
    print_spots(measured)
    return 0
