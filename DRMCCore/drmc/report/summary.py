"""The content of summary.json, which `drmc denoise` writes last into the folder of a result.

Programs read these keys: keys may be added, none renamed. A file of an earlier version may lack some of them.
"""

from __future__ import annotations

from typing import Any, TypedDict

from drmc.measures.bias import Bias
from drmc.measures.body_change import BodyChange
from drmc.measures.routing_profiles import NearestCenter
from drmc.measures.rows import LesionRow, LoweredFoci, RoutingRow, SpotsTable
from drmc.suv.decision import SUVRecord


class VolumeRecord(TypedDict):
    """An image and its grid: shape (z, y, x); spacing and origin (x, y, z) in mm and direction (9,), LPS."""

    path: str
    kind: str
    units: str
    shape_zyx: list[int]
    spacing_mm_xyz: list[float]
    origin_mm_xyz: list[float]
    direction: list[float]
    header: dict[str, Any]


class ModelRecord(TypedDict):
    """The model; `training`, `title` and `parameters` from its card, `tile`: edge of a tile in voxels."""

    name: str
    sha256: str
    path: str
    title: str | None
    parameters: int | None
    training: dict[str, Any] | None
    tile: int


class _Settings(TypedDict):
    format: str
    dicom: bool
    precision: str
    strength: float
    units: str | None
    suv_type: str
    accept_rule: str | None
    series_uid: str | None
    series_description: str | None
    liver_reference: str | None
    input: str
    lesions: str | None
    reference: str | None


class SettingsRecord(_Settings, total=False):
    """The options that determine the result.

    `header`: DICOM values entered manually, absent without any; `spots`: absent unless virtual spots are on;
    `dicom_seg`: absent unless a DICOM segmentation is written.
    """

    header: dict[str, str]
    spots: bool
    dicom_seg: bool


class FingerprintRecord(TypedDict):
    """Checksums of the inputs and the model, the settings without paths, and the version."""

    scan: str
    lesions: str | None
    reference: str | None
    organs: str | None
    model: str
    card: str | None
    settings: dict[str, Any]
    version: str


class TilesRecord(TypedDict):
    """Number of tiles and their edge in voxels."""

    count: int
    edge: int


class LesionsRecord(TypedDict):
    """The segmentation and the rows of the lesion table."""

    input: str
    segments: list[LesionRow]


class MetricByStage(TypedDict):
    """An image metric against the full dose; None if the full-dose image has no body."""

    original: float | None
    denoised: float | None


class _Comparison(TypedDict):
    input: VolumeRecord
    suv: SUVRecord
    unit: str
    data_range: float
    mask: str
    voxels: int
    psnr: MetricByStage
    nrmse: MetricByStage
    ssim: MetricByStage


class ComparisonRecord(_Comparison, total=False):
    """The comparison with the full-dose image; `lesions` only if there are lesions."""

    lesions: Bias


class Summary(TypedDict):
    """The content of summary.json; `seconds` by stage and in total; `strength` of the residual, 0 to 1.

    `virtual_spots`: None unless they were requested and at least one fits. `lesion_intervals`: the
    calibration behind the intervals in the lesion table; None without lesions, or if the model has none.
    """

    scan: str
    intended_use: str
    input: VolumeRecord
    settings: SettingsRecord
    fingerprint: FingerprintRecord
    suv: SUVRecord
    model: ModelRecord
    device: str
    precision: str
    strength: float
    tiles: TilesRecord
    body: BodyChange
    notices: list[str]
    lesions: LesionsRecord | None
    organs: dict[str, Any] | None
    lesion_intervals: dict[str, Any] | None
    lowered_foci: LoweredFoci
    virtual_spots: SpotsTable | None
    reference: ComparisonRecord | None
    routing: list[RoutingRow]
    routing_lesions: dict[str, list[RoutingRow]] | None
    routing_nearest: NearestCenter | None
    thumbnails: dict[str, str]
    outputs: list[str]
    created: str
    versions: dict[str, str]
    seconds: dict[str, float]
    peak_memory_bytes: int
