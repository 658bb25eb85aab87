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
from drmc.training.critics import CRITICS, NONE, check_critic, needs_one_batch
from drmc.training.presets import with_preset
from drmc.training.sampler import TARGETS
from drmc.training.strategies.registry import STRATEGIES, make_strategy
from drmc.training.tasks.organ_settings import OrganSettings
from drmc.training.tasks.registry import make_task

_CENTERS = {"distinct": True, "pattern": "(?s).+", "what": "a list of center names"}
FOLDERS = ("dataset", "output", "watched_dataset", "prepared")
"""Settings that are folders of one machine: they may move, and no other file names them."""
_LISTS = ("centers", "watched_centers", "kept_steps")


@dataclass(frozen=True)
class TrainingConfig:
    """One training run; `drmc.training.presets` has named sets of these settings.

    Attributes:
        dataset: folder of the dataset.
        output: folder for checkpoints, log and models.
        name: name of the model.
        centers: centers of the dataset to train on.
        network: settings of the network, which determine the task.
        patch: edge of the patches in voxels of the network's grid (about 2 mm).
        tile: edge of the tiles of the trained model in voxels, 0 = `patch`.
        loss_margin: voxels at each face of a patch without loss, where the network sees its zero padding and
            inference blends tiles out.
        patches_per_center: slots of each center in a step; distributed over the processes.
        steps: optimizer steps.
        learning_rate: the highest one, after a linear warm-up.
        final_learning_rate: the one at the end of the cosine.
        tail_rate: factor on the tail's learning rate (its output is in SUV / 20, so its weights are small).
        schedule: "cosine", or "linear": constant, then linear over the second half of the steps.
        optimizer: "adamw", "sgd" (plain), "rmsprop", or "muon" for the experts' maps and kernels
            (`drmc.training.muon`).
        muon_rate: factor on the learning rate of what Muon updates.
        beta1: decay of AdamW's first moment.
        beta2: decay of its second moment.
        warmup_steps: steps of the warm-up.
        weight_decay: of matrices and kernels.
        gradient_clip: largest norm of the gradient, 0 = no clipping.
        loss: "charbonnier", or "l1", the mean absolute difference.
        charbonnier: epsilon of the loss in network units (SUV / 20).
        critic: "none", or the critic of an adversarial training, see `drmc.training.critics`.
        critic_width: channels of its first layer, 0 = as published.
        critic_rate: factor on the learning rate of critics.
        adversarial_weight: of the adversarial term beside the loss, 1 / lambda of the papers.
        adversarial_start: steps with the loss alone, before critics and their terms.
        ema_decay: of the moving average of the weights, 0 = no average.
        scale_range: patches are multiplied by a random factor between 1 / `scale_range` and `scale_range`.
        flips: whether patches are flipped and turned at random.
        hot_fraction: share of patches centered by uptake instead of uniformly over the body.
        dose_mixing: share of patches with an input between low and full dose.
        prepared: folder that keeps the images on the network's grid, for more images than fit into memory,
            and for several runs; "" keeps them in memory.
        target: "full", or for simulated data "noise_free" or "expected_full", see `drmc.training.sampler`.
        lesion_weight: weight in the loss of the voxels of lesions and their neighbors, and of virtual spots.
        spots: share of patches with virtual spots, see `drmc.training.virtual_spots`.
        faint_weight: weight of virtual spots of 1 SUV and less in the loss of lesions; that of brighter ones
            falls with 1 / SUV, down to 1.
        noise_balance: exponent of a patch's noise (RMS of low - target) by which its loss is divided.
        mean_weight: weight of the error of means over 16 mm beside the loss, see
            `drmc.training.objectives.mean_error`.
        initial_weights: name or file of a model to start from, "" = a new network.
        head_gain: factor on the initial weights of a new network's head (20 makes its features SUV).
        averaging_start: whether depth-wise kernels of a new network start near the mean over 3 x 3 x 3
            voxels.
        identity_start: whether a new network starts with a tail of zeros.
        reopen_gates: whether gates that are closed have a gradient that opens them, see
            `drmc.networks.drmc.ReopeningReLU`.
        strategy: see `drmc.training.strategies`.
        round_steps: steps between two averages of the sites.
        federated_steps: steps with averages in the strategy "ftl", 0 = half the steps.
        trainable: "all", or "decoder": the rest of the network stays as it is in the last part of "ftl", or
            in a run that starts from initial_weights (see `ResidualNetwork.decoder`).
        alignment_weight: of the adversarial term in the strategies "flmrcm" and "flmrcm_mix".
        target_center: whose latent features the others are aligned with there, "" = each center in turn.
        watched_dataset: dataset whose centers are validated as well, which shows whether they are forgotten.
        watched_centers: centers of it, none = all that have validation patients.
        kept_steps: steps after which the models of that moment are written as well, as NAME-stepN.pt.
        export: weights of the "best" validation or of the "last" step.
        half_weights: whether weight files hold float16, half the size, instead of float32.
        precision: dtype of products over voxels; everything else is float32.
        slots_at_once: slots that a process computes together, 0 = all; fewer need less memory.
        deterministic: whether a run on a GPU is repeated bit by bit.
        form: how attention banks are computed, see `drmc.networks.drmc.RoutedNetwork`.
        seed: of the initial weights and the patches.
        accept_changed_data: whether a run continues although its images changed.
        checkpoint_every: steps between two checkpoints.
        validate_every: steps between two validations.
        validation_tiles: most tiles of high uptake of each held-out pair, see `drmc.training.validation`.
        threads: threads of PyTorch in each process, 0 = its own choice.
        organs: what an organ training draws, see `drmc.training.tasks.organ_settings`.
        card: further facts for the model's card (title, intended use, license ...).
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
    schedule: Literal["cosine", "linear"] = "cosine"
    optimizer: Literal["adamw", "muon", "sgd", "rmsprop"] = "adamw"
    muon_rate: float = setting(10.0, above=0)
    beta1: float = setting(0.9, at_least=0, below=1)
    beta2: float = setting(0.999, at_least=0, below=1)
    warmup_steps: int = setting(1000, at_least=0)
    weight_decay: float = setting(1e-4, at_least=0)
    gradient_clip: float = setting(1.0, at_least=0)
    loss: Literal["charbonnier", "l1"] = "charbonnier"
    charbonnier: float = setting(1e-3, above=0)
    critic: str = setting(NONE, choices=(NONE, *CRITICS))
    critic_width: int = setting(0, at_least=0)
    critic_rate: float = setting(1.0, above=0)
    adversarial_weight: float = setting(1e-3, above=0)
    adversarial_start: int = setting(0, at_least=0)
    ema_decay: float = setting(0.999, at_least=0, below=1)
    scale_range: float = setting(2.0, at_least=1, note=" (1 = no scale augmentation)")
    flips: bool = True
    hot_fraction: float = setting(0.0, at_least=0, at_most=1)
    dose_mixing: float = setting(0.0, at_least=0, at_most=1)
    prepared: str = ""
    target: str = setting("full", choices=TARGETS)
    lesion_weight: float = setting(1.0, above=0)
    spots: float = setting(0.0, at_least=0, at_most=1)
    faint_weight: float = setting(4.0, at_least=1)
    noise_balance: float = setting(0.0, at_least=0, at_most=2)
    mean_weight: float = setting(0.0, at_least=0)
    initial_weights: str = ""
    head_gain: float = setting(1.0, above=0)
    averaging_start: bool = False
    identity_start: bool = True
    reopen_gates: bool = False
    strategy: str = setting("joint", choices=tuple(STRATEGIES))
    round_steps: int = setting(100, at_least=1)
    federated_steps: int = setting(0, at_least=0)
    trainable: Literal["all", "decoder"] = "all"
    alignment_weight: float = setting(0.1, above=0)
    target_center: str = ""
    watched_dataset: str = ""
    watched_centers: tuple[str, ...] = setting((), **_CENTERS)
    kept_steps: tuple[int, ...] = setting((), at_least=1)
    export: Literal["best", "last"] = "best"
    half_weights: bool = False
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
    organs: OrganSettings = setting(default_factory=OrganSettings, what="an object of settings")
    card: dict[str, Any] = setting(default_factory=dict, what="an object of texts")

    def __post_init__(self) -> None:
        check(self)
        for wrong, message in (
            (
                0 < self.tile < self.patch,
                f"tile = {self.tile}: must be at least the patch ({self.patch}), or 0 for the patch",
            ),
            (
                2 * self.loss_margin >= self.patch,
                f"loss_margin = {self.loss_margin}: leaves nothing of a patch of {self.patch} voxels",
            ),
            (
                needs_one_batch(self) and self.slots_at_once,
                f"slots_at_once = {self.slots_at_once}: must be 0 with batch statistics or dropout",
            ),
            (
                self.critic != NONE and self.slots_at_once,
                f"slots_at_once = {self.slots_at_once}: must be 0 with a critic, which sees a step at once",
            ),
            (
                self.trainable != "all" and self.strategy != "ftl" and not self.initial_weights,
                f"trainable = {self.trainable}: needs the strategy ftl, or initial_weights to keep",
            ),
            (
                self.watched_centers and not self.watched_dataset,
                "watched_centers: name their dataset in watched_dataset",
            ),
        ):
            if wrong:
                raise InputError(message)
        make_task(self).check()
        try:
            self.network.check_patch(self.patch)
            check_critic(self)
        except ValueError as error:
            raise InputError(f"patch = {self.patch}: {error}") from None
        make_strategy(self).check()

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types; `from_dict` is the inverse."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        network = {"kind": self.network.kind, **self.network.to_dict()}
        organs = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self.organs).items()}
        return {**asdict(self), "network": network, "organs": organs, **lists}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> TrainingConfig:
        """Makes a configuration from plain JSON types.

        Args:
            values: the settings. `preset` names those to use for what is missing; `network` may be a part of
                the network's settings (with another `kind` of that kind's), or the name of a variant.
            where: the file, for messages.

        Raises:
            InputError: a key is unknown or missing, or a value is not allowed.
        """
        with located(where):
            try:
                values = from_json(cls, with_preset(values), besides=["preset"])
                if isinstance(organs := values.get("organs"), dict):
                    with located("organs"):
                        values["organs"] = OrganSettings(**from_json(OrganSettings, organs))
                return cls(**values)
            except (TypeError, ValueError) as error:
                raise InputError(str(error)) from None

    @classmethod
    def read(cls, path: Path) -> TrainingConfig:
        """Reads a JSON file; relative paths in it are relative to the file's folder.

        Raises:
            InputError: the file cannot be read, or as `from_dict`.
        """
        return cls.from_dict(resolved(read_json_object(path), Path(path).resolve().parent), str(path))


def resolved(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The content of a configuration with its relative paths made absolute; they are relative to `folder`."""
    values = dict(values)
    for key in FOLDERS:
        if isinstance(values.get(key), str) and values[key]:
            values[key] = str(folder / values[key])
    weights = values.get("initial_weights")
    if isinstance(weights, str) and weights and (folder / weights).is_file():
        values["initial_weights"] = str(folder / weights)  # else the name of a model
    return values
