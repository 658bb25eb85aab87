"""From a scan on disk to a denoised scan and its numbers: the one path of command line, batch and Slicer.

`run` does one scan, `denoise_volume` the part between reading and writing; a folder of scans is done by
drmc.denoising.batch; drmc.denoising.finding says what a scan is. All is computed first; the outputs are then
written into a hidden folder on the same disk and moved into place by renaming, so that a failure, a refusal
or a cancel leaves the output folder as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drmc import files
from drmc.denoising import kept_residual, organ_change, organ_references, staging
from drmc.denoising.finding import find_scan, of_medium, scan_name
from drmc.denoising.images import write_images
from drmc.denoising.inputs import Inputs, read_inputs
from drmc.denoising.kept_residual import KeptResidual, Prediction
from drmc.denoising.organ_change import OrganChangeRow, organ_changes
from drmc.denoising.outputs import (
    check_free_space,
    move_into_place,
    output_names,
    protect_inputs,
)
from drmc.denoising.request import DenoiseRequest, LoadedModel, check_request
from drmc.denoising.summary import (
    describe_volume,
    fingerprint_of,
    settings_of,
    suv_by_stage,
)
from drmc.dicom.catalog import Catalog
from drmc.errors import DRMCError
from drmc.imaging.formats import image_kind
from drmc.measures import mtv, routing
from drmc.measures.bias import lesion_bias
from drmc.measures.body_change import body_change
from drmc.measures.foci import lowered_foci
from drmc.measures.intervals import Calibration, state_intervals
from drmc.measures.lesion_files import write_lesions_csv
from drmc.measures.lesions import lesion_table
from drmc.measures.rows import LesionRow, LoweredFoci, RoutingRow, SpotsTable
from drmc.measures.sul import state_sul
from drmc.pages.text import unique
from drmc.paths import labeled
from drmc.pet.strength import FULL, add_residual
from drmc.pet.volume import PETVolume
from drmc.report import spots as spots_report
from drmc.report.foci import sentence
from drmc.report.page import write_report
from drmc.report.summary import ComparisonRecord, FingerprintRecord, MetricByStage, Summary
from drmc.report.thumbnails import thumbnails
from drmc.runtime.control import Cancel, Progress, Stopwatch, raise_if_canceled
from drmc.runtime.usage import peak_memory_bytes, versions
from drmc.texts import RESEARCH_USE

if TYPE_CHECKING:
    from drmc.denoising.virtual_spots import VirtualSpots
    from drmc.inference.denoiser import Denoiser, DenoiseResult
    from drmc.pet.dicom_writing import SeriesPlan


# ---- one scan


def run(
    request: DenoiseRequest,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    *,
    name: str | None = None,
    model: LoadedModel | None = None,
    catalog: Catalog | None = None,
) -> Summary:
    """Denoises one scan and returns its summary, the content of OUT/summary.json.

    `progress(done, total, seconds_left)` is called between tiles, `cancel()` between tiles and stages. `name`
    goes into the `scan` column (default: the request's label, or the input's name); `model` shares a loaded
    one between scans; `catalog`, with checksums, is what was read of DICOM files before. Raises InputError
    (refused, nothing written), CanceledError, or DRMCError.
    """
    output = Path(request.output)
    catalog = catalog or Catalog(checksums=True)
    with files.disk_full_as_error(output), staging.Claim(output) as claim:
        return _run(request, claim, progress, cancel, catalog, name=name, model=model)


def _run(
    request: DenoiseRequest,
    claim: staging.Claim,
    progress: Progress | None,
    cancel: Cancel | None,
    catalog: Catalog,
    *,
    name: str | None,
    model: LoadedModel | None,
) -> Summary:
    clock = Stopwatch()
    output = Path(request.output)
    with clock("prepare"):
        check_request(request)
        scan_path = find_scan(Path(request.input), catalog)
        name = name or request.label or scan_name(Path(request.input), catalog)
        staging.check_output_folder(output, inputs=(of_medium(Path(request.input), catalog), scan_path))
        if request.with_series:
            from drmc.pet import dicom_writing  # pydicom is needed for DICOM only

            kind = None if scan_path.is_dir() else image_kind(scan_path)
            dicom_writing.refuse_image_file(labeled(scan_path, request.label), kind)
        predictor = _predictor(request, model)
        kept = predictor if isinstance(predictor, KeptResidual) else None
        folder = claim.take()
    raise_if_canceled(cancel)
    with clock("read"):
        inputs = read_inputs(request, scan_path, catalog, kept)
        if inputs.volume.source != scan_path:  # the voxels that another program passed in
            request = replace(request, input=inputs.volume.source)
        made_from = fingerprint_of(request, inputs.volume.source, predictor, catalog)
        plan = dicom_writing.plan_series(inputs.volume, catalog) if request.with_series else None
        if request.dicom_seg:
            from drmc.denoising import lesion_report

            lesion_report.check_header(inputs.volume, "segmentation")
        elif plan is None:
            catalog.forget_headers()
        calibration = None if inputs.segments is None else predictor.calibration()
        protected = [*inputs.files, *([] if isinstance(predictor, KeptResidual) else [predictor.entry.path])]
        produced = output_names(request, with_lesions=inputs.segments is not None)
        protect_inputs(output, produced, protected)
        check_free_space(output, inputs.volume, with_residual=request.keeps_residual)
    raise_if_canceled(cancel)
    made = _denoise(request, inputs.volume, predictor, clock, progress, cancel, calibration is not None)
    raise_if_canceled(cancel)
    with clock("quantify"):
        measured = _measure(request, name, inputs, made, calibration)
    raise_if_canceled(cancel)
    summary = _summary_of(request, name, inputs, made, measured, produced, made_from)
    summary["notices"] = unique([*summary["notices"], *(plan.notices if plan else [])])
    with clock("write"):
        _write_dicom(folder, request, inputs, made, measured, plan, summary["notices"], cancel, catalog)
        _write_results(folder, request.format, made.volume, measured, summary)
        if made.residual is not None and request.keeps_residual:
            kept_residual.write(folder, request.format, inputs.volume, made.residual, made.predicted)
    with clock("report"):
        summary["seconds"] = clock.so_far()
        summary["peak_memory_bytes"] = peak_memory_bytes()
        summary = files.jsonable(summary)
        _write_page(folder, name, inputs, measured, summary)
    summary["seconds"] = files.jsonable(clock.so_far())
    summary["peak_memory_bytes"] = peak_memory_bytes()
    files.write_json(folder / "summary.json", summary)
    raise_if_canceled(cancel)
    move_into_place(folder, output, produced, protected)
    return summary


def _predictor(request: DenoiseRequest, model: LoadedModel | None) -> LoadedModel | KeptResidual:
    """Where the residual comes from: a model, or a run that kept it."""
    if request.residual is not None:
        return kept_residual.read(Path(request.residual))
    return model or LoadedModel(request)


@dataclass
class _Made:
    """What denoising made.

    Attributes:
        volume: the denoised scan.
        predicted: what the network gave beside the residual.
        residual: at full strength and in the scan's own units, if it is kept or measures need it.
        spots: the table of virtual spots, if they were requested and one fits.
        notices: on the virtual spots.
    """

    volume: PETVolume
    predicted: Prediction
    residual: np.ndarray | None
    spots: SpotsTable | None = None
    notices: list[str] = field(default_factory=list)


def _denoise(
    request: DenoiseRequest,
    volume: PETVolume,
    predictor: LoadedModel | KeptResidual,
    clock: Stopwatch,
    progress: Progress | None,
    cancel: Cancel | None,
    with_residual: bool,
) -> _Made:
    """What was made of the scan; `with_residual`: measures need the residual at another strength."""
    needs_residual = request.keeps_residual or (with_residual and request.strength != FULL)
    if isinstance(predictor, KeptResidual):
        with clock("denoise"):
            return _Made(
                predictor.denoised(volume, request.strength),
                predictor.prediction,
                predictor.residual if needs_residual else None,
            )
    with clock("load_model"):
        denoiser = predictor.load()
    raise_if_canceled(cancel)
    spots: VirtualSpots | None = None
    notices: list[str] = []
    if request.spots:
        with clock("spots"):
            spots, notices = _placed_spots(volume, progress)
        raise_if_canceled(cancel)
    with clock("denoise"):
        denoised, result = denoise_volume(
            volume,
            denoiser,
            strength=request.strength,
            progress=progress if spots is None else spots.first_run,
            cancel=cancel,
        )
    clock.seconds.update({f"denoise_{stage}": seconds for stage, seconds in result.seconds.items()})
    residual = volume.from_suv(result.residual) if needs_residual else None
    made = _Made(denoised, Prediction.of(result, predictor.entry, denoiser.tile), residual, notices=notices)
    if spots is not None:
        with clock("spots"):
            made.spots, made.notices = spots.measure(
                denoiser, result, strength=request.strength, cancel=cancel
            )
    return made


def _placed_spots(volume: PETVolume, progress: Progress | None) -> tuple[VirtualSpots | None, list[str]]:
    """The virtual spots of a scan; None and a notice if none fits, which is no reason to refuse the scan."""
    from drmc.denoising.virtual_spots import VirtualSpots  # torch is needed for the network only
    from drmc.measures.spots import NoSpotFitsError

    try:
        return VirtualSpots(volume, progress=progress), []
    except NoSpotFitsError as error:
        return None, [f"virtual spots are not measured: {error}"]


@dataclass
class _Measured:
    """What is measured on a scan: `stages` SUV (z, y, x) by stage, and the tables made from them."""

    stages: dict[str, np.ndarray]
    lesions: list[LesionRow]
    routing: list[RoutingRow]
    routing_lesions: dict[str, list[RoutingRow]] | None
    comparison: ComparisonRecord | None
    lowered: LoweredFoci
    calibration: Calibration | None
    organs: list[OrganChangeRow] | None
    references: dict[str, Any]


def _measure(
    request: DenoiseRequest,
    name: str,
    inputs: Inputs,
    made: _Made,
    calibration: Calibration | None,
) -> _Measured:
    volume, segments, reference = inputs.volume, inputs.segments, inputs.reference
    predicted = made.predicted
    stages = {"original": volume.suv_array(), "denoised": made.volume.suv_array()}
    if reference is not None:
        stages["reference"] = reference.suv_array()
    original, organs = stages["original"], inputs.organs
    regions = organ_references.regions(original, volume.geometry, organs or (), segments or ())
    percist = organ_references.threshold(original, regions)
    lesions = (
        lesion_table(name, segments, stages, volume.geometry, request.liver_reference, percist)
        if segments
        else []
    )
    state_sul(lesions, volume.suv, None if reference is None else reference.suv)
    if calibration is not None:
        _state_intervals(request, inputs, calibration, lesions, stages, made.residual)
    return _Measured(
        stages,
        lesions,
        predicted.routing,
        None
        if segments is None
        else {
            segment.name: routing.routing_table(predicted.gates_TLM, predicted.layout.voxels_of(segment))
            for segment in segments
        },
        None if reference is None else compare_with_reference(reference, stages, lesions),
        lowered_foci(original, stages["denoised"], volume.geometry, segments),
        calibration,
        None if organs is None else organ_changes(name, organs, stages, volume.geometry),
        organ_references.record(regions, stages),
    )


def _state_intervals(
    request: DenoiseRequest,
    inputs: Inputs,
    calibration: Calibration,
    lesions: list[LesionRow],
    stages: dict[str, np.ndarray],
    residual: np.ndarray | None,
) -> None:
    """Sets the intervals of full dose in the lesion table, from the image at full strength."""
    volume, at_full_strength = inputs.volume, stages["denoised"]
    if request.strength != FULL and residual is not None:
        whole = replace(volume, array=add_residual(volume.array, residual, FULL))
        at_full_strength = whole.suv_array()
    state_intervals(
        lesions,
        calibration,
        volume.suv.to_dict(),
        stages["original"],
        at_full_strength,
        inputs.segments or (),
        volume.geometry.rounded().spacing_zyx,
    )


def _summary_of(
    request: DenoiseRequest,
    name: str,
    inputs: Inputs,
    made: _Made,
    measured: _Measured,
    produced: Sequence[str],
    made_from: FingerprintRecord,
) -> Summary:
    """The content of summary.json; seconds and memory are set at the end."""
    stages, geometry = measured.stages, inputs.volume.geometry
    before_after = stages["original"], stages["denoised"], geometry
    predicted = made.predicted
    warnings = (sentence(measured.lowered), spots_report.sentence(made.spots or {}))
    liver = organ_references.liver_of(inputs.segments or (), inputs.organs or (), request.liver_reference)
    organs = None
    if measured.organs is not None:
        label = request.organs_label or str(request.organs)
        organs = organ_change.record(label, measured.organs, measured.references)
    return {
        "scan": name,
        "intended_use": RESEARCH_USE,
        "input": describe_volume(inputs.volume),
        "settings": settings_of(request),
        "fingerprint": made_from,
        "suv": inputs.volume.suv.to_dict(),
        "model": predicted.model,
        "device": predicted.device,
        "precision": predicted.precision,
        "strength": request.strength,
        "tiles": {"count": len(predicted.gates_TLM), "edge": predicted.model["tile"]},
        "body": body_change(*before_after, liver),
        "notices": [
            *(text for text in warnings if text),
            *(*inputs.notices, *predicted.notices, *made.notices),
            *(organs["sentences"] if organs else ()),
            *(*predicted.unlike, *mtv.peak_notes(measured.lesions, inputs.volume.geometry)),
        ],
        "lesions": None
        if inputs.segments is None
        else {"input": request.lesions_label or str(request.lesions), "segments": measured.lesions},
        "organs": organs,
        "lesion_intervals": None if measured.calibration is None else measured.calibration.to_dict(),
        "lowered_foci": measured.lowered,
        "virtual_spots": made.spots,
        "reference": measured.comparison,
        "routing": measured.routing,
        "routing_lesions": measured.routing_lesions,
        "routing_nearest": predicted.routing_nearest,
        "thumbnails": thumbnails(*before_after),
        "outputs": list(produced),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(predicted.torch_version),
        "seconds": {},
        "peak_memory_bytes": 0,
    }


def _write_results(
    folder: Path, form: str, denoised: PETVolume, measured: _Measured, summary: Summary
) -> None:
    if form != "dicom":
        write_images(folder, form, denoised)
    if measured.routing_lesions is not None:
        write_lesions_csv(folder / "lesions.csv", measured.lesions, suv_by_stage(summary))
        routing.write_routing_lesions_csv(folder / "routing_lesions.csv", measured.routing_lesions)
    if measured.organs is not None:
        organ_change.write_csv(folder / organ_change.NAME, measured.organs)
    routing.write_routing_csv(folder / "routing.csv", measured.routing)


def _write_dicom(
    folder: Path,
    request: DenoiseRequest,
    inputs: Inputs,
    made: _Made,
    measured: _Measured,
    plan: SeriesPlan | None,
    notices: Sequence[str],
    cancel: Cancel | None,
    catalog: Catalog,
) -> None:
    """What the request asks for in DICOM."""
    if plan is None and not request.dicom_seg:
        return
    from drmc.denoising import dicom_outputs  # pydicom is needed for DICOM only
    from drmc.pet.dicom_writing import Equipment

    if plan is not None:
        model = made.predicted.model
        made_by = Equipment(model["name"], model["sha256"], request.strength)
        dicom_outputs.write_series_and_report(
            folder, inputs, made.volume, measured.lesions, plan, made_by, notices, cancel, catalog
        )
    if request.dicom_seg and inputs.segments is not None:
        dicom_outputs.write_segmentation(folder, inputs, catalog)


def _write_page(folder: Path, name: str, inputs: Inputs, measured: _Measured, summary: Summary) -> None:
    write_report(
        folder / "report.html",
        title=name,
        original_suv=measured.stages["original"],
        denoised_suv=measured.stages["denoised"],
        geometry=inputs.volume.geometry,
        suv=summary["suv"],
        lesions=measured.lesions,
        routing=measured.routing,
        summary=summary,
        header=inputs.volume.header,
        segments=inputs.segments,
    )


def denoise_volume(
    volume: PETVolume,
    denoiser: Denoiser,
    *,
    strength: float = FULL,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> tuple[PETVolume, DenoiseResult]:
    """Denoises a volume: original + strength x residual, on its own grid and in its own units, never clipped.

    Voxels to which nothing is added keep their very bits. Returns the denoised volume (everything but the
    array is the scan's) and the denoiser's result, with the whole residual. Raises CanceledError, or
    DRMCError if the model's values are not finite.
    """
    result = denoiser.denoise(volume.suv_array(), volume.geometry, progress=progress, cancel=cancel)
    array = add_residual(volume.array, volume.from_suv(result.residual), strength)
    if not np.isfinite(array).all():
        raise DRMCError(
            "the model gave values that are not finite numbers: try --precision fp32 or another model"
        )
    return replace(volume, array=array), result


def compare_with_reference(
    reference: PETVolume, stages: dict[str, np.ndarray], lesion_rows: Sequence[LesionRow] = ()
) -> ComparisonRecord:
    """How near original and denoised are to the full-dose image: image metrics in the body, and lesion bias.

    `stages` has `original`, `denoised` and `reference`, each SUV (z, y, x) on one grid; `lesion_rows` is
    their lesion table. The body is the reference's (no body, no image metrics). PSNR and SSIM have data
    range 20 SUV, nothing clipped; definitions in drmc.measures.metrics and drmc.measures.bias.
    """
    from drmc.imaging.body import body_mask
    from drmc.measures.metrics import SUV_RANGE, nrmse, psnr, ssim

    truth = stages["reference"]
    body = body_mask(truth, reference.geometry.spacing_zyx)

    def by_stage(metric: Callable[..., float]) -> MetricByStage:
        before, after = (
            float(metric(stages[stage], truth, mask=body)) if body.any() else None
            for stage in ("original", "denoised")
        )
        return {"original": before, "denoised": after}

    comparison: ComparisonRecord = {
        "input": describe_volume(reference),
        "suv": reference.suv.to_dict(),
        "unit": "SUV",
        "data_range": SUV_RANGE,
        "mask": "body of the reference",
        "voxels": int(body.sum()),
        "psnr": by_stage(psnr),
        "nrmse": by_stage(nrmse),
        "ssim": by_stage(ssim),
    }
    if lesion_rows:
        comparison["lesions"] = lesion_bias(lesion_rows)
    return comparison
