"""The interface of every network: settings, and a forward that returns residual and gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from drmc.networks.tokens import Space, convolve_in_slabs, fill_behind, shuffle, unshuffle

INPUT_SCALE = 20.0  # SUV per network unit
AnySettings = TypeVar("AnySettings", bound="Settings")


@dataclass(frozen=True)
class Settings:
    """What the settings of all kinds of networks have in common.

    `kind` is their key in `drmc.networks.registry.KINDS`.
    """

    kind: ClassVar[str]
    task: ClassVar[str] = "denoise"
    """What networks of this kind compute, the name of a task of `drmc.training.tasks`."""

    @property
    def voxel_unshuffle(self) -> int:
        """Edge of the cubes of voxels that the head reads as channels: a field of each kind."""
        raise NotImplementedError

    @property
    def one_batch(self) -> bool:
        """Whether a tile's result in training depends on the other tiles of its batch, or on chance.

        Then the patches of a step must be one batch in one process.
        """
        return False

    def check_patch(self, edge: int) -> None:
        """Checks that every normalization sees several values of a tile.

        Args:
            edge: edge of the smallest tile in voxels.

        Raises:
            ValueError: one does not.
        """

    @property
    def gates_shape(self) -> tuple[int, int]:
        """Router layers L and experts M; (0, 0) for a network without routing."""
        return 0, 0

    @property
    def features_per_voxel(self) -> float:
        """Channels of the finest features, per voxel of the tile."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types, without `kind`; `from_dict` is the inverse."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls: type[AnySettings], values: Mapping[str, Any]) -> AnySettings:
        """Settings from plain JSON types.

        Raises:
            ValueError: a key is unknown or a value is not allowed.
        """
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise ValueError(f"unknown network setting(s): {', '.join(unknown)}")
        return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})

    def _check(self, counts: tuple[str, ...], choices: Mapping[str, tuple[str, ...]]) -> None:
        for name in counts:
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a positive integer, not {getattr(self, name)!r}")
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, not {getattr(self, name)!r}")

    def _check_lists(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if (
                not isinstance(value, tuple)
                or not value
                or not all(isinstance(n, int) and n > 0 for n in value)
            ):
                raise ValueError(f"{name} must be a list of positive integers, not {value!r}")


class ResidualNetwork(nn.Module):
    """Predicts what to add to a tile: 3x3x3 head on cubes of voxels, the `body` of its kind, 3x3x3 tail.

    A size that is not a multiple of `multiple` is padded at its end by repeating the last plane, and cropped
    again.
    """

    multiple = 1

    config: Settings
    head: nn.Conv3d
    tail: nn.Module

    @property
    def latent_layers(self) -> list[nn.Module]:
        """Layers whose inputs are the network's latent features (`drmc.networks.latent`)."""
        return []

    @property
    def decoder(self) -> list[nn.Module]:
        """What a training with `"trainable": "decoder"` changes: the way up and the tail."""
        return [self.tail]

    def latent(self, inputs: tuple[Any, ...]) -> Tensor:
        """What the latent features keep of the inputs of such a layer, (B, K): the mean over the voxels.

        Args:
            inputs: the arguments of the layer's forward, first x_BNC or x_BCDHW.
        """
        x, axes = inputs[0], (1,) if inputs[0].ndim == 3 else (2, 3, 4)
        return x.mean(axes, dtype=torch.promote_types(x.dtype, torch.float32))

    def body(self, x_BNC: Tensor, space: Space) -> tuple[Tensor, list[Tensor]]:
        """The tokens after all layers, and the gates (B, M) of every bank in router order."""
        raise NotImplementedError

    def forward(self, x_BCDHW: Tensor, compute_dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Predicts the residual of each tile, and which experts made it.

        The result of a tile depends on that tile alone. Evaluation without gradients skips closed experts.

        Args:
            x_BCDHW: (B, 1, D, H, W) in network units, SUV / 20, never clipped; any D, H, W >= 1.
            compute_dtype: dtype of the products over voxels, e.g. torch.bfloat16; None: that of the
                parameters, which statistics, Gram matrices, routers, head and tail always have.

        Returns:
            The residual (B, 1, D, H, W) in network units and the gates (B, L, M), (B, 0, 0) for a network
            without routing, both in the dtype of the parameters.

        Raises:
            ValueError: the shape is another one, or the network's `form` is unknown.
        """
        self._check_shape(x_BCDHW)
        assert isinstance(self.tail, nn.Conv3d)
        exact, k = self.head.weight.dtype, self.config.voxel_unshuffle
        cubes_BCDHW = unshuffle(fill_behind(x_BCDHW.to(exact), self.multiple), k)
        D, H, W = cubes_BCDHW.shape[2:]
        space = D, H, W
        x_BNC = convolve_in_slabs(cubes_BCDHW.flatten(2).transpose(1, 2), self.head, space)
        x_BNC, gates = self.body(x_BNC.to(compute_dtype or exact).contiguous(), space)
        residual_BNC = convolve_in_slabs(x_BNC.to(exact), self.tail, space)
        gates_BLM = torch.stack(gates, 1) if gates else residual_BNC.new_zeros(len(x_BNC), 0, 0)
        return shuffle(residual_BNC, space, k, x_BCDHW.shape), gates_BLM

    def _check_shape(self, x_BCDHW: Tensor) -> None:
        if x_BCDHW.ndim != 5 or x_BCDHW.shape[1] != 1 or 0 in x_BCDHW.shape:
            raise ValueError(f"{type(self).__name__} takes (B, 1, D, H, W), got {tuple(x_BCDHW.shape)}")

    def denoise(self, x_BCDHW: Tensor, compute_dtype: torch.dtype | None = None) -> Tensor:
        """Tiles plus their residuals, (B, 1, D, H, W) in network units; arguments and errors as `forward`."""
        return x_BCDHW + self(x_BCDHW, compute_dtype)[0]
