"""The output folder of one scan: its names, what must not be written over, and moving into place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drmc.denoising import kept_residual, organ_change
from drmc.denoising.request import FORMATS, DenoiseRequest
from drmc.denoising.staging import nearest_folder
from drmc.errors import InputError
from drmc.pet.volume import PETVolume

MEASUREMENTS, MEASUREMENTS_FILE = "measurements", "measurements.dcm"
SEGMENTATION, SEGMENTATION_FILE = "segmentation", "segmentation.dcm"
_FILE_OF = {MEASUREMENTS: MEASUREMENTS_FILE, SEGMENTATION: SEGMENTATION_FILE}

# ---- checks before the work


def check_free_space(output: Path, volume: PETVolume, *, with_residual: bool = False) -> None:
    """Raises InputError where the disk has not enough space for the outputs of this scan."""
    # The image (uncompressed at worst; DICOM headers), the report, and a reserve.
    needed = (3 if with_residual else 2) * volume.array.nbytes + 32 * 2**20
    free = shutil.disk_usage(nearest_folder(output)).free
    if free < needed:
        raise InputError(
            f"{output}: needs {needed >> 20} MiB, the disk has {free >> 20} MiB free: free some or move -o"
        )


def protect_inputs(output: Path, produced: Sequence[str], inputs: Sequence[Path]) -> None:
    """InputError where an output would be written over an input, or over a folder that is not ours."""
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
                f"{folder}: holds other files than this program's and would be replaced: move it away or "
                "choose another folder with -o"
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


# ---- writing


def output_names(request: DenoiseRequest, *, with_lesions: bool) -> list[str]:
    """The files of one scan as they are moved: summary.json last, because it says that all are there."""
    # A DICOM series states its SUV itself.
    image = [] if request.format == "dicom" else [f"denoised{FORMATS[request.format]}", "denoised.json"]
    series = ["denoised"] if request.with_series else []
    lesions = ["lesions.csv", "routing_lesions.csv"] if with_lesions else []
    # A folder with a DICOM file directly in it is a scan; the folder of a result must not become one.
    objects = [MEASUREMENTS] if with_lesions and request.with_series else []
    objects += [SEGMENTATION] if with_lesions and request.dicom_seg else []
    residual = (
        [kept_residual.image_name(request.format), kept_residual.NAME] if request.keeps_residual else []
    )
    organs = [organ_change.NAME] if request.organs is not None else []
    return [
        *image,
        *series,
        *lesions,
        *organs,
        *objects,
        *residual,
        "routing.csv",
        "report.html",
        "summary.json",
    ]


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
    """Whether a path is a file, or a folder of nothing but our slices (as a summary counts) or one object."""
    if not path.is_dir():
        return path.is_file()
    if path.name in _FILE_OF:
        return [found.name for found in path.iterdir()] == [_FILE_OF[path.name]]
    from drmc.pet.dicom_writing import is_series  # pydicom is needed for DICOM only

    return is_series(path, None if summary is None else summary.get("input", {}).get("shape_zyx", [None])[0])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def earlier_summary(output: Path) -> dict[str, Any] | None:
    """The summary of an earlier run in this folder, None without one that this program wrote."""
    try:
        summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
        names = summary["outputs"]
        ours = "drmc" in summary["versions"] and all(isinstance(n, str) and Path(n).name == n for n in names)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return summary if ours else None
