"""U-DRMC: routing blocks on the levels of a U-shaped network, all routers linked by one hidden state.

The blocks are those of equations 1 and 2 (Yang et al., MICCAI 2023), which the paper uses at one resolution.
The next lower level has an eighth of the tokens and twice the reach. The router's width R does not depend on
the channels, so that the H of each router is passed to the next one across the levels. Axes as in
`drmc.networks.drmc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from drmc.networks.drmc import ROUTER_CHOICES, NetworkConfig, RoutedNetwork
from drmc.networks.levels import Downsample, Upsample, above, below, linear
from drmc.networks.protocol import Settings
from drmc.networks.tokens import Space, spare_like


@dataclass(frozen=True)
class UDRMCConfig(Settings):
    """The settings of a U-DRMC network; the defaults have 1,906,814 parameters.

    The settings that are not listed are those of `drmc.networks.drmc.NetworkConfig`.

    Attributes:
        widths: channels of each level, finest first.
        blocks: routing blocks in the order of computation: down the levels, the lowest, up again.
        head_width: channels of an attention head.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (1, 2, 3, 2, 1)
    experts: int = 3
    head_width: int = 4
    hidden: int = 16
    ffn_ratio: int = 2
    use_hidden: bool = True
    gate: str = "relu"
    router_init: str = "one_over_experts"
    voxel_unshuffle: int = 2

    kind = "udrmc"

    def __post_init__(self) -> None:
        self._check(("experts", "head_width", "hidden", "ffn_ratio", "voxel_unshuffle"), ROUTER_CHOICES)
        self._check_lists("widths", "blocks")
        if len(self.blocks) != 2 * len(self.widths) - 1:
            stages, levels = 2 * len(self.widths) - 1, len(self.widths)
            raise ValueError(
                f"blocks must name {stages} stages, down and up {levels} level(s), not {len(self.blocks)}"
            )
        if odd := [width for width in self.widths if width % self.head_width]:
            raise ValueError(f"widths ({odd[0]}) must be multiples of head_width ({self.head_width})")

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Level and number of blocks of each stage, in the order of computation."""
        lowest = len(self.widths) - 1
        return [(lowest - abs(lowest - stage), count) for stage, count in enumerate(self.blocks)]

    @property
    def gates_shape(self) -> tuple[int, int]:
        """(L, M), two banks per block."""
        return 2 * sum(self.blocks), self.experts

    @property
    def features_per_voxel(self) -> float:
        """That of the finest level; the lower ones have a quarter and less."""
        return self.widths[0] / self.voxel_unshuffle**3

    def of_level(self, level: int) -> NetworkConfig:
        """The settings of a block of a level."""
        shared = ("experts", "hidden", "ffn_ratio", "use_hidden", "gate", "router_init")
        width = self.widths[level]
        return NetworkConfig(
            width, heads=width // self.head_width, **{name: getattr(self, name) for name in shared}
        )


class UDRMC(RoutedNetwork):
    """Routing blocks down and up the levels, with skip connections between the two passages of a level."""

    config: UDRMCConfig

    def __init__(self, config: UDRMCConfig | None = None):
        config = config or UDRMCConfig()
        super().__init__(
            config, [config.of_level(level) for level, count in config.stages for _ in range(count)]
        )
        self.multiple = config.voxel_unshuffle * 2 ** (len(config.widths) - 1)
        pairs = list(pairwise(config.widths))
        self.down = nn.ModuleList(Downsample(C, C_below) for C, C_below in pairs)
        self.up = nn.ModuleList(Upsample(C_below, C) for C, C_below in reversed(pairs))
        self.merge = nn.ModuleList(nn.Linear(2 * C, C) for C, _ in reversed(pairs))

    @property
    def latent_layers(self) -> list[nn.Module]:
        """The way up from the lowest level."""
        return list(self.up[:1])

    def body(self, x_BNC: Tensor, space: Space) -> tuple[Tensor, list[Tensor]]:
        """All stages in turn, with one H through all of them."""
        hidden_BR, blocks, gates = self.start(x_BNC), iter(self.blocks), []
        lowest = len(self.down)
        passed: list[Tensor] = []  # of each level above, on the way down
        for stage, (level, count) in enumerate(self.config.stages):
            if 0 < stage <= lowest:
                passed.append(x_BNC)
                x_BNC, space = self.down[level - 1](x_BNC, space), below(space)
            elif stage:
                x_BNC, space = self.up[stage - lowest - 1](x_BNC, space), above(space)
                merge = self.merge[stage - lowest - 1]
                assert isinstance(merge, nn.Linear)
                x_BNC = linear(torch.cat([x_BNC, passed.pop()], 2), merge)
            spare_BNC = spare_like(x_BNC)
            for _ in range(count):
                x_BNC, hidden_BR, block_gates = next(blocks)(x_BNC, hidden_BR, space, self.form, spare_BNC)
                gates += block_gates
        return x_BNC, gates
