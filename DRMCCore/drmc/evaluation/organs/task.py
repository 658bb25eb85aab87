"""One simulated patient in all conditions: the work of one process in an evaluation of organs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

from drmc.datasets.manifest import Case
from drmc.errors import InputError
from drmc.evaluation.organs.cases import Condition, conditions, read_condition, read_reference
from drmc.evaluation.organs.records import ScanRecord
from drmc.evaluation.organs.scores import MEASURES, ScanScores, scan_scores
from drmc.evaluation.organs.template import Template
from drmc.evaluation.running import Share
from drmc.evaluation.store import Store, checksums, key_of
from drmc.imaging.geometry import Geometry
from drmc.models.card import ModelEntry
from drmc.organs.grid import oriented
from drmc.organs.segmenter import Segmenter


class CaseResult(TypedDict):
    """The records of a patient by condition, and the scores of the template."""

    conditions: list[tuple[Condition, ScanRecord]]
    template: ScanScores | None


@dataclass(frozen=True)
class OrganTask:
    """A patient that is labeled in every condition; `store` keeps what is done."""

    case: Case
    model: ModelEntry
    template: Template | None
    device: str
    precision: str
    store: Path
    threads: int

    @property
    def name(self) -> str:
        """Name for people."""
        return self.case.case_id

    def run(self, share: Share) -> CaseResult:
        """The records; stored ones are not computed again."""
        store, files = Store(self.store), checksums(self.case.files())
        todo = list(conditions(self.case))
        patient = _Patient(self.case)
        found = []
        for done, condition in enumerate(todo):
            key = key_of("organs", MEASURES, files, self.model.sha256, self.precision, list(condition))
            record = store.get(key)
            if record is None:
                part = lambda inner, done=done: share((done + min(inner, 0.9)) / (len(todo) + 1))
                record = store.put(key, self._measure(patient, condition, part))
            share((done + 1) / (len(todo) + 1))
            found.append((condition, cast(ScanRecord, record)))
        return {"conditions": found, "template": self._template(patient, store, files)}

    def _measure(self, patient: _Patient, condition: Condition, share: Share) -> ScanRecord:
        image, geometry = read_condition(self.case, condition)
        segmenter = _segmenter(self.model.path, self.model.sha256, self.device, self.precision)
        start = time.monotonic()
        labels = segmenter.segment(image, geometry, progress=lambda done, total, left: share(done / total))
        seconds = time.monotonic() - start
        patient.check(geometry)
        corrected = patient.corrected(condition, image)
        scores = scan_scores(
            labels.labels,
            patient.reference,
            patient.geometry,
            corrected_zyx=corrected,
            truth_zyx=patient.truth(),
        )
        return {"scores": scores, "seconds": seconds, "device": labels.device}

    def _template(self, patient: _Patient, store: Store, files: dict[str, str]) -> ScanScores | None:
        if self.template is None:
            return None
        key = key_of("template", MEASURES, files["organs"], self.template.sha256)
        record = store.get(key)
        if record is None:
            reference, grid = oriented(patient.reference, patient.geometry)
            record = store.put(key, scan_scores(self.template.laid_over(reference, grid), reference, grid))
        return cast(ScanScores, record)


class _Patient:
    """What all conditions of a patient are compared with, read when it is needed."""

    def __init__(self, case: Case):
        self._case = case
        self._reference: tuple[np.ndarray, Geometry] | None = None
        self._truth: np.ndarray | None = None

    @property
    def reference(self) -> np.ndarray:
        """The classes."""
        return self._read()[0]

    @property
    def geometry(self) -> Geometry:
        """Their grid."""
        return self._read()[1]

    def check(self, geometry: Geometry) -> None:
        """Refuses images on another grid than that of the labels."""
        if not self.geometry.matches(geometry, tolerance=0.1):
            raise InputError(
                f"case {self._case.case_id}: image and organs are on different grids ({geometry}; "
                f"{self.geometry}): simulate it again"
            )

    def corrected(self, condition: Condition, image: np.ndarray) -> np.ndarray | None:
        """The image corrected for attenuation of the same dose."""
        factor = condition.dose_reduction_factor
        if condition.corrected:
            return image
        if factor != 1 and factor not in self._case.low:
            return None
        return read_condition(self._case, Condition(True, factor))[0]

    def truth(self) -> np.ndarray | None:
        """The true activity, where the dataset has it."""
        if self._truth is None and self._case.truth is not None:
            self._truth, geometry = self._case.read_truth()
            self.check(geometry)
        return self._truth

    def _read(self) -> tuple[np.ndarray, Geometry]:
        if self._reference is None:
            self._reference = read_reference(self._case)
        return self._reference


@lru_cache(maxsize=1)
def _segmenter(path: Path, sha256: str, device: str, precision: str) -> Segmenter:
    """The network of a model, kept for all patients of a process."""
    return Segmenter.from_model(ModelEntry(path.stem, path, {}, sha256), device=device, precision=precision)
