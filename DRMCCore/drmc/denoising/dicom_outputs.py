"""What a run writes in DICOM: the denoised series, the structured report, the segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drmc.denoising import lesion_report
from drmc.denoising.inputs import Inputs
from drmc.denoising.outputs import MEASUREMENTS, MEASUREMENTS_FILE, SEGMENTATION, SEGMENTATION_FILE
from drmc.dicom.catalog import Catalog
from drmc.measures.rows import LesionRow
from drmc.pet.dicom_writing import Equipment, SeriesPlan, write_series
from drmc.pet.volume import PETVolume
from drmc.runtime.control import Cancel


def write_series_and_report(
    folder: Path,
    inputs: Inputs,
    denoised: PETVolume,
    lesions: Sequence[LesionRow],
    plan: SeriesPlan,
    made_by: Equipment,
    notices: Sequence[str],
    cancel: Cancel | None,
    catalog: Catalog,
) -> None:
    """Writes the denoised series, and with lesions the structured report that refers to it.

    Args:
        folder: that of the run, with all its outputs.
        inputs: what was read.
        denoised: the denoised scan.
        lesions: the lesion table.
        plan: how the series is written.
        made_by: what made the denoised image.
        notices: for the reader of the report.
        cancel: asked between slices.
        catalog: what was read of DICOM files before.
    """
    slices = write_series(folder / "denoised", denoised, plan, made_by, cancel, catalog)
    if inputs.segments is None:
        return
    (folder / MEASUREMENTS).mkdir()
    lesion_report.write(
        folder / MEASUREMENTS / MEASUREMENTS_FILE,
        inputs.volume,
        lesions,
        inputs.segments,
        lesion_report.images(inputs.volume, catalog, denoised=slices, reference=inputs.reference),
        catalog,
        denoised_by=made_by,
        notices=notices,
    )


def write_segmentation(folder: Path, inputs: Inputs, catalog: Catalog) -> None:
    """Writes the lesions as a DICOM segmentation into the folder of the run."""
    (folder / SEGMENTATION).mkdir()
    lesion_report.write_segmentation(
        folder / SEGMENTATION / SEGMENTATION_FILE, inputs.volume, inputs.segments or (), catalog
    )
