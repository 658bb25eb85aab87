"""Who is scanned: procedural patients of a tracer, one real scan, or the body of a label map."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from drmc.errors import InputError
from drmc.simulation.anatomy import Body, Head, WholeBody, fresh
from drmc.simulation.centers import Center
from drmc.simulation.fields import WHOLE, in_field
from drmc.simulation.labelmap import LabeledBody, read_label_map
from drmc.simulation.lesion_draws import MAX_SITES
from drmc.simulation.scan import Patient, scan_range
from drmc.simulation.semireal import RealScan, semi_real_patient
from drmc.simulation.tracers import MIXED, draw_tracer
from drmc.simulation.window import Window


@dataclass(frozen=True, kw_only=True)
class PatientSource:
    """Procedural patients, or with `scan` that real scan, or with `label_map` the body of that map.

    A real scan and a label map are the patient at every index. Raises InputError for a label map without
    names.
    """

    tracer: str = "FDG"
    """A name of `tracers.TRACERS`, or `mixed` (heads: FDG)."""
    brain_maps: Path | None = None
    """Folder of the ICBM152 gray and white matter maps for heads; None: their brains are procedural."""
    scan: Path | None = None
    lesions: Path | None = None
    """Segmentation of the lesions of `scan`."""
    organs: Path | None = None
    """Segmentation of its organs, whose liver and lungs are taken; None: they are guessed."""
    units: str | None = None
    """Of the voxels of `scan`, where the file does not state them."""
    label_map: Path | None = None
    label_names: Path | None = None
    """JSON file that names the labels of the map."""
    weight_kg: float | None = None
    """Of the map's body; None: the mass of its tissues."""
    wide_uptake: float = 0.0
    """Share of the patients whose uptake is drawn far beyond the tracer's table."""
    wide_build: float = 0.0
    """Share of those whose height and weight are drawn far beyond the usual."""
    many_lesions: float = 0.0
    """Share of those with tens of lesions of every size and contrast in the scanned range."""
    field: str = WHOLE
    """The scanned part of procedural bodies, a name of `fields.FIELD_NAMES`."""

    def __post_init__(self) -> None:
        if (self.label_map is None) != (self.label_names is None):
            raise InputError("a label map and the names of its labels belong together")

    def patient(self, center: Center, seed: np.random.SeedSequence, axial_mm: float | None = None) -> Patient:
        """The patient whom a center scans.

        Args:
            center: the center.
            seed: of the anatomy.
            axial_mm: how much of the patient is scanned at most (None: all). Patients with many lesions are
                cut to such a window here, so that their lesions lie in it.

        Raises:
            InputError: the scan or the map is refused.
        """
        if self.scan is not None:
            return self._real_scan(self.scan)
        # the first six children of the seed are the body's own
        field, tracer, build, lesions = map(np.random.default_rng, fresh(seed).spawn(10)[6:])
        if self.label_map is None and center.region == "brain":
            return Head(seed, tracer="FDG" if self.tracer == MIXED else self.tracer, maps=self.brain_maps)
        many = bool(lesions.random() < self.many_lesions)
        name, max_lesions = draw_tracer(tracer, self.tracer), 0 if many else MAX_SITES
        body: Body
        if self.label_map is not None:
            label_map = read_label_map(self.label_map, self.label_names)
            body = LabeledBody(
                label_map,
                seed,
                max_lesions=max_lesions,
                tracer=name,
                wide_uptake=self.wide_uptake,
                weight_kg=self.weight_kg,
            )
            seen: Patient = body
        else:
            wide_build = bool(build.random() < self.wide_build)
            body = WholeBody(seed, max_lesions, name, self.wide_uptake, wide_build)
            seen = in_field(body, self.field, field)
        return _with_many_lesions(body, seen, center, axial_mm, lesions) if many else seen

    def check(self) -> None:
        """Reads the real scan, if there is one. Raises InputError where it is refused."""
        if self.scan is not None:
            self._real_scan(self.scan)

    def _real_scan(self, scan: Path) -> RealScan:
        return _real_scan(scan, self.lesions, self.units, self.organs)

    @property
    def patient_id(self) -> str | None:
        """The one person behind all cases, by the content of scan or map; None for procedural patients."""
        if self.label_map is not None:
            return read_label_map(self.label_map, self.label_names).patient_id
        if self.scan is None:
            return None
        return f"semi-real-{zlib.crc32(self._real_scan(self.scan).lps_suv.tobytes()):08x}"

    def to_dict(self) -> dict[str, str | float | None]:
        """JSON-able, without the folders of this computer."""
        return {key: value.name if isinstance(value, Path) else value for key, value in vars(self).items()}


@lru_cache(maxsize=1)
def _real_scan(scan: Path, lesions: Path | None, units: str | None, organs: Path | None) -> RealScan:
    return semi_real_patient(scan, lesions, units=units, organs=organs)


def _with_many_lesions(
    body: Body, seen: Patient, center: Center, axial_mm: float | None, rng: np.random.Generator
) -> Patient:
    lower, upper = seen.axial_range()
    lower = max(lower, scan_range(center, *getattr(seen, "whole_range", seen.axial_range)())[0])
    if axial_mm is not None and axial_mm < upper - lower:
        lower = float(rng.uniform(lower, upper - axial_mm))
        seen = Window(seen, lower, upper := lower + axial_mm)
    body.draw_many_lesions(lower, upper)
    return seen
