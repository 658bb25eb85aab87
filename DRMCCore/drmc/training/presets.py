"""Named settings of a training.

A configuration names one, and what differs from it:
`{"preset": "default", "dataset": ..., "output": ...}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from drmc.errors import InputError
from drmc.networks.cgan3d import CGAN3DConfig
from drmc.networks.cvtgan3d import CVTGAN3DConfig
from drmc.networks.drmc import NetworkConfig
from drmc.networks.organ_unet import OrganUNetConfig
from drmc.networks.protocol import Settings
from drmc.networks.registry import settings_of
from drmc.networks.resunet import ResUNetConfig
from drmc.networks.udrmc import UDRMCConfig
from drmc.networks.unet3d import UNet3DConfig

PRESETS: dict[str, dict[str, Any]] = {
    # Yang et al., MICCAI 2023, section 3.1: 200 epochs of 1024 patches of each center, Adam (the same as
    # AdamW without decay) at 1e-4; what the paper does not mention is off.
    "paper": {
        "network": {"router_init": "official"},
        "patch": 64,
        "steps": 200 * 1024,
        "learning_rate": 1e-4,
        "final_learning_rate": 1e-4,
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "gradient_clip": 0.0,
        "charbonnier": 1e-3,
        "ema_decay": 0.0,
        "scale_range": 1.0,
        "flips": False,
        "identity_start": False,
        "checkpoint_every": 256,
        "validate_every": 1024,
        "export": "last",
    },
    # The best recipe found.
    "default": {
        "network": {"channels": 48, "blocks": 5, "experts": 3, "heads": 12, "voxel_unshuffle": 2},
        "patch": 48,
        "tile": 64,
        "loss_margin": 4,
        "steps": 2400,
        "optimizer": "muon",
        "muon_rate": 10.0,
        "learning_rate": 5e-4,
        "final_learning_rate": 5e-6,
        "tail_rate": 0.05,
        "beta2": 0.99,
        "warmup_steps": 50,
        "weight_decay": 0.0,
        "charbonnier": 0.1,
        "ema_decay": 0.995,
        "scale_range": 1.5,
        "hot_fraction": 0.3,
        "head_gain": 20.0,
        "averaging_start": True,
        "checkpoint_every": 50,
        "validate_every": 500,
    },
    # Seconds on one core: shows that a training runs, but learns almost nothing.
    "tiny": {
        "name": "tiny",
        "network": {"channels": 8, "blocks": 1, "experts": 3, "heads": 2, "hidden": 4},
        "patch": 16,
        "steps": 20,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "weight_decay": 0.0,
        "checkpoint_every": 5,
        "validate_every": 10,
        "threads": 1,
    },
}

# Methods to compare with (docs/comparison.md): patches, augmentation, moving average and choice by validation
# of "default"; network, loss, optimizer and its rates of the method.
_COMMON = {key: value for key, value in PRESETS["default"].items() if key not in ("network", "muon_rate")}
_COMMON |= {"loss": "l1", "tail_rate": 1.0, "beta2": 0.999, "warmup_steps": 0, "averaging_start": False}
PRESETS["unet3d"] = {
    **_COMMON,
    "network": "unet3d",
    "optimizer": "rmsprop",
    "learning_rate": 1e-4,
    "final_learning_rate": 1e-5,
    "round_steps": 50,
    "critic_rate": 10.0,
    "adversarial_start": 240,
}
PRESETS["cgan3d"] = {
    **_COMMON,
    "network": "cgan3d",
    "optimizer": "adamw",
    "beta1": 0.5,
    "learning_rate": 2e-4,
    "final_learning_rate": 0.0,
    "schedule": "linear",
    "critic": "cgan3d",
    "critic_width": 32,
    "adversarial_weight": 1 / 3000,
}
PRESETS["cvtgan3d"] = {
    **_COMMON,
    "network": "cvtgan3d",
    "optimizer": "adamw",
    "learning_rate": 2e-4,
    "final_learning_rate": 3.2e-5,
    "critic": "cvtgan3d",
    "critic_rate": 0.1,
    "adversarial_weight": 1 / 1000,
    "adversarial_start": 240,
}
# The same in their published sizes and forms, as far as known; what their papers do not mention is off.
_PUBLISHED = {
    "loss_margin": 0,
    "gradient_clip": 0.0,
    "ema_decay": 0.0,
    "scale_range": 1.0,
    "flips": False,
    "hot_fraction": 0.0,
    "head_gain": 1.0,
    "identity_start": False,
    "export": "last",
}
PRESETS["unet3d-published"] = {
    **PRESETS["unet3d"],
    **_PUBLISHED,
    "network": "unet3d-published",
    "alignment_weight": 1.0,
    "adversarial_start": 0,
}
PRESETS["cgan3d-published"] = {
    **PRESETS["cgan3d"],
    **_PUBLISHED,
    "network": "cgan3d-published",
    "patch": 64,
    "critic_width": 64,
    "adversarial_weight": 1 / 300,
}
PRESETS["cvtgan3d-published"] = {
    **PRESETS["cvtgan3d"],
    **_PUBLISHED,
    "network": "cvtgan3d-published",
    "patch": 64,
    "critic_rate": 1.0,
    "adversarial_weight": 1 / 100,
}

# Organs from PET, `drmc.training.tasks.organs`; rates are those usual for residual U-Nets.
PRESETS["organs"] = {
    "name": "drmc-organs",
    "network": "organs",
    "patch": 96,
    "steps": 6000,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-5,
    "warmup_steps": 100,
    "weight_decay": 1e-4,
    "gradient_clip": 1.0,
    "ema_decay": 0.998,
    "precision": "bf16",
    "slots_at_once": 1,
    "checkpoint_every": 100,
    "validate_every": 1000,
    "export": "last",
}

RoutedSettings = NetworkConfig | UDRMCConfig
"""Settings of the networks that have experts."""


def _one_expert(network: RoutedSettings) -> RoutedSettings:
    """Without routing: as many blocks of one expert as there were experts."""
    if isinstance(network, UDRMCConfig):
        blocks = tuple(count * network.experts for count in network.blocks)
        return replace(network, gate="none", experts=1, blocks=blocks)
    return replace(network, gate="none", experts=1, blocks=network.blocks * network.experts)


# The paper's comparisons (Tables 4 and 5), on the size in the preset.
VARIANTS: dict[str, Callable[[RoutedSettings], RoutedSettings]] = {
    "drmc": lambda network: network,
    "baseline": _one_expert,
    "without_hidden": lambda network: replace(network, use_hidden=False),
    "softmax": lambda network: replace(network, gate="softmax"),
    "top2": lambda network: replace(network, gate="top2"),
}

# Networks of other kinds, in their own sizes; "published" ones as docs/comparison.md says.
OTHERS: dict[str, Settings] = {
    "udrmc": UDRMCConfig(),
    "udrmc-48": UDRMCConfig(widths=(48, 96, 192)),
    "resunet": ResUNetConfig(),
    "unet3d": UNet3DConfig(),
    "unet3d-published": UNet3DConfig(width=32, residual=False),
    "cgan3d": CGAN3DConfig(),
    "cgan3d-published": CGAN3DConfig(depth=6, width=64, norm="batch", residual=False),
    "cvtgan3d": CVTGAN3DConfig(),
    "cvtgan3d-published": CVTGAN3DConfig(width=64, norm="batch"),
    "organs": OrganUNetConfig(),
    "organs-small": OrganUNetConfig(widths=(16, 32, 64, 128)),
    "organs-fine": OrganUNetConfig(widths=(16, 32, 64, 128, 160), units=(1, 1, 1, 1, 1), voxel_unshuffle=1),
}


def with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Completes a configuration by the preset that it names; `network` becomes the settings of its kind.

    The network's settings are those of `initial_weights`, otherwise of the preset, changed by what `network`
    contains.

    Raises:
        InputError: a preset, network or setting is unknown.
        ValueError: a setting of the preset's network is not allowed.
    """
    values = dict(values)
    name = values.pop("preset", None)
    if name is not None and name not in PRESETS:
        raise InputError(f"preset = {name!r}: must be one of {', '.join(PRESETS)}")
    preset = PRESETS.get(name, {})
    base = _network(NetworkConfig(), preset.get("network", {}))
    if isinstance(values.get("initial_weights"), str) and values["initial_weights"]:
        from drmc.models.registry import find_model
        from drmc.models.weights import load_any_network

        base = load_any_network(find_model(values["initial_weights"]))[0].config
    return {**preset, **values, "network": _network(base, values.get("network", {}))}


def _network(base: Settings, wanted: Any) -> Settings:
    if isinstance(wanted, str) and wanted in OTHERS:
        return OTHERS[wanted]
    if isinstance(wanted, str) and wanted in VARIANTS:
        if not isinstance(base, RoutedSettings):
            raise InputError(f"network = {wanted!r}: needs a network with experts, not {base.kind}")
        return VARIANTS[wanted](base)
    if not isinstance(wanted, dict):
        names = ", ".join([*VARIANTS, *OTHERS])
        raise InputError(f"network = {wanted!r}: must be an object of network settings, or one of {names}")
    wanted = dict(wanted)
    kind = wanted.pop("kind", base.kind)
    try:
        return settings_of(kind, {**(base.to_dict() if kind == base.kind else {}), **wanted})
    except ValueError as error:
        raise InputError(f"network: {error}") from None
