"""Small scans with a lesion, a tiny network, and a request to denoise them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from drmc.denoising.request import DenoiseRequest
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from drmc.networks.drmc import DRMC, NetworkConfig

FACTOR = 0.00025
GRID = Geometry(
    (18, 24, 30), (2.5, 2.5, 3.0), (5.0, -60.0, 70.0), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
)
LESION_COLUMNS = (
    "scan,segment,stage,volume_ml,suv_min,suv_mean,suv_median,suv_max,suv_peak,mtv41_ml,tlg41,"
    "suv_max_x_mm,suv_max_y_mm,suv_max_z_mm"
).split(",")
# Behind the others: in the file alone what the SUV rests on, volumes by other thresholds, intervals, SUL.
THRESHOLD_COLUMNS = (
    "mtv_suv25_ml,tlg_suv25,mtv_suv40_ml,tlg_suv40,mtv41_original_ml,percist_threshold,mtv_percist_ml,tlg_percist"
).split(",")
INTERVAL_COLUMNS = (
    "suv_mean_interval90_low,suv_mean_interval90_high,suv_peak_interval90_low,suv_peak_interval90_high,"
    "suv_max_interval90_low,suv_max_interval90_high,interval_note"
).split(",")
LEAN_COLUMNS = "sul_mean,sul_max,sul_peak,sul_note".split(",")


def tiny_network(*, zero_tail: bool = False) -> DRMC:
    """Random weights, small but never without effect; `zero_tail`: the network that changes nothing."""
    torch.manual_seed(3)
    network = DRMC(NetworkConfig(channels=4, blocks=1, experts=2, heads=2, hidden=4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for parameter in network.tail.parameters() if zero_tail else ():
            parameter.zero_()
    return network


def lesion_mask(grid: Geometry = GRID) -> np.ndarray:
    """A ball of 12 mm radius in the middle of the grid."""
    offsets = np.meshgrid(
        *((np.arange(n) - n // 2) * step for n, step in zip(grid.shape, grid.spacing_zyx, strict=True)),
        indexing="ij",
    )
    return sum(offset**2 for offset in offsets) < 12.0**2


def suv_image(grid: Geometry = GRID, seed: int = 0) -> np.ndarray:
    """Noisy tissue with a hot ball, and a border of air that holds zeros of both signs."""
    image = np.random.default_rng(seed).gamma(20.0, 1 / 20.0, grid.shape)
    image[lesion_mask(grid)] *= 6.0
    image[:4] = 0.0
    image[0, 0] = -0.0
    return image.astype(np.float32)


def write_case(folder: Path, *, factor: float | None = None, seed: int = 0) -> dict[str, Path]:
    """A case on disk: low, full and lesions, in SUV, or with `factor` in Bq/ml; with side-cars."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.nii.gz" for name in ("low", "full", "lesions")}
    low = suv_image(seed=seed)
    for name, image in (("low", low), ("full", low * np.float32(0.95) + np.float32(0.05))):
        write_image(paths[name], image / (factor or 1.0), GRID)
        sidecar = {"Units": "SUV"} if factor is None else {"Units": "Bq/mL", "SUVFactor": factor}
        (folder / f"{name}.json").write_text(json.dumps(sidecar))
    write_image(paths["lesions"], lesion_mask(), GRID)
    return paths


def request(paths: dict[str, Path], output: Path, **changes: object) -> DenoiseRequest:
    """Denoise the case's low dose with the tiny model, exactly."""
    return replace(
        DenoiseRequest(paths["low"], output, model="tiny", device="cpu", precision="fp32"), **changes
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
