"""From a scan on disk to a denoised scan and its numbers: the one path of command line, batch and Slicer.

`run` does one scan, `denoise_volume` the part between reading and writing; a folder of scans is done by
drmc.batch, and what a scan is says drmc.scans. All is computed first; the outputs are then written into a hidden folder on the same disk and moved into
place by renaming, so that a failure, a refusal or a cancel leaves the output folder as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drmc import files, fingerprint, staging
from drmc.errors import DRMCError, InputError
from drmc.imaging.files import write_image
from drmc.imaging.formats import image_kind, stem
from drmc.imaging.geometry import Geometry
from drmc.measures import mtv, routing, routing_profiles
from drmc.measures.bias import lesion_bias
from drmc.measures.body_change import body_change
from drmc.measures.lesion_files import write_lesions_csv
from drmc.measures.lesions import lesion_table
from drmc.models.card import ModelEntry
from drmc.models.registry import find_model
from drmc.pages.text import unique
from drmc.pet import sidecars
from drmc.pet import units as unit_names
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from drmc.report.page import write_report
from drmc.report.thumbnails import thumbnails
from drmc.runtime.control import Cancel, Progress, Stopwatch, raise_if_cancelled
from drmc.runtime.usage import peak_memory_bytes, versions
from drmc.scans import find_scan, of_medium, passed_over, scan_name
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from drmc.suv import wording
from drmc.suv.sidecar import ACTIVITY_UNITS

if TYPE_CHECKING:
    from drmc.inference.denoiser import Denoiser, DenoiseResult


INTENDED_USE = "Research use only. Not for diagnosis or treatment."
FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "dicom": ""}  # dicom: a folder of slices


@dataclass(frozen=True)
class DenoiseRequest:
    """What to denoise, with what, and where the result goes.

    `lesions` and `reference` are files for one scan; for a batch a folder with the scans' names, or a
    pattern with `{name}` (the scan's name) or `{folder}` (the folder that holds it). `format` is a key of
    FORMATS. `units` ("suv" or "bqml") says what a file without a side-car holds; `accept_rule` names the
    SUV reference-time rule to take when the rules disagree; `tile_batch` limits the tiles per network
    call (memory). `dicom` asks for the DICOM series beside an image of another format. `header`: values of
    the scan's DICOM header that are given by hand (drmc.suv.manual); the reference has its own.
    """

    input: str | os.PathLike[str]
    output: str | os.PathLike[str]
    model: str | None = None
    lesions: str | os.PathLike[str] | None = None
    reference: str | os.PathLike[str] | None = None
    device: str = "auto"
    precision: str = "auto"
    format: str = "nifti"
    dicom: bool = False
    units: str | None = None
    suv_type: str = "bw"
    accept_rule: str | None = None
    series_uid: str | None = None
    series_description: str | None = None
    liver_reference: str | None = None
    tile_batch: int | None = None
    header: Mapping[str, str] = field(default_factory=dict)

    @property
    def with_series(self) -> bool:
        """Whether a DICOM series is written."""
        return self.dicom or self.format == "dicom"


class LoadedModel:
    """A model made ready once for any number of scans.

    Finding it checks the weight file's checksum at once; torch and the network are loaded with the first
    scan.
    """

    def __init__(self, request: DenoiseRequest):
        self.entry: ModelEntry = find_model(request.model)
        self._request = request
        self._denoiser: Denoiser | None = None

    def load(self) -> Denoiser:
        """The model on its device; loaded once. Raises InputError (damaged weights, no such device)."""
        if self._denoiser is None:
            from drmc.inference.denoiser import Denoiser
            from drmc.models.weights import load_network

            network, tile = load_network(self.entry)
            self._denoiser = Denoiser(
                network,
                tile,
                device=self._request.device,
                precision=self._request.precision,
                tile_batch=self._request.tile_batch,
            )
        return self._denoiser


# ---- one scan


def run(
    request: DenoiseRequest,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    *,
    name: str | None = None,
    model: LoadedModel | None = None,
) -> dict[str, Any]:
    """Denoises one scan and returns its summary, the content of OUT/summary.json.

    `progress(done, total, seconds_left)` is called between tiles, `cancel()` between tiles and stages.
    `name` goes into the `scan` column (default: the input's name); `model` shares a loaded one between
    scans. Raises InputError (refused, nothing written), CancelledError, or DRMCError.
    """
    output = Path(request.output)
    with files.full_disk_in_one_line(output), staging.Claim(output) as claim:
        return _run(request, claim, progress, cancel, name=name, model=model)


def _run(
    request: DenoiseRequest,
    claim: staging.Claim,
    progress: Progress | None,
    cancel: Cancel | None,
    *,
    name: str | None,
    model: LoadedModel | None,
) -> dict[str, Any]:
    clock = Stopwatch()
    output = Path(request.output)
    with clock("prepare"):
        check_request(request)
        scan_path = find_scan(Path(request.input))
        name = name or scan_name(Path(request.input))
        check_output_folder(output, inputs=(of_medium(Path(request.input)), scan_path))
        if request.with_series:
            from drmc.pet import dicom_writing  # pydicom is needed for DICOM only

            dicom_writing.refuse_image_file(scan_path, None if scan_path.is_dir() else image_kind(scan_path))
        model = model or LoadedModel(request)
        folder = claim.take()
        made_from = fingerprint_of(request, scan_path, model.entry)
    raise_if_cancelled(cancel)
    with clock("read"):
        inputs = read_inputs(request, scan_path)
        plan = dicom_writing.plan_series(inputs.volume) if request.with_series else None
        protected = [*inputs.files, model.entry.path]
        produced = output_names(request, with_lesions=inputs.segments is not None)
        protect_inputs(output, produced, protected)
        check_free_space(output, inputs.volume)
    raise_if_cancelled(cancel)
    with clock("load_model"):
        denoiser = model.load()
    raise_if_cancelled(cancel)
    with clock("denoise"):
        denoised, result = denoise_volume(inputs.volume, denoiser, progress=progress, cancel=cancel)
    clock.seconds.update({f"denoise_{stage}": seconds for stage, seconds in result.seconds.items()})
    raise_if_cancelled(cancel)
    with clock("quantify"):
        measured = _measure(request, name, inputs, denoised, result, model.entry)
    raise_if_cancelled(cancel)
    summary = _summary_of(request, name, inputs, result, measured, model.entry, denoiser.tile, produced)
    summary["fingerprint"] = made_from
    summary["notices"] = unique([*summary["notices"], *(plan.notices if plan else [])])
    with clock("write"):
        if plan is not None:
            made_by = dicom_writing.Equipment(model.entry.name, model.entry.sha256)
            dicom_writing.write_series(folder / "denoised", denoised, plan, made_by, cancel)
        _write_results(folder, request.format, denoised, measured, summary)
    with clock("report"):
        summary["seconds"] = clock.so_far()
        summary["peak_memory_bytes"] = peak_memory_bytes()
        summary = files.jsonable(summary)
        _write_page(folder, name, inputs, measured, summary)
    summary["seconds"] = files.jsonable(clock.so_far())
    summary["peak_memory_bytes"] = peak_memory_bytes()
    files.write_json(folder / "summary.json", summary)
    raise_if_cancelled(cancel)
    move_into_place(folder, output, produced, protected)
    return summary


@dataclass
class _Measured:
    """What is measured on a scan: `stages` SUV (z, y, x) by stage, and the tables made from them."""

    stages: dict[str, np.ndarray]
    lesions: list[dict[str, Any]]
    routing: list[dict[str, Any]]
    routing_lesions: dict[str, list[dict[str, Any]]] | None
    nearest: dict[str, Any] | None
    unlike: list[str]
    comparison: dict[str, Any] | None


def _measure(
    request: DenoiseRequest,
    name: str,
    inputs: Inputs,
    denoised: PETVolume,
    result: DenoiseResult,
    entry: ModelEntry,
) -> _Measured:
    volume, segments, reference = inputs.volume, inputs.segments, inputs.reference
    stages = {"original": volume.suv_array(), "denoised": denoised.suv_array()}
    if reference is not None:
        stages["reference"] = reference.suv_array()
    lesions = (
        lesion_table(name, segments, stages, volume.geometry, request.liver_reference) if segments else []
    )
    rows = routing.routing_table(result.gates_TLM)
    nearest, unlike = compare_routing(entry, rows)
    return _Measured(
        stages,
        lesions,
        rows,
        None
        if segments is None
        else {
            segment.name: routing.routing_table(result.gates_TLM, result.layout.voxels_of(segment))
            for segment in segments
        },
        nearest,
        unlike,
        None if reference is None else compare_with_reference(reference, stages, lesions),
    )


def _summary_of(
    request: DenoiseRequest,
    name: str,
    inputs: Inputs,
    result: DenoiseResult,
    measured: _Measured,
    entry: ModelEntry,
    tile: int,
    produced: Sequence[str],
) -> dict[str, Any]:
    """The content of summary.json, without what is known only at the end."""
    stages, geometry = measured.stages, inputs.volume.geometry
    before_after = stages["original"], stages["denoised"], geometry
    return {
        "scan": name,
        "intended_use": INTENDED_USE,
        "input": describe_volume(inputs.volume),
        "settings": settings_of(request),
        "fingerprint": None,
        "suv": inputs.volume.suv.to_dict(),
        "model": describe_model(entry, tile),
        "device": result.device,
        "precision": result.precision,
        "tiles": {"count": len(result.gates_TLM), "edge": tile},
        "body": body_change(*before_after),
        "notices": [*inputs.notices, *result.notices, *measured.unlike, *mtv.peak_notes(measured.lesions)],
        "lesions": None
        if inputs.segments is None
        else {"input": str(request.lesions), "segments": measured.lesions},
        "reference": measured.comparison,
        "routing": measured.routing,
        "routing_lesions": measured.routing_lesions,
        "routing_nearest": measured.nearest,
        "thumbnails": thumbnails(*before_after),
        "outputs": list(produced),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def _write_results(
    folder: Path, form: str, denoised: PETVolume, measured: _Measured, summary: Mapping[str, Any]
) -> None:
    if form != "dicom":
        write_images(folder, form, denoised)
    if measured.routing_lesions is not None:
        write_lesions_csv(folder / "lesions.csv", measured.lesions, suv_by_stage(summary))
        routing.write_routing_lesions_csv(folder / "routing_lesions.csv", measured.routing_lesions)
    routing.write_routing_csv(folder / "routing.csv", measured.routing)


def _write_page(
    folder: Path, name: str, inputs: Inputs, measured: _Measured, summary: Mapping[str, Any]
) -> None:
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


def suv_by_stage(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The SUV decisions that the stages of the lesion table rest on; a change rests on its scan's."""
    found = dict.fromkeys(("original", "denoised", "change_percent"), summary["suv"])
    reference = summary["reference"]
    return found if reference is None else {**found, "reference": reference["suv"]}


def suv_warnings(summary: Mapping[str, Any]) -> list[str]:
    """The SUV warnings of a run by its summary: those of the scan, and of the full-dose image with its name."""
    reference = summary.get("reference") or {}
    return [
        *wording.warning_lines(summary["suv"]),
        *wording.warning_lines(reference.get("suv") or {}, "reference"),
    ]


def denoise_volume(
    volume: PETVolume, denoiser: Denoiser, *, progress: Progress | None = None, cancel: Cancel | None = None
) -> tuple[PETVolume, DenoiseResult]:
    """Denoises a volume: original + residual, on the scan's own grid and in its own units, never clipped.

    Voxels whose residual is exactly 0 keep their very bits. Returns the denoised volume (everything but
    the array is the scan's) and the denoiser's result. Raises CancelledError, or DRMCError if the model's
    values are not finite.
    """
    result = denoiser.denoise(volume.suv_array(), volume.geometry, progress=progress, cancel=cancel)
    changed = volume.array + volume.from_suv(result.residual)
    array = np.where(result.residual == 0, volume.array, changed).astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise DRMCError(
            "the model gave values that are not finite numbers: try --precision fp32 or another model"
        )
    return replace(volume, array=array), result


def compare_with_reference(
    reference: PETVolume, stages: dict[str, np.ndarray], lesion_rows: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """How near original and denoised are to the full-dose image: image metrics in the body, and the
    lesion bias.

    `stages` has `original`, `denoised` and `reference`, each SUV (z, y, x) on one grid; `lesion_rows` is
    their lesion table. The body is the reference's (no body, no image metrics). PSNR and SSIM have data
    range 20 SUV, nothing clipped; definitions in drmc.measures.metrics and drmc.measures.bias.
    """
    from drmc.imaging.body import body_mask
    from drmc.measures.metrics import SUV_RANGE, nrmse, psnr, ssim

    truth = stages["reference"]
    body = body_mask(truth, reference.geometry.spacing_zyx)
    comparison: dict[str, Any] = {
        "input": describe_volume(reference),
        "suv": reference.suv.to_dict(),
        "unit": "SUV",
        "data_range": SUV_RANGE,
        "mask": "body of the reference",
        "voxels": int(body.sum()),
    }
    for name, metric in (("psnr", psnr), ("nrmse", nrmse), ("ssim", ssim)):
        comparison[name] = {
            stage: float(metric(stages[stage], truth, mask=body)) if body.any() else None
            for stage in ("original", "denoised")
        }
    if lesion_rows:
        comparison["lesions"] = lesion_bias(lesion_rows)
    return comparison


# ---- checks before the work


def check_output_folder(output: Path, inputs: Sequence[Path] = ()) -> None:
    """Refuses an output folder that cannot be written, is a file, or is (or lies in) an input folder."""
    if os.path.lexists(output) and not output.is_dir():
        raise InputError(f"{output}: the output must be a folder, but this is a file: choose another with -o")
    resolved = Path(os.path.realpath(output))
    for path in inputs:
        real = Path(os.path.realpath(path))
        if path.is_dir() and (resolved == real or real in resolved.parents):
            raise InputError(f"{output}: the output folder lies in the input {path}: choose another with -o")
    ancestor = _nearest_folder(output)
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".drmc-", dir=ancestor))
    except OSError as error:
        raise InputError(
            f"{output}: the output folder cannot be written ({error.strerror}): choose another with -o"
        ) from error


def check_request(request: DenoiseRequest, *, batch: bool = False) -> None:
    """Refuses what no run can do; in a batch the companions are looked for scan by scan."""
    if request.format not in FORMATS:
        raise InputError(f"format {request.format}: not a known form: choose from {', '.join(FORMATS)}")
    if request.tile_batch is not None and request.tile_batch < 1:
        raise InputError(f"tile batch {request.tile_batch}: must be at least 1")
    if batch:
        return
    for path, option in ((request.lesions, "lesions"), (request.reference, "reference")):
        if path is not None and not Path(path).exists():
            raise InputError(f"{path}: no such file (--{option})")


def check_free_space(output: Path, volume: PETVolume) -> None:
    # The image (uncompressed at worst; DICOM headers), the report, and air.
    needed = 2 * volume.array.nbytes + 32 * 2**20
    free = shutil.disk_usage(_nearest_folder(output)).free
    if free < needed:
        raise InputError(
            f"{output}: needs {needed >> 20} MiB, the disk has {free >> 20} MiB free: free some or move -o"
        )


def protect_inputs(output: Path, produced: Sequence[str], inputs: Sequence[Path]) -> None:
    for name in produced:
        clash = _input_at(output / name, inputs)
        if clash is not None:
            raise InputError(
                f"{output / name}: would be written over the input {clash}: choose another folder with -o"
            )
    # A file of an output's name is replaced, but a folder may hold anything: only one of ours is.
    earlier = earlier_summary(output) or {"outputs": []}
    for name in produced:
        folder = output / name
        if folder.is_dir() and not (name in earlier["outputs"] and is_output(folder, None)):
            raise InputError(
                f"{folder}: holds other files than this program's and would be replaced: move it away or choose "
                "another folder with -o"
            )


def _input_at(path: Path, inputs: Sequence[Path]) -> Path | None:
    """The input that a path is, or that lies in this folder."""
    if not path.exists():
        return None
    inside = path.resolve() if path.is_dir() else None
    for source in inputs:
        if source.exists() and (os.path.samefile(path, source) or inside in source.resolve().parents):
            return source
    return None


def _nearest_folder(path: Path) -> Path:
    path = Path(os.path.abspath(path))
    while not path.exists():
        if path.is_symlink():
            raise InputError(f"{path}: is a link that leads nowhere, so no folder can be made in it: mend it")
        path = path.parent
    if not path.is_dir():
        raise InputError(f"{path}: is a file, so no folder can be made in it: choose another with -o")
    return path


# ---- reading and describing


@dataclass
class Inputs:
    """All that is read for one scan; `files` are those that must not be written over."""

    volume: PETVolume
    segments: list[Segment] | None
    reference: PETVolume | None
    notices: list[str]
    files: list[Path]


def read_inputs(request: DenoiseRequest, scan_path: Path) -> Inputs:
    reading = {"suv_type": request.suv_type, "accept_rule": request.accept_rule, "units": request.units}
    volume = read_volume(
        scan_path,
        series_uid=request.series_uid,
        series_description=request.series_description,
        header=request.header,
        **reading,
    )
    inputs = Inputs(volume, None, None, [], [Path(request.input), scan_path, *volume.dicom_files])
    if scan_path != Path(request.input):
        inputs.notices.append(f"the scan in this folder: {scan_path}")
        inputs.notices += passed_over(Path(request.input), scan_path)
    inputs.notices += volume.notices
    if request.lesions is not None:
        inputs.segments, notices = read_segments(
            Path(request.lesions), volume.geometry, volume.frame_of_reference, volume.series_uid
        )
        inputs.notices += notices
        inputs.files.append(Path(request.lesions))
    if request.reference is not None:
        inputs.reference = read_reference(request.reference, volume.geometry, **reading)
        inputs.files += [Path(request.reference), inputs.reference.source, *inputs.reference.dicom_files]
    return inputs


def read_reference(path: str | os.PathLike[str], geometry: Geometry, **reading: Any) -> PETVolume:
    """Reads a full-dose image on the scan's grid, else InputError; `reading` goes to read_volume."""
    reference = read_volume(find_scan(Path(path)), **reading)
    if not reference.geometry.matches(geometry):
        raise InputError(
            f"{path}: the reference is not on the scan's grid ({reference.geometry.shape} against "
            f"{geometry.shape} voxels (z, y, x), or another place): resample it to the scan first"
        )
    return reference


def describe_volume(volume: PETVolume) -> dict[str, Any]:
    return {
        "path": str(volume.source),
        "kind": volume.kind,
        "units": volume.units,
        "shape_zyx": list(volume.geometry.shape),
        "spacing_mm_xyz": list(volume.geometry.spacing),
        "origin_mm_xyz": list(volume.geometry.origin),
        "direction": list(volume.geometry.direction),
        "header": volume.header,
    }


def describe_model(entry: ModelEntry, tile: int) -> dict[str, Any]:
    card = entry.card or {}
    return {
        "name": entry.name,
        "sha256": entry.sha256,
        "path": str(entry.path),
        "title": card.get("title"),
        "parameters": card.get("parameters"),
        "training": card.get("training"),
        "tile": tile,
    }


def compare_routing(
    entry: ModelEntry, rows: Sequence[routing.Row]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The nearest training center by the profiles in the model's card, if it has any, and what to tell of it."""
    profiles = (entry.card or {}).get(routing_profiles.CARD_KEY)
    if profiles is None:
        return None, []
    try:
        nearest = routing_profiles.nearest_center(profiles, rows)
    except ValueError as error:
        return None, [f"the routing profiles in the model's card do not fit, nothing is compared: {error}"]
    return nearest, [routing_profiles.UNLIKE] if nearest and nearest["unlike"] else []


def settings_of(request: DenoiseRequest) -> dict[str, Any]:
    """What decides the outputs, besides the model; device and tile batch only decide how fast they come."""
    keys = (
        "format",
        "dicom",
        "precision",
        "units",
        "suv_type",
        "accept_rule",
        "series_uid",
        "series_description",
        "liver_reference",
    )
    chosen = {key: getattr(request, key) for key in keys}
    if request.header:
        chosen["header"] = dict(sorted(request.header.items()))
    for key in ("input", "lesions", "reference"):
        value = getattr(request, key)
        chosen[key] = None if value is None else os.path.abspath(value)
    return chosen


def fingerprint_of(request: DenoiseRequest, scan_path: Path, entry: ModelEntry) -> dict[str, Any]:
    """What the request's result is made from (drmc.fingerprint); `scan_path` as `find_scan` gives it."""
    paths = ("input", "lesions", "reference")  # what lies there counts, by its content
    settings = {key: value for key, value in settings_of(request).items() if key not in paths}
    return files.jsonable(
        fingerprint.of_run(scan_path, request.lesions, request.reference, entry.sha256, settings)
    )


# ---- writing


def output_names(request: DenoiseRequest, *, with_lesions: bool) -> list[str]:
    """The files of one scan as they are moved: summary.json last, because it says that all are there."""
    # A DICOM series states its SUV itself.
    image = [] if request.format == "dicom" else [f"denoised{FORMATS[request.format]}", "denoised.json"]
    series = ["denoised"] if request.with_series else []
    lesions = ["lesions.csv", "routing_lesions.csv"] if with_lesions else []
    return [*image, *series, *lesions, "routing.csv", "report.html", "summary.json"]


def write_images(folder: Path, form: str, denoised: PETVolume) -> None:
    write_image(folder / f"denoised{FORMATS[form]}", denoised.array, denoised.geometry)
    files.write_json(folder / "denoised.json", _sidecar(denoised))


def _sidecar(volume: PETVolume) -> dict[str, Any]:
    """What lets read_volume take the written image with the scan's own SUV factor, and tell what was told of it.

    Stored units that it does not know (counts) it refuses by this text, rather than take them for SUV.
    """
    decision = volume.suv
    said: dict[str, Any] = {"SUVWarnings": list(decision.warnings)} if decision.warnings else {}
    if decision.facts.get("accepted"):
        said["SUVAccepted"] = decision.facts["accepted"]
    return {**_units_and_factor(volume), **_patient(volume), **said}


def _units_and_factor(volume: PETVolume) -> dict[str, Any]:
    decision = volume.suv
    stored = decision.facts.get("stored_suv_type")  # of DICOM in SUV
    if stored is not None:
        return {"Units": "SUV", "SUVType": stored}
    if volume.units == "SUV" and decision.factor == 1:
        return {"Units": "SUV", "SUVType": decision.type}
    if (
        volume.units == "SUV"
    ):  # reported as another type than stored: what the scan's own side-car says stays true
        return {"Units": "SUV", **_stored_type(volume.source)}
    known = volume.units in ACTIVITY_UNITS
    units = unit_names.shown(volume.units).replace("ml", "mL") if known else volume.units
    if not known:
        units += f", times SUVFactor for {decision.type}"
    per_slice = decision.factor_per_slice
    factor = decision.factor if per_slice is None else list(per_slice)
    return {"Units": units, "SUVFactor": factor, "SUVType": decision.type}


def _patient(volume: PETVolume) -> dict[str, Any]:
    """What other SUV types than the factor's own are computed from."""
    facts = volume.suv.facts
    keys = {"PatientWeight": "weight_kg", "PatientSize": "height_m", "PatientSex": "sex"}
    return {key: facts[name] for key, name in keys.items() if facts.get(name) is not None}


def _stored_type(source: Path) -> dict[str, Any]:
    found, _ = sidecars.find(source, stem(source))
    sidecar = {} if found is None else sidecars.read(found)
    return {"SUVType": sidecar["SUVType"]} if "SUVType" in sidecar else {}


def move_into_place(staging: Path, output: Path, produced: Sequence[str], inputs: Sequence[Path]) -> None:
    """Renames the staged files and folders into the output folder; on any failure puts back what was there.

    What an earlier run wrote there and this one does not (other form, no lesions) goes, inputs excepted.
    """
    output.mkdir(exist_ok=True)
    aside = staging / "aside"
    aside.mkdir()
    earlier = earlier_summary(output)
    stale = [name for name in (earlier or {}).get("outputs", []) if _input_at(output / name, inputs) is None]
    # The old summary goes first: while it is away, the folder does not count as complete.
    names = dict.fromkeys(("summary.json", *produced, *stale))
    old = [name for name in names if is_output(output / name, None)]
    try:
        for name in old:
            os.replace(output / name, aside / name)
        for name in produced:
            os.replace(staging / name, output / name)
    except BaseException:
        for name in produced:
            if not (staging / name).exists():
                _remove(output / name)
        for name in old:
            if (aside / name).exists():
                os.replace(aside / name, output / name)
        raise


def is_output(path: Path, summary: dict[str, Any] | None) -> bool:
    """Whether a path is a file, or a folder of nothing but our slices (all of those that a summary counts)."""
    if not path.is_dir():
        return path.is_file()
    from drmc.pet.dicom_writing import is_series  # pydicom is needed for DICOM only

    return is_series(path, None if summary is None else summary.get("input", {}).get("shape_zyx", [None])[0])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def earlier_summary(output: Path) -> dict[str, Any] | None:
    """The summary of an earlier run in this folder, None if there is none that this program wrote."""
    try:
        summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
        names = summary["outputs"]
        ours = "drmc" in summary["versions"] and all(isinstance(n, str) and Path(n).name == n for n in names)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return summary if ours else None


# ---- small things
