"""A residual that is kept, so that the result at another strength needs no network.

`residual.nii.gz` (.nrrd) holds the residual at full strength in the scan's own units, and `residual.json`
what else the network gave (gates, tiles), the model, and what the scan was: its SUV decision and the checksum
of its voxels. With the same scan, lesions and full-dose image the result has the very bits of a new run.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from drmc import files
from drmc.denoising.request import FORMATS
from drmc.denoising.summary import compare_routing, describe_model
from drmc.errors import DRMCError, InputError
from drmc.imaging.files import finite_float32, read_image, write_image
from drmc.imaging.geometry import Geometry, turned
from drmc.inference.tiles import TileLayout
from drmc.measures import routing
from drmc.measures.intervals import CARD_KEY, Calibration
from drmc.measures.routing_profiles import NearestCenter
from drmc.measures.rows import RoutingRow
from drmc.models.card import ModelEntry
from drmc.pet.strength import add_residual
from drmc.pet.volume import PETVolume
from drmc.report.summary import ModelRecord
from drmc.runtime.usage import versions
from drmc.suv.decision import SUVDecision

if TYPE_CHECKING:
    from drmc.inference.denoiser import DenoiseResult

NAME = "residual.json"


def image_name(form: str) -> str:
    """The file name of the residual beside a denoised image of this format (a key of FORMATS)."""
    return f"residual{FORMATS[form] or FORMATS['nrrd']}"


@dataclass(frozen=True)
class Prediction:
    """What the network gave for a scan beside its residual, and which model it was.

    Attributes:
        gates_TLM: gates of T tiles, L router layers and M experts, float32.
        layout: where the tiles lie.
        model: the model, as in summary.json.
        routing_nearest, unlike: the nearest training center, and notices on it.
        device, precision, torch_version: where, in which arithmetic and by what it was computed.
        notices: what the user should know.
        lesion_intervals: the calibration in the model's card, None without one.
        card_sha256: the checksum of that card, None if not known.
    """

    gates_TLM: np.ndarray
    layout: TileLayout
    model: ModelRecord
    routing_nearest: NearestCenter | None
    unlike: list[str]
    device: str
    precision: str
    torch_version: str
    notices: list[str] = field(default_factory=list)
    lesion_intervals: Any = None
    card_sha256: str | None = None

    @classmethod
    def of(cls, result: DenoiseResult, entry: ModelEntry, tile: int) -> Prediction:
        """The prediction in a denoiser's result; `tile`: edge in voxels."""
        nearest, unlike = compare_routing(entry, routing.routing_table(result.gates_TLM))
        return cls(
            result.gates_TLM,
            result.layout,
            describe_model(entry, tile),
            nearest,
            unlike,
            result.device,
            result.precision,
            versions()["torch"],
            result.notices,
            entry.card.get(CARD_KEY),
            entry.card_sha256,
        )

    @property
    def routing(self) -> list[RoutingRow]:
        """The routing table of the scan."""
        return routing.routing_table(self.gates_TLM)


def write(folder: Path, form: str, volume: PETVolume, residual: np.ndarray, prediction: Prediction) -> None:
    """Writes both files into the folder of a run; `residual`: at full strength, in the scan's own units."""
    write_image(folder / image_name(form), residual, volume.geometry)
    layout = prediction.layout
    content = {
        "scan": {
            "voxels_sha256": _checksum(volume.array),
            "geometry": asdict(volume.geometry),
            "units": volume.units,
            "kind": volume.kind,
            "suv": volume.suv.to_dict(),
            "header": volume.header,
            "notices": volume.notices,
        },
        "model": prediction.model,
        "routing_nearest": prediction.routing_nearest,
        "unlike": prediction.unlike,
        "device": prediction.device,
        "precision": prediction.precision,
        "torch_version": prediction.torch_version,
        "notices": prediction.notices,
        "lesion_intervals": prediction.lesion_intervals,
        "card_sha256": prediction.card_sha256,
        "tiles": {"starts_zyx": layout.starts_zyx, "edge": layout.edge, "grid": asdict(layout.grid)},
        "gates": {"shape": prediction.gates_TLM.shape, "values": prediction.gates_TLM.ravel()},
    }
    files.write_json(folder / NAME, files.jsonable(content))


@dataclass(frozen=True)
class KeptResidual:
    """A kept residual that was read: in the scan's own units, float32 (z, y, x), with the prediction."""

    residual: np.ndarray
    prediction: Prediction
    files: list[Path]
    _scan: dict[str, Any]
    _geometry: Geometry

    @property
    def sha256(self) -> str:
        """The checksum of the weights of the model."""
        return self.prediction.model["sha256"]

    @property
    def card_sha256(self) -> str | None:
        """The checksum of the model's card when the residual was written."""
        return self.prediction.card_sha256

    def calibration(self) -> Calibration | None:
        """The calibration of lesion intervals of the model; None without one. InputError if it is damaged."""
        values = self.prediction.lesion_intervals
        return None if values is None else Calibration.read(values, self.files[0])

    def scan(self, volume: PETVolume) -> PETVolume:
        """The scan that was read again, with the order of voxels, SUV decision and notices of the run.

        Raises InputError if it is another scan, or its SUV factor has changed.
        """
        array = _in_order(volume.array, volume.geometry, self._geometry)
        if array is None or _checksum(array) != self._scan["voxels_sha256"]:
            raise InputError(
                f"{volume.named_source}: is not the scan of the residual in {self.files[0].parent}: give "
                "that scan, or leave out --residual"
            )
        record = self._scan["suv"]
        per_slice = None if record["factor_per_slice"] is None else tuple(record["factor_per_slice"])
        decision = SUVDecision(**{**record, "factor_per_slice": per_slice})
        now = volume.suv
        if (now.type, now.factor, now.factor_per_slice) != (decision.type, decision.factor, per_slice):
            raise InputError(
                f"{volume.named_source}: its SUV is another one than in the run that kept the residual "
                f"({now.type}, {now.factor:g} instead of {decision.type}, {decision.factor:g}): give the "
                "same options, or leave out --residual"
            )
        return replace(
            volume,
            array=array,
            geometry=self._geometry,
            units=self._scan["units"],
            kind=self._scan["kind"],
            suv=decision,
            header=self._scan["header"],
            notices=list(self._scan["notices"]),
        )

    def denoised(self, volume: PETVolume, strength: float) -> PETVolume:
        """The denoised scan at a strength; `volume`: as of `scan`."""
        array = add_residual(volume.array, self.residual, strength)
        if not np.isfinite(array).all():
            raise DRMCError("scan and residual add up to values that are not finite numbers: denoise again")
        return replace(volume, array=array)


def read(folder: Path) -> KeptResidual:
    """Reads what `write` has written; InputError where there is no such thing."""
    path = folder / NAME
    images = [folder / image_name(form) for form in ("nrrd", "nifti")]
    image = next((one for one in images if one.exists()), None)
    if image is None or not path.is_file():
        raise InputError(f"{folder}: holds no residual of a run: make one with --keep-residual")
    content = files.read_json_object(path)
    try:
        scan, tiles, gates = content["scan"], content["tiles"], content["gates"]
        geometry = _geometry(scan["geometry"])
        layout = TileLayout(
            np.array(tiles["starts_zyx"]).reshape(-1, 3),
            int(tiles["edge"]),
            _geometry(tiles["grid"]),
            geometry.rounded(),
        )
        prediction = Prediction(
            np.array(gates["values"], np.float32).reshape(gates["shape"]),
            layout,
            content["model"],
            content["routing_nearest"],
            content["unlike"],
            content["device"],
            content["precision"],
            content["torch_version"],
            content["notices"],
            content.get("lesion_intervals"),  # earlier versions kept neither
            content.get("card_sha256"),
        )
        _ = scan["voxels_sha256"], scan["suv"]["factor"], scan["units"], scan["kind"], scan["header"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no residual of a run: make one with --keep-residual") from error
    read_back = read_image(image)
    array = finite_float32(sitk.GetArrayFromImage(read_back), image)
    residual = _in_order(array, Geometry.from_image(read_back), geometry)
    if residual is None:
        raise InputError(f"{image}: is on another grid than {path} says: make both with --keep-residual")
    return KeptResidual(residual, prediction, [path, image], scan, geometry)


def _geometry(values: dict[str, Any]) -> Geometry:
    return Geometry(**{key: tuple(value) for key, value in values.items()})  # type: ignore[arg-type]


def _in_order(array: np.ndarray, own: Geometry, target: Geometry) -> np.ndarray | None:
    """The array in the order of voxels of another grid; None if that has other voxels."""
    return turned(array, np.linalg.inv(target.matrix) @ own.matrix, target.shape)


def _checksum(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()
