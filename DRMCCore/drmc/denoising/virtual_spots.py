"""Virtual spots in a scan that is denoised: one path for `drmc spots` and `drmc denoise --spots`.

The places are chosen before the network runs, so that a scan without any costs no time. The network then runs
twice: on the scan, which is its result, and on the scan with the spots.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from drmc.measures.rows import SpotsTable
from drmc.measures.spots import RESOLUTION_MM, measure_spots, plan_spots
from drmc.pet.strength import FULL, add_residual
from drmc.pet.volume import PETVolume
from drmc.runtime.control import Cancel, Progress

if TYPE_CHECKING:
    from drmc.inference.denoiser import Denoiser, DenoiseResult


class VirtualSpots:
    """The virtual spots of one scan: placed when this is made, measured once the scan is denoised.

    Args:
        volume: the scan.
        resolution_mm: FWHM of the image's resolution, which blurs the spots.
        seed: determines their places.
        progress: called for both runs of the network, which count as one of twice the tiles.

    Raises:
        NoSpotFitsError: no spot fits.
    """

    def __init__(
        self,
        volume: PETVolume,
        *,
        resolution_mm: float = RESOLUTION_MM,
        seed: int = 0,
        progress: Progress | None = None,
    ):
        self._volume, self._resolution_mm, self._seed = volume, resolution_mm, seed
        self._spots = plan_spots(volume.suv_array(), volume.geometry.spacing_zyx, seed=seed)
        self._progress, self._started, self._tiles = progress, time.monotonic(), 1

    def first_run(self, done: int, total: int, seconds_left: float | None) -> None:
        """Progress of the run on the scan itself."""
        self._tiles = max(total, 1)
        self._report(done, seconds_left)

    def measure(
        self,
        denoiser: Denoiser,
        result: DenoiseResult,
        *,
        strength: float = FULL,
        cancel: Cancel | None = None,
    ) -> tuple[SpotsTable, list[str]]:
        """Denoises the scan with the spots, and measures what is kept of them.

        Args:
            denoiser: which has denoised the scan.
            result: its result for the scan.
            strength: share of the residual that is added, 0 to 1.
            cancel: called between the steps; True stops.

        Returns:
            the table, and the notices of the second run.

        Raises:
            CanceledError: `cancel` returned True.
        """
        suv, geometry = self._volume.suv_array(), self._volume.geometry
        notices: list[str] = []

        def denoise(image: np.ndarray) -> np.ndarray:
            second = denoiser.denoise(image, geometry, progress=self._second_run, cancel=cancel)
            notices.extend(second.notices)
            return add_residual(image, second.residual, strength)

        found = measure_spots(
            suv,
            geometry.spacing_zyx,
            denoise,
            self._spots,
            resolution_mm=self._resolution_mm,
            denoised_zyx=add_residual(suv, result.residual, strength),
            cancel=cancel,
        )
        return {
            "spots": len(self._spots),
            "resolution_mm": self._resolution_mm,
            "strength": strength,
            "seed": self._seed,
            "noise": found.noise,
            "gaussian_fwhm_mm": found.gaussian_fwhm_mm,
            "rows": found.rows(),
        }, notices

    def _second_run(self, done: int, total: int, seconds_left: float | None) -> None:
        # The spots may add a tile to the body, so that the second run can have another number of tiles.
        self._report(self._tiles + self._tiles * done // max(total, 1), seconds_left)

    def _report(self, done: int, seconds_left: float | None) -> None:
        if self._progress is None:
            return
        total = 2 * self._tiles
        if seconds_left is not None and done > 0:
            seconds_left = (time.monotonic() - self._started) * (total - done) / done
        self._progress(done, total, seconds_left)
