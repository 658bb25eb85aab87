"""The pieces of an evaluation that run in worker processes: tuning, test patients, spots, real scans."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from drmc.datasets.manifest import Case
from drmc.evaluation.config import RealScan
from drmc.evaluation.estimators import Estimator
from drmc.evaluation.measures import Pair
from drmc.evaluation.pictures import pictures
from drmc.evaluation.real import measure_real_scan
from drmc.evaluation.records import CaseRecord, RealRecord, SpotsRecord
from drmc.evaluation.running import Share
from drmc.evaluation.spots import DEPENDS_ON, measure_volume
from drmc.evaluation.store import Store, checksums, key_of
from drmc.evaluation.tuning import Grid, score
from drmc.pet.volume import PETVolume


@dataclass(frozen=True)
class CaseTask:
    """A test patient: `jobs` holds the estimators by dose reduction factor; `store` keeps what is done."""

    case: Case
    jobs: dict[float, list[Estimator]]
    store: Path
    simulated: bool
    shown: bool
    threads: int

    @property
    def name(self) -> str:
        """Name for people."""
        return self.case.case_id

    def run(self, share: Share) -> dict[float, list[CaseRecord]]:
        """The records by dose, in the order of the estimators; stored ones are not computed again."""
        store, total = Store(self.store), sum(map(len, self.jobs.values()))
        files = checksums(self.case.files())
        results: dict[float, list[CaseRecord]] = {}
        done = 0
        for factor, estimators in self.jobs.items():
            pair: Pair | None = None
            of_dose = {k: v for k, v in files.items() if not k.startswith("low")} | {
                "low": files[f"low {factor:g}"]
            }
            results[factor] = []
            for estimator in estimators:
                key = key_of(of_dose, self.simulated, *estimator.depends_on())
                record = store.get(key)
                if record is None or (self.shown and not record["pictures"]):
                    pair = pair or Pair.read(self.case, factor, simulated=self.simulated)
                    part = lambda inner, done=done: share((done + min(inner, 0.9)) / total)
                    record = store.put(key, self._measure(pair, estimator, part))
                done += 1
                share(done / total)
                results[factor].append(
                    cast(CaseRecord, record)
                )  # what the store holds is a CaseRecord in JSON
        return results

    def _measure(self, pair: Pair, estimator: Estimator, share: Share) -> CaseRecord:
        start = time.monotonic()
        image, device = estimator.estimate(pair.low, pair.full, pair.geometry, share)
        seconds = time.monotonic() - start
        if estimator.kind == "full":  # its distance from itself says nothing
            metrics = pair.liver_metrics(image)
        else:
            metrics = pair.metrics(image)
        return {
            "kind": estimator.kind,
            "parameters": dict(estimator.parameters),
            "model_sha256": estimator.sha256,
            "device": device,
            "seconds": seconds,
            "metrics": metrics,
            "lesions": pair.lesions(image),
            "pictures": pictures(image, pair) if self.shown else None,
        }


@dataclass(frozen=True)
class TuningTask:
    """A tuning patient at one dose: the scores of all parameters of a filter."""

    case: Case
    factor: float
    filter: str
    grid: Grid
    store: Path
    threads: int

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.case.case_id}, {self.filter}"

    def run(self, share: Share) -> list[float]:
        """PSNR [dB] of every combination of parameters, in their order."""
        store = Store(self.store)
        files = checksums([("low", self.case.low[self.factor]), ("full", self.case.full)])
        key = key_of("tuning", files, self.filter, self.grid.depends_on())
        record = store.get(key)
        if record is None:
            pair = Pair.read(self.case, self.factor, simulated=False)
            scores = score(pair, self.filter, self.grid, share)
            record = store.put(key, {"filter": self.filter, "grid": self.grid.depends_on(), "psnr": scores})
        share(1.0)
        return record["psnr"]


@dataclass(frozen=True)
class RealTask:
    """A real full-dose scan and the networks that it goes through."""

    scan: RealScan
    estimators: Sequence[Estimator]
    store: Path
    threads: int

    @property
    def name(self) -> str:
        """Name for people."""
        return self.scan.name

    def run(self, share: Share) -> list[RealRecord]:
        """The records, in the order of the estimators."""
        store = Store(self.store)
        scan = self.scan
        places = (("scan", scan.scan), ("lesions", scan.lesions), ("organs", scan.organs))
        files = checksums((name, Path(path)) for name, path in places if path)
        keys = [key_of("real", files, *estimator.depends_on()) for estimator in self.estimators]
        records = {key: record for key in keys if (record := store.get(key)) is not None}
        missing = [k for k, key in enumerate(keys) if key not in records]
        if missing:
            measured = measure_real_scan(self.scan, [self.estimators[k] for k in missing], share)
            for index, found in zip(missing, measured, strict=True):
                records[keys[index]] = store.put(keys[index], found)
        share(1.0)
        return [cast(RealRecord, records[key]) for key in keys]


@dataclass(frozen=True)
class SpotsTask:
    """A test patient at one dose, and the networks whose loss of virtual spots is measured."""

    case: Case
    factor: float
    estimators: Sequence[Estimator]
    store: Path
    threads: int

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.case.case_id}, virtual spots"

    def run(self, share: Share) -> list[SpotsRecord]:
        """The records, in the order of the estimators."""
        store, count = Store(self.store), len(self.estimators)
        files = checksums([("low", self.case.low[self.factor])])
        volume: PETVolume | None = None
        found = []
        for done, estimator in enumerate(self.estimators):
            key = key_of("spots", files, DEPENDS_ON, *estimator.depends_on())
            record = store.get(key)
            if record is None:
                volume = volume or self.case.read(self.case.low[self.factor])
                part = lambda inner, done=done: share((done + inner) / count)
                record = store.put(key, measure_volume(volume, estimator, part))
            found.append(cast(SpotsRecord, record))
            share((done + 1) / count)
        return found
