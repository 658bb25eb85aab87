"""What a batch does to each of its scans, apart from how it goes through them: here, denoising."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from drmc.denoising import batch_table, cohort_page, pipeline, resume
from drmc.denoising.batch_table import TableForm
from drmc.denoising.request import DenoiseRequest, LoadedModel, check_request
from drmc.denoising.summary import suv_warnings
from drmc.dicom.catalog import Catalog
from drmc.runtime.control import Cancel, Progress


class BatchWork(Protocol):
    """One kind of work. An object of a module, so that a worker process can be given its name.

    Attributes:
        companions: fields of a request that are looked for scan by scan; each is also an option's name.
        of_one_scan: fields that a batch refuses.
        table: the columns of batch.csv, and the table that collects those of the scans.
        without_lesions: what the row of a scan says that has none although lesions were given.
        counted: what progress within a scan counts, a singular noun.
        warned: what the column `warnings` holds, in words.
    """

    companions: tuple[str, ...]
    of_one_scan: tuple[str, ...]
    table: TableForm
    without_lesions: str
    counted: str
    warned: str

    def check(self, request: Any) -> None:
        """Refuses what no scan can be done with. Raises InputError."""

    def model(self, request: Any) -> Any:
        """What is made ready once for all scans: `load()`, and `sha256` of its weights. Raises InputError."""

    def why_again(self, request: Any, model: Any, catalog: Catalog) -> str | None:
        """Why a scan has to be computed; None where its result is there, "" where none is."""

    def run(
        self,
        request: Any,
        progress: Progress | None,
        cancel: Cancel | None,
        *,
        name: str,
        model: Any,
        catalog: Catalog,
    ) -> Mapping[str, Any]:
        """Does one scan and returns its summary."""

    def warnings(self, summary: Mapping[str, Any]) -> list[str]:
        """Warnings that are told while the batch runs."""

    def write_page(self, output: Path, rows: Sequence[Mapping[str, str]]) -> None:
        """Writes a page about all scans, from the rows of batch.csv."""


class Denoising:
    """Each scan is denoised: `drmc denoise`."""

    companions: tuple[str, ...] = ("lesions", "reference", "organs")
    of_one_scan: tuple[str, ...] = (
        *("voxels", "label", "reference_voxels", "reference_label", "lesions_label"),
        *("organs_label", "residual"),
    )
    table = batch_table.DENOISED
    without_lesions = "no lesions of this name: no lesion table"
    counted = "tile"
    warned = "SUV warnings"

    def check(self, request: DenoiseRequest) -> None:
        """As of BatchWork."""
        check_request(request, batch=True)

    def model(self, request: DenoiseRequest) -> LoadedModel:
        """As of BatchWork."""
        return LoadedModel(request)

    def why_again(self, request: DenoiseRequest, model: LoadedModel, catalog: Catalog) -> str | None:
        """As of BatchWork."""
        return resume.why_again(request, model.entry, catalog)

    def run(
        self,
        request: DenoiseRequest,
        progress: Progress | None,
        cancel: Cancel | None,
        *,
        name: str,
        model: LoadedModel,
        catalog: Catalog,
    ) -> Mapping[str, Any]:
        """As of BatchWork."""
        return pipeline.run(request, progress, cancel, name=name, model=model, catalog=catalog)

    def warnings(self, summary: Mapping[str, Any]) -> list[str]:
        """As of BatchWork."""
        return suv_warnings(summary)

    def write_page(self, output: Path, rows: Sequence[Mapping[str, str]]) -> None:
        """As of BatchWork."""
        cohort_page.write(output, rows)


DENOISING = Denoising()
