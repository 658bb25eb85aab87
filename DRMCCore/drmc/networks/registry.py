"""The kinds of networks: each is a class of settings and a module.

Those that denoise derive from `ResidualNetwork`; those of organs return scores of classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drmc.networks.cgan3d import CGAN3D, CGAN3DConfig
from drmc.networks.cvtgan3d import CVTGAN3D, CVTGAN3DConfig
from drmc.networks.drmc import DRMC, NetworkConfig
from drmc.networks.organ_unet import OrganUNet, OrganUNetConfig
from drmc.networks.protocol import ResidualNetwork, Settings
from drmc.networks.resunet import ResUNet, ResUNetConfig
from drmc.networks.udrmc import UDRMC, UDRMCConfig
from drmc.networks.unet3d import UNet3D, UNet3DConfig

KINDS: dict[str, tuple[type[Settings], type[ResidualNetwork]]] = {
    NetworkConfig.kind: (NetworkConfig, DRMC),
    UDRMCConfig.kind: (UDRMCConfig, UDRMC),
    ResUNetConfig.kind: (ResUNetConfig, ResUNet),
    UNet3DConfig.kind: (UNet3DConfig, UNet3D),
    CGAN3DConfig.kind: (CGAN3DConfig, CGAN3D),
    CVTGAN3DConfig.kind: (CVTGAN3DConfig, CVTGAN3D),
}

ORGAN_KINDS: dict[str, tuple[type[OrganUNetConfig], type[OrganUNet]]] = {
    OrganUNetConfig.kind: (OrganUNetConfig, OrganUNet),
}


def settings_of(kind: str, values: Mapping[str, Any]) -> Settings:
    """The settings of a kind from plain JSON types.

    Raises:
        ValueError: kind, key or value is unknown or not allowed.
    """
    known = {**KINDS, **ORGAN_KINDS}
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"kind = {kind!r}: must be one of {', '.join(known)}")
    return known[kind][0].from_dict(values)


def build(kind: str, settings: Settings | Mapping[str, Any]) -> ResidualNetwork:
    """A new network with these settings; raises ValueError as `settings_of`."""
    if not isinstance(settings, Settings):
        settings = settings_of(kind, settings)
    return KINDS[kind][1](settings)


def build_organs(kind: str, values: Mapping[str, Any]) -> OrganUNet:
    """A new network of organs with these settings; raises ValueError as `settings_of`."""
    if kind not in ORGAN_KINDS:
        raise ValueError(f"kind = {kind!r}: must be one of {', '.join(ORGAN_KINDS)}")
    settings, module = ORGAN_KINDS[kind]
    return module(settings.from_dict(values))
