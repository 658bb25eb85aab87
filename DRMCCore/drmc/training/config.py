"""Training configuration: frozen dataclasses to and from JSON; unknown keys are refused."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import read_json_object
from drmc.networks.drmc import NetworkConfig
from drmc.networks.protocol import Settings
from drmc.training.presets import with_preset
from drmc.training.sampler import TARGETS
from drmc.training.strategies.registry import STRATEGIES, make_strategy

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
    "gradient_clip": 0,
    "slots_at_once": 0,
    "round_steps": 1,
    "federated_steps": 0,
    "seed": 0,
    "threads": 0,
}
_CHOICES = {
    "optimizer": ("adamw", "muon", "sgd"),
    "precision": ("fp32", "bf16"),
    "strategy": tuple(STRATEGIES),
    "export": ("best", "last"),
    "form": ("auto", "depthwise", "dense"),
    "target": TARGETS,
}
_LISTS = ("centers", "watched_centers")


@dataclass(frozen=True)
class TrainingConfig:
    """One training run; `drmc.training.presets` has named sets of these settings.

    Data: `dataset` and its `centers`. Patches of `patch` voxels of the network's grid (about 2 mm); `tile` is that of the trained model,
    0 = `patch`. `hot_fraction` is the share of patches centered by uptake instead of uniformly over the body; `flips`
    (with turns) and a common factor between 1 / `scale_range` and `scale_range` vary them; `dose_mixing` is the share
    whose input is a mean of low and full at random weights, as of a dose between the two. `prepared` is a folder that keeps
    the images on the network's grid, for more of them than memory holds, and for several runs; "" keeps them in memory.
    Target: "full", or of simulated data "noise_free" or "expected_full", see `drmc.training.sampler`.
    Loss: `charbonnier` in network units (SUV / 20), without `loss_margin` voxels at each face of a patch, where the
    network sees its zero padding and inference blends tiles out. Voxels of lesions and their neighbors count
    `lesion_weight` times.
    Steps: each has `patches_per_center` slots for each center, dealt to the processes; a process computes
    `slots_at_once` of its own together (0 = all; less takes less memory). `precision` is that of products over voxels,
    all else is float32. `deterministic`: on a GPU too a run is repeated bit by bit.
    Optimizer: "adamw", "sgd" (plain), or "muon" for the experts' maps and kernels at `muon_rate` times the learning
    rate (`drmc.training.muon`); `tail_rate` is the factor on the tail's (its output is in SUV / 20, so that its weights
    are small). Linear warm-up, then a cosine to `final_learning_rate`. `gradient_clip` 0 = none; `ema_decay` 0 = no
    moving average.
    Start: `initial_weights`, a model's name or file, to go on from; else a new network, with `head_gain` on the head's
    weights (20 makes its features SUV), `averaging_start` to let the depth-wise kernels begin near the mean over
    3 x 3 x 3 voxels, `identity_start` to begin with a tail of zeros.
    `strategy`, `round_steps`, `federated_steps` (0 = half the steps): see `drmc.training.strategies`.
    Validation: at most `validation_tiles` tiles of high uptake of each held-out pair, see `drmc.training.validation`;
    `watched_dataset` and its `watched_centers` (none = all that have validation patients) are measured
    beside the run's own centers, so that forgetting is seen. `export`: the weights of the best validation, or the last.
    `accept_changed_data` lets a run go on although its images are not those that it began with.
    `card`: what the model's card is to say besides (title, intended use, license ...).
    """

    dataset: str
    output: str
    name: str = "drmc"
    centers: tuple[str, ...] = ("C1", "C2", "C3", "C4")
    network: Settings = field(default_factory=NetworkConfig)
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
    flips: bool = True
    hot_fraction: float = 0.0
    dose_mixing: float = 0.0
    prepared: str = ""
    target: str = "full"
    lesion_weight: float = 1.0
    initial_weights: str = ""
    head_gain: float = 1.0
    averaging_start: bool = False
    identity_start: bool = True
    strategy: str = "joint"
    round_steps: int = 100
    federated_steps: int = 0
    watched_dataset: str = ""
    watched_centers: tuple[str, ...] = ()
    export: str = "best"
    precision: str = "fp32"
    slots_at_once: int = 0
    deterministic: bool = True
    form: str = "auto"
    seed: int = 1
    accept_changed_data: bool = False
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
        if not isinstance(self.network, Settings):
            raise InputError(f"network = {self.network!r}: must be an object of network settings")
        if not isinstance(self.card, dict):
            raise InputError(f"card = {self.card!r}: must be an object of texts")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)}: must be at least {least}")
        for name in ("learning_rate", "tail_rate", "muon_rate", "charbonnier", "head_gain", "lesion_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)}: must be greater than 0")
        for name in _LISTS:
            centers = getattr(self, name)
            if not all(isinstance(center, str) and center for center in centers):
                raise InputError(f"{name}: must be a list of center names")
            if len(set(centers)) < len(centers):
                raise InputError(f"{name} = {list(centers)}: names a center twice")
        if not self.centers:
            raise InputError("centers: must be a list of at least one center of the dataset")
        if 0 < self.tile < self.patch:
            raise InputError(
                f"tile = {self.tile}: must be at least the patch ({self.patch}), or 0 for the patch"
            )
        if 2 * self.loss_margin >= self.patch:
            raise InputError(
                f"loss_margin = {self.loss_margin}: leaves nothing of a patch of {self.patch} voxels"
            )
        for name in ("hot_fraction", "dose_mixing"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} = {getattr(self, name)}: must lie between 0 and 1")
        if self.dose_mixing and self.target == "expected_full":
            raise InputError(
                "dose_mixing: a dose between two has no expected full dose; leave it out, or use target noise_free"
            )
        if not 1 <= self.scale_range < math.inf:
            raise InputError(
                f"scale_range = {self.scale_range}: must be at least 1 (1 = no scale augmentation)"
            )
        for name in ("ema_decay", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must lie in [0, 1)")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} = {getattr(self, name)!r}: must be one of {', '.join(choices)}")
        make_strategy(self).check()
        if self.watched_centers and not self.watched_dataset:
            raise InputError("watched_centers: say in watched_dataset where they are")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise InputError(f"name = {self.name!r}: must be letters, digits, dots, dashes and underscores")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; `from_dict` is its inverse."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        network = {"kind": self.network.kind, **self.network.to_dict()}
        return {**asdict(self), "network": network, **lists}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> TrainingConfig:
        """Raises InputError on unknown or missing keys and on values out of range.

        `preset` names the settings that hold where `values` says nothing; `network` may be a part of the network's
        settings, with another `kind` those of that one, or the name of a variant.
        """
        try:
            values = with_preset(values)
            known = {f.name: f for f in fields(cls)}
            if unknown := sorted(set(values) - set(known)):
                raise InputError(f"unknown key '{unknown[0]}'; known are preset, {', '.join(known)}")
            if missing := [name for name in ("dataset", "output") if name not in values]:
                raise InputError(f"key '{missing[0]}' is missing")
            for name in _LISTS:
                if isinstance(values.get(name), list):
                    values[name] = tuple(values[name])
                elif name in values:
                    raise InputError(f"{name}: must be a list of center names")
            return cls(**values)
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"{where}: {error}") from None

    @classmethod
    def read(cls, path: Path) -> TrainingConfig:
        """Reads a JSON file; relative paths in it are taken from the file's folder."""
        return cls.from_dict(read_values(path), str(path))


def read_values(path: Path) -> dict[str, Any]:
    """The content of a configuration file, with its relative paths made absolute."""
    values, folder = read_json_object(path), Path(path).resolve().parent
    for key in ("dataset", "output", "watched_dataset", "prepared"):
        if isinstance(values.get(key), str) and values[key]:
            values[key] = str(folder / values[key])
    weights = values.get("initial_weights")
    if isinstance(weights, str) and weights and (folder / weights).is_file():
        values["initial_weights"] = str(folder / weights)  # else the name of a model
    return values
