"""Training configuration: frozen dataclasses to and from JSON; unknown keys are refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from drmc.errors import InputError
from drmc.files import read_json_object
from drmc.networks.drmc import NetworkConfig
from drmc.networks.protocol import Settings
from drmc.settings import check, from_json, located, setting
from drmc.training.presets import with_preset
from drmc.training.sampler import TARGETS
from drmc.training.strategies.registry import STRATEGIES, make_strategy

_CENTERS = {"distinct": True, "pattern": "(?s).+", "what": "a list of center names"}
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
    name: str = setting(
        "drmc",
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*",
        what="a name of letters, digits, dots, dashes and underscores",
    )
    centers: tuple[str, ...] = setting(("C1", "C2", "C3", "C4"), not_empty=True, **_CENTERS)
    network: Settings = setting(default_factory=NetworkConfig, what="an object of network settings")
    patch: int = setting(64, at_least=8)  # the smallest tile
    tile: int = setting(0, at_least=0)
    loss_margin: int = setting(0, at_least=0)
    patches_per_center: int = setting(1, at_least=1)
    steps: int = setting(204_800, at_least=1)
    learning_rate: float = setting(2e-4, above=0)
    final_learning_rate: float = setting(1e-6, at_least=0)
    tail_rate: float = setting(1.0, above=0)
    optimizer: Literal["adamw", "muon", "sgd"] = "adamw"
    muon_rate: float = setting(10.0, above=0)
    beta2: float = setting(0.999, at_least=0, below=1)
    warmup_steps: int = setting(1000, at_least=0)
    weight_decay: float = setting(1e-4, at_least=0)
    gradient_clip: float = setting(1.0, at_least=0)
    charbonnier: float = setting(1e-3, above=0)
    ema_decay: float = setting(0.999, at_least=0, below=1)
    scale_range: float = setting(2.0, at_least=1, note=" (1 = no scale augmentation)")
    flips: bool = True
    hot_fraction: float = setting(0.0, at_least=0, at_most=1)
    dose_mixing: float = setting(0.0, at_least=0, at_most=1)
    prepared: str = ""
    target: str = setting("full", choices=TARGETS)
    lesion_weight: float = setting(1.0, above=0)
    initial_weights: str = ""
    head_gain: float = setting(1.0, above=0)
    averaging_start: bool = False
    identity_start: bool = True
    strategy: str = setting("joint", choices=tuple(STRATEGIES))
    round_steps: int = setting(100, at_least=1)
    federated_steps: int = setting(0, at_least=0)
    watched_dataset: str = ""
    watched_centers: tuple[str, ...] = setting((), **_CENTERS)
    export: Literal["best", "last"] = "best"
    precision: Literal["fp32", "bf16"] = "fp32"
    slots_at_once: int = setting(0, at_least=0)
    deterministic: bool = True
    form: Literal["auto", "depthwise", "dense"] = "auto"
    seed: int = setting(1, at_least=0)
    accept_changed_data: bool = False
    checkpoint_every: int = setting(200, at_least=1)
    validate_every: int = setting(500, at_least=1)
    validation_tiles: int = setting(4, at_least=1)
    threads: int = setting(0, at_least=0)
    card: dict[str, Any] = setting(default_factory=dict, what="an object of texts")

    def __post_init__(self) -> None:
        check(self)
        for wrong, said in (
            (
                0 < self.tile < self.patch,
                f"tile = {self.tile}: must be at least the patch ({self.patch}), or 0 for the patch",
            ),
            (
                2 * self.loss_margin >= self.patch,
                f"loss_margin = {self.loss_margin}: leaves nothing of a patch of {self.patch} voxels",
            ),
            (
                self.dose_mixing and self.target == "expected_full",
                "dose_mixing: a dose between two has no expected full dose; leave it out, or use target noise_free",
            ),
            (
                self.watched_centers and not self.watched_dataset,
                "watched_centers: say in watched_dataset where they are",
            ),
        ):
            if wrong:
                raise InputError(said)
        make_strategy(self).check()

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
        with located(where):
            try:
                return cls(**from_json(cls, with_preset(values), besides=["preset"]))
            except (TypeError, ValueError) as error:
                raise InputError(str(error)) from None

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
