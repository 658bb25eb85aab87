"""The command `drmc spots SCAN`: how much of small faint foci a model leaves in this very scan."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from drmc.runtime.arguments import add_network_arguments
from drmc.runtime.progress import Reporter, add_progress_argument, table_lines

_TITLE = "share of their contrast that is kept"


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
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same spots (default 0)")
    parser.add_argument("--units", metavar="UNITS", help="as in drmc denoise: suv, bqml, kbqml, ...")
    add_network_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    add_progress_argument(parser)


def run(arguments: argparse.Namespace, reporter: Reporter) -> int:
    """Measures, prints a row for each size and peak, and returns the exit code."""
    from drmc.denoising.finding import find_scan
    from drmc.errors import InputError
    from drmc.inference.denoiser import Denoiser
    from drmc.measures.spots import RESOLUTION_MM, measure_spots
    from drmc.models.registry import find_model
    from drmc.models.weights import load_network
    from drmc.pet.reading import read_volume

    resolution = RESOLUTION_MM if arguments.resolution is None else arguments.resolution
    if not 1 <= resolution <= 20:
        raise InputError(f"--resolution {resolution:g}: give a width from 1 to 20 mm")
    entry = find_model(arguments.model)
    volume = read_volume(find_scan(arguments.scan), units=arguments.units)
    network, tile = load_network(entry)
    denoiser = Denoiser(network, tile, device=arguments.device, precision=arguments.precision)
    passes = 0

    def denoise(suv):
        nonlocal passes
        first, passes = passes, passes + 1
        report = lambda done, total, left: reporter.progress(first + done / total, 2, None, counted="scan")
        result = denoiser.denoise(suv, volume.geometry, progress=report)
        return suv + result.residual

    found = measure_spots(
        volume.suv_array(),
        volume.geometry.spacing_zyx,
        denoise,
        resolution_mm=resolution,
        seed=arguments.seed,
    )
    found = {"scan": str(volume.source), "suv": volume.suv.to_dict(), "model": entry.name, **found}
    reporter.result(**found)
    if arguments.progress == "json":
        return 0
    print(json.dumps(found, indent=2, allow_nan=False) if arguments.json else text(found))
    return 0


def text(found: dict[str, Any]) -> str:
    """The table for people."""
    percent = lambda share: "-" if share is None else f"{100 * share:.0f} %"
    titles = [
        "diameter [mm]",
        "peak [SUV]",
        "spots",
        "1 ml mean",
        "worst tenth",
        "peak",
        "Gaussian: 1 ml mean",
        "peak",
        "",
    ]
    cells = [
        [
            f"{row['diameter_mm']:g}",
            f"+{row['peak_suv']:g}",
            str(row["spots"]),
            *(percent(row[key]) for key in ("mean_kept", "mean_kept_low", "peak_kept")),
            *(percent(row[key]) for key in ("gaussian_mean_kept", "gaussian_peak_kept")),
            "warning: below 80 %" if row["warning"] else "",
        ]
        for row in found["rows"]
    ]
    width = found["gaussian_fwhm_mm"]
    beside = (
        f"a Gaussian of {width:g} mm leaves as much noise"
        if width is not None
        else "no Gaussian filter leaves as little noise"
    )
    return "\n".join(
        [
            f"{found['spots']} virtual spots in {found['scan']}, model {found['model']}: {_TITLE}",
            *table_lines(titles, cells),
            f"{beside}; spots are blurred by {found['resolution_mm']:g} mm and bring no noise of their own",
        ]
    )
