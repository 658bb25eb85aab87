"""Who is scanned: procedural patients of a tracer, or one real scan."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from drmc.simulation.anatomy import Head, WholeBody
from drmc.simulation.centers import Center
from drmc.simulation.scan import Patient
from drmc.simulation.semireal import RealScan, semi_real_patient


@dataclass(frozen=True, kw_only=True)
class PatientSource:
    """Procedural patients, or with `scan` that real scan (and `lesions`, a segmentation of it) at every index.

    `brain_maps`: folder of the ICBM152 gray and white matter maps for heads; without it their brains are procedural.
    """

    tracer: str = "FDG"
    brain_maps: Path | None = None
    scan: Path | None = None
    lesions: Path | None = None

    def patient(self, center: Center, seed: np.random.SeedSequence) -> Patient:
        """The patient whom a center scans; `seed` is that of the anatomy. InputError where the scan is refused."""
        if self.scan is not None:
            return _real_scan(self.scan, self.lesions)
        if center.region == "brain":
            return Head(seed, tracer=self.tracer, maps=self.brain_maps)
        return WholeBody(seed, tracer=self.tracer)

    @property
    def patient_id(self) -> str | None:
        """The one person behind all cases, by the scan's content; None where each case is a person of its own."""
        if self.scan is None:
            return None
        return f"semi-real-{zlib.crc32(_real_scan(self.scan, self.lesions).lps_suv.tobytes()):08x}"

    def to_dict(self) -> dict[str, str | None]:
        """JSON-able, without the folders of this computer."""
        return {key: value.name if isinstance(value, Path) else value for key, value in vars(self).items()}


@lru_cache(maxsize=1)
def _real_scan(scan: Path, lesions: Path | None) -> RealScan:
    return semi_real_patient(scan, lesions)
