"""Who is scanned: procedural patients of a tracer, one real scan, or the body of a label map."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from drmc.simulation.anatomy import Head, WholeBody, fresh
from drmc.simulation.centers import Center
from drmc.simulation.fields import WHOLE, in_field
from drmc.simulation.labelmap import LabeledBody, read_label_map
from drmc.simulation.scan import Patient
from drmc.simulation.semireal import RealScan, semi_real_patient


@dataclass(frozen=True, kw_only=True)
class PatientSource:
    """Procedural patients; or with `scan` that real scan (and `lesions`, a segmentation of it), or with `label_map` the body
    of that map (named by `label_names`, of `weight_kg` if given), at every index.

    `brain_maps`: folder of the ICBM152 gray and white matter maps for heads; without it their brains are procedural.
    `wide_uptake`: share of the patients whose uptake is drawn far beyond the tracer's table. `field`: what of procedural
    bodies is scanned, a name of `fields.FIELD_NAMES`.
    """

    tracer: str = "FDG"
    brain_maps: Path | None = None
    scan: Path | None = None
    lesions: Path | None = None
    label_map: Path | None = None
    label_names: Path | None = None
    weight_kg: float | None = None
    wide_uptake: float = 0.0
    field: str = WHOLE

    def patient(self, center: Center, seed: np.random.SeedSequence) -> Patient:
        """The patient whom a center scans; `seed` is that of the anatomy. InputError where the scan or map is refused."""
        if self.scan is not None:
            return _real_scan(self.scan, self.lesions)
        if self.label_map is not None:
            label_map = read_label_map(self.label_map, self.label_names)
            return LabeledBody(
                label_map, seed, tracer=self.tracer, wide_uptake=self.wide_uptake, weight_kg=self.weight_kg
            )
        if center.region == "brain":
            return Head(seed, tracer=self.tracer, maps=self.brain_maps)
        body = WholeBody(seed, tracer=self.tracer, wide_uptake=self.wide_uptake)
        return in_field(body, self.field, np.random.default_rng(fresh(seed).spawn(7)[6]))

    @property
    def patient_id(self) -> str | None:
        """The one person behind all cases, by the content of scan or map; None where each case is a person of its own."""
        if self.label_map is not None:
            return read_label_map(self.label_map, self.label_names).patient_id
        if self.scan is None:
            return None
        return f"semi-real-{zlib.crc32(_real_scan(self.scan, self.lesions).lps_suv.tobytes()):08x}"

    def to_dict(self) -> dict[str, str | None]:
        """JSON-able, without the folders of this computer."""
        return {key: value.name if isinstance(value, Path) else value for key, value in vars(self).items()}


@lru_cache(maxsize=1)
def _real_scan(scan: Path, lesions: Path | None) -> RealScan:
    return semi_real_patient(scan, lesions)
