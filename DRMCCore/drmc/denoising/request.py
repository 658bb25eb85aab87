"""What to denoise, with what, and where the result goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drmc.errors import InputError
from drmc.measures.intervals import CARD_KEY, Calibration
from drmc.models.card import DENOISE, ModelEntry, card_path
from drmc.models.registry import find_model
from drmc.pet.strength import FULL, parse_strength

if TYPE_CHECKING:
    from drmc.inference.denoiser import Denoiser


FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "dicom": ""}  # dicom: a folder of slices


@dataclass(frozen=True)
class DenoiseRequest:
    """What to denoise, with what, and where the result goes.

    `lesions`, `reference` and `organs`, whose SUV is measured before and after, are files for one scan; for
    a batch a folder with the scans' names, or a pattern with `{name}` (the scan's name) or `{folder}` (the
    folder that holds it). `format` is a key of
    FORMATS. `units` ("suv" or "bqml") says what a file without a side-car holds; `accept_rule` names the
    SUV reference-time rule to take when the rules disagree; `tile_batch` limits the tiles per network
    call (memory). `dicom` asks for the DICOM series beside an image of another format, `dicom_seg` for the
    lesions as a DICOM segmentation. `header`: values of the scan's DICOM header that are given by hand
    (drmc.suv.manual); the reference has its own.

    `strength`: the share of the residual that is added, 0 to 1, or a name of drmc.pet.strength.PRESETS; else
    InputError. `keep_residual` writes the residual and what
    else the network gave; `residual` is a folder with these, which then takes the place of the network
    (drmc.denoising.kept_residual). `spots` measures what is kept of virtual spots, with a second run of the
    network.

    Where another program passes images in: `voxels` and `reference_voxels` are files with the voxels as that
    program has them (`drmc.pet.reading.read_volume`), and the labels are what messages, tables and the report
    call scan, full-dose image and lesions.
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
    dicom_seg: bool = False
    units: str | None = None
    suv_type: str = "bw"
    accept_rule: str | None = None
    series_uid: str | None = None
    series_description: str | None = None
    liver_reference: str | None = None
    tile_batch: int | None = None
    strength: float = FULL
    spots: bool = False
    keep_residual: bool = False
    residual: str | os.PathLike[str] | None = None
    header: Mapping[str, str] = field(default_factory=dict)
    voxels: str | os.PathLike[str] | None = None
    label: str | None = None
    reference_voxels: str | os.PathLike[str] | None = None
    reference_label: str | None = None
    lesions_label: str | None = None
    organs: str | os.PathLike[str] | None = None
    organs_label: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "strength", parse_strength(self.strength)
        )  # frozen; a name becomes its number

    @property
    def with_series(self) -> bool:
        """Whether a DICOM series is written."""
        return self.dicom or self.format == "dicom"

    @property
    def keeps_residual(self) -> bool:
        """Whether the residual is written; one that lies in the output folder stays there."""
        in_place = self.residual is not None and os.path.realpath(self.residual) == os.path.realpath(
            self.output
        )
        return self.keep_residual or in_place


class LoadedModel:
    """A model made ready once for any number of scans.

    Finding it checks the weight file's checksum at once; torch and the network are loaded with the first
    scan.
    """

    def __init__(self, request: DenoiseRequest):
        self.entry: ModelEntry = find_model(request.model, task=DENOISE)
        self._request = request
        self._denoiser: Denoiser | None = None

    @property
    def sha256(self) -> str:
        """The checksum of the weights."""
        return self.entry.sha256

    @property
    def card_sha256(self) -> str:
        """The checksum of the card."""
        return self.entry.card_sha256

    def calibration(self) -> Calibration | None:
        """The calibration of lesion intervals in the card; None without one. InputError if it is damaged."""
        values = self.entry.card.get(CARD_KEY)
        return None if values is None else Calibration.read(values, card_path(self.entry.path))

    def load(self) -> Denoiser:
        """The model on its device; loaded once. Raises InputError (damaged weights, no such device)."""
        if self._denoiser is None:
            from drmc.inference.denoiser import Denoiser

            self._denoiser = Denoiser.from_model(
                self.entry,
                device=self._request.device,
                precision=self._request.precision,
                tile_batch=self._request.tile_batch,
            )
        return self._denoiser


def check_request(request: DenoiseRequest, *, batch: bool = False) -> None:
    """Refuses what no run can do; in a batch the companions are looked for scan by scan."""
    if request.format not in FORMATS:
        raise InputError(f"format {request.format}: not a known form: choose from {', '.join(FORMATS)}")
    if request.tile_batch is not None and request.tile_batch < 1:
        raise InputError(f"tile batch {request.tile_batch}: must be at least 1")
    if request.residual is not None and request.model is not None:
        raise InputError(
            f"model {request.model}: the kept residual is that of a model already: name no model"
        )
    if request.residual is not None and request.spots:
        raise InputError(
            "virtual spots: they need the network, and a kept residual runs none: leave out one of the two"
        )
    if batch:
        return
    for option in ("lesions", "reference", "organs"):
        path = getattr(request, option)
        if path is not None and not Path(path).exists():
            raise InputError(f"{path}: no such file (--{option})")
