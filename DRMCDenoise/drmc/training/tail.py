"""The best tail for given features: a linear least-squares problem."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from drmc.network import DRMC


@torch.no_grad()
def fit_tail(
    network: DRMC, patches: Iterable[tuple[np.ndarray, np.ndarray]], *, ridge: float = 1e-6, every: int = 3
) -> None:
    """Sets the tail to the least-squares solution of residual = full - low over (low, full) patches in network units.

    Uses every `every`-th voxel; `ridge` is relative to the mean squared feature.
    """
    network.eval()
    channels = network.config.channels
    size = 27 * channels + 1
    normal, right = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    caught = {}
    hook = network.blocks[-1].register_forward_hook(
        lambda block, given, output: caught.update(tokens_BNC=output[0])
    )
    for number, (low, full) in enumerate(patches):
        x_BCDHW = torch.from_numpy(low)[None, None].to(network.head.weight)
        network(x_BCDHW)
        space = x_BCDHW.shape[2:]
        features_DHWC = F.pad(caught["tokens_BNC"].view(*space, channels), (0, 0, 1, 1, 1, 1, 1, 1))
        d, h, w = space
        shifts = [
            features_DHWC[k : k + d, j : j + h, i : i + w].reshape(-1, channels)
            for k in range(3)
            for j in range(3)
            for i in range(3)
        ]
        chosen = slice(number % every, None, every)
        rows = (
            torch.stack([s[chosen] for s in shifts], -1).flatten(1).cpu()
        )  # (voxels, C * 27), as a kernel is laid out
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        target = torch.from_numpy(full - low).flatten()[chosen].to(rows.dtype)
        normal += (rows.T @ rows).double()
        right += (rows.T @ target).double()
    hook.remove()
    normal.diagonal().add_(ridge * normal.diagonal().mean())
    solution = torch.linalg.solve(normal, right).to(network.tail.weight)
    network.tail.weight.copy_(solution[:-1].view_as(network.tail.weight))
    network.tail.bias.copy_(solution[-1:])
