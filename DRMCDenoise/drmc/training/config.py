"""Training configuration: frozen dataclasses to and from JSON; unknown keys are refused."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import read_json_object
from drmc.network import NetworkConfig

_TYPES = {"int": int, "float": (int, float), "bool": bool, "str": str}
_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
_LEAST = {
    "patch": 8,  # the smallest tile
    "tile": 0,
    "loss_margin": 0,
    "patches_per_center": 1,
    "steps": 1,
    "checkpoint_every": 1,
    "validate_every": 1,
    "validation_tiles": 1,
    "warmup_steps": 0,
    "weight_decay": 0,
    "final_learning_rate": 0,
    "tail_fit_patches": 0,
    "seed": 0,
    "threads": 0,
}


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Lengths in voxels of the 2 mm grid, learning rates per step, `tail_rate` the factor on the tail's (its output is in
    SUV / 20, so that its weights are small), `charbonnier` in network units (SUV / 20), `hot_fraction`
    the share of patches centered by uptake instead of uniformly over the body. `loss_margin` voxels at each face of a
    patch, where the network sees its zero padding and inference blends tiles out, are left out of the loss.
    `tile` is the tile of the trained model, 0 = `patch`.
    `head_gain` is the factor on the head's initial weights (20 makes its features SUV); `averaging_start` lets the
    depth-wise kernels begin near the mean over 3 x 3 x 3 voxels; `tail_fit_patches` (per center, 0 = none):
    see `drmc.training.tail`. `optimizer`: "adamw", or "muon" for the experts' maps and kernels at `muon_rate` times the
    learning rate (`drmc.training.muon`). `validation_tiles`: the most tiles of high uptake per
    held-out pair (`drmc.training.validation`). `card`: what the model's card is to say besides (title, intended use, license ...).
    """

    dataset: str
    output: str
    name: str = "drmc"
    centers: tuple[str, ...] = ("C1", "C2", "C3", "C4")
    network: NetworkConfig = field(default_factory=NetworkConfig)
    patch: int = 64
    tile: int = 0
    loss_margin: int = 0
    patches_per_center: int = 1
    steps: int = 204_800
    learning_rate: float = 2e-4
    final_learning_rate: float = 1e-6
    tail_rate: float = 1.0
    optimizer: str = "adamw"
    muon_rate: float = 10.0
    beta2: float = 0.999
    warmup_steps: int = 1000
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    charbonnier: float = 1e-3
    ema_decay: float = 0.999
    scale_range: float = 2.0
    hot_fraction: float = 0.0
    head_gain: float = 1.0
    averaging_start: bool = False
    tail_fit_patches: int = 0
    form: str = "auto"
    seed: int = 1
    checkpoint_every: int = 200
    validate_every: int = 500
    validation_tiles: int = 4
    threads: int = 0
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type in _TYPES and (
                isinstance(value, bool) != (f.type == "bool") or not isinstance(value, _TYPES[f.type])
            ):
                raise InputError(f"{f.name} = {value!r}: must be {_NAMES[f.type]}")
        if not isinstance(self.network, NetworkConfig):
            raise InputError(f"network = {self.network!r}: must be an object of network settings")
        if not isinstance(self.card, dict):
            raise InputError(f"card = {self.card!r}: must be an object of texts")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)}: must be at least {least}")
        for name in ("learning_rate", "tail_rate", "muon_rate", "charbonnier", "gradient_clip", "head_gain"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)}: must be greater than 0")
        if not self.centers or not all(isinstance(center, str) for center in self.centers):
            raise InputError("centers: must be a list of at least one center of the dataset")
        if len(set(self.centers)) < len(self.centers):
            raise InputError(f"centers = {list(self.centers)}: names a center twice")
        if 0 < self.tile < self.patch:
            raise InputError(
                f"tile = {self.tile}: must be at least the patch ({self.patch}), or 0 for the patch"
            )
        if 2 * self.loss_margin >= self.patch:
            raise InputError(
                f"loss_margin = {self.loss_margin}: leaves nothing of a patch of {self.patch} voxels"
            )
        if not 0 <= self.hot_fraction <= 1:
            raise InputError(f"hot_fraction = {self.hot_fraction}: must lie between 0 and 1")
        if not 1 <= self.scale_range < math.inf:
            raise InputError(
                f"scale_range = {self.scale_range}: must be at least 1 (1 = no scale augmentation)"
            )
        for name in ("ema_decay", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must lie in [0, 1)")
        if self.optimizer not in ("adamw", "muon"):
            raise InputError(f"optimizer = {self.optimizer!r}: must be adamw or muon")
        if self.form not in ("auto", "depthwise", "dense"):
            raise InputError(f"form = {self.form!r}: must be auto, depthwise or dense")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise InputError(f"name = {self.name!r}: must be letters, digits, dots, dashes and underscores")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; `from_dict` is its inverse."""
        return {**asdict(self), "network": self.network.to_dict(), "centers": list(self.centers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> TrainingConfig:
        """Raises InputError on unknown or missing keys and on values out of range."""
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"{where}: unknown key '{unknown[0]}'; known are {', '.join(known)}")
        missing = [name for name in ("dataset", "output") if name not in values]
        if missing:
            raise InputError(f"{where}: key '{missing[0]}' is missing")
        values = dict(values)
        try:
            if isinstance(values.get("network"), dict):
                values["network"] = NetworkConfig.from_dict(values["network"])
            if isinstance(values.get("centers"), list):
                values["centers"] = tuple(values["centers"])
            elif "centers" in values:
                raise InputError("centers: must be a list of center names")
            return cls(**values)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {error}") from None

    @classmethod
    def read(cls, path: Path) -> TrainingConfig:
        """Reads a JSON file; relative `dataset` and `output` are taken from the file's folder."""
        values = read_json_object(path)
        for key in ("dataset", "output"):
            if isinstance(values.get(key), str):
                values[key] = str(Path(path).resolve().parent / values[key])
        return cls.from_dict(values, str(path))
