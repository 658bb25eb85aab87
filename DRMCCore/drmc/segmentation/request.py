"""What to label, with what, and where the result goes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.errors import InputError
from drmc.models.card import ORGANS, ModelEntry
from drmc.models.registry import find_model
from drmc.organs.table import OrganClass, classes, organs

if TYPE_CHECKING:
    from drmc.organs.segmenter import Segmenter

PERCIST, BLOOD_POOL = "percist", "blood-pool"
COUNTED = "counted"
"""In a list of organs: those that count in means over organs."""


@dataclass(frozen=True)
class SegmentRequest:
    """What to label, with what, and where the result goes.

    Attributes:
        input: DICOM folder or file, NIfTI, NRRD or MetaImage.
        output: folder of the results.
        model: name or file of a model of organs; None: the default one.
        segmentation: a file with organs by their names, which are measured in place of a model's.
        organs: names of those that are written and measured; empty for all.
        lesions: their segmentation, for organs without them; in a batch as for `DenoiseRequest`, and so is
            `segmentation`.
        threshold: of the uptake that is listed: PERCIST, BLOOD_POOL, or an SUV; None: no list.
        uncorrected: whether the scan has no correction for attenuation, so that it has no SUV.
        dicom_seg: write the organs as a DICOM segmentation, too; the input must be DICOM.
        device: where to compute.
        precision: arithmetic.
        units: what a file holds that does not say so.
        suv_type: SUV normalization.
        accept_rule: as for `DenoiseRequest`.
        series_uid: the series of a folder.
        series_description: the same by a part of its description.
        header: values of the DICOM header by hand.
        voxels: a file with the voxels as another program has them (`drmc.pet.reading.read_volume`).
        label: what messages, tables and the report call the scan.
        lesions_label: what messages call the lesions.
        segmentation_label: what messages call the segmentation.
    """

    input: str | os.PathLike[str]
    output: str | os.PathLike[str]
    model: str | None = None
    segmentation: str | os.PathLike[str] | None = None
    organs: Sequence[str] = ()
    lesions: str | os.PathLike[str] | None = None
    threshold: str | float | None = None
    uncorrected: bool = False
    dicom_seg: bool = False
    device: str = "auto"
    precision: str = "auto"
    units: str | None = None
    suv_type: str = "bw"
    accept_rule: str | None = None
    series_uid: str | None = None
    series_description: str | None = None
    header: Mapping[str, str] = field(default_factory=dict)
    voxels: str | os.PathLike[str] | None = None
    label: str | None = None
    lesions_label: str | None = None
    segmentation_label: str | None = None

    def reading(self) -> dict[str, Any]:
        """The arguments of `drmc.pet.reading.read_volume`."""
        keys = ("units", "suv_type", "accept_rule", "series_uid", "series_description", "header", "label")
        found = {key: getattr(self, key) for key in keys}
        return {**found, "voxels": None if self.voxels is None else Path(self.voxels)}


class LoadedOrgans:
    """What labels the scans of a request: a model, made ready once for any number of scans, or a file.

    Finding a model checks its weight file's checksum at once; torch and the network are loaded when they are
    needed first.
    """

    def __init__(self, request: SegmentRequest):
        self.entry: ModelEntry | None = None
        if request.segmentation is None:
            self.entry = find_model(request.model, task=ORGANS)
        self._request = request
        self._segmenter: Segmenter | None = None

    @property
    def sha256(self) -> str:
        """The checksum of the weights, "" without a model."""
        return "" if self.entry is None else self.entry.sha256

    @property
    def card_sha256(self) -> str | None:
        """The checksum of the card, None without a model."""
        return None if self.entry is None else self.entry.card_sha256

    def load(self) -> Segmenter | None:
        """The model on its device, None without one.

        Raises:
            InputError: damaged weights, no such device.
        """
        if self._segmenter is None and self.entry is not None:
            from drmc.organs.segmenter import Segmenter

            self._segmenter = Segmenter.from_model(
                self.entry, device=self._request.device, precision=self._request.precision
            )
        return self._segmenter


def check_request(request: SegmentRequest, *, batch: bool = False) -> None:
    """Refuses what no run can do; in a batch the companions are looked for scan by scan."""
    if request.model is not None and request.segmentation is not None:
        raise InputError("--segmentation: holds the organs already, so that no model is used: leave out one")
    chosen_organs(request.organs)
    threshold_of(request.threshold)
    for option in ("lesions", "segmentation") if not batch else ():
        path = getattr(request, option)
        if path is not None and not Path(path).exists():
            raise InputError(f"{path}: no such file (--{option})")


def threshold_of(value: str | float | None) -> str | float | None:
    """PERCIST, BLOOD_POOL or a positive SUV.

    Raises:
        InputError: it is none of them.
    """
    if value is None or value in (PERCIST, BLOOD_POOL):
        return value
    try:
        suv = float(value)
    except ValueError:
        suv = 0.0
    if not 0 < suv < float("inf"):
        raise InputError(f"--threshold {value}: must be {PERCIST}, {BLOOD_POOL} or an SUV above 0")
    return suv


def chosen_organs(names: Sequence[str]) -> tuple[OrganClass, ...]:
    """The classes that names mean; all for none.

    Args:
        names: of segments (left kidney), keys (kidney_left), names of pairs (kidney), or COUNTED.

    Raises:
        InputError: an organ is not in the table.
    """
    found: set[int] = set()
    for name in names:
        wanted = " ".join(name.casefold().replace("_", " ").split())
        which = {one.index for one in classes() if wanted in _names_of(one)}
        which |= {one.index for one in organs()} if wanted == COUNTED else set()
        if not which:
            raise InputError(f"--organs {name}: no organ of this name: see drmc segment --list")
        found |= which
    return tuple(one for one in classes() if one.index in found or not names)


def _names_of(one: OrganClass) -> set[str]:
    both = one.name.removeprefix(f"{one.side} ")
    return {one.name, one.key.replace("_", " "), both, f"{both}s"}
