"""The best tail for given features: a linear least-squares problem."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from drmc.network import DRMC, unshuffle


@torch.no_grad()
def fit_tail(
    network: DRMC, patches: Iterable[tuple[np.ndarray, np.ndarray]], *, ridge: float = 1e-6, every: int = 3
) -> None:
    """Sets the tail to the least-squares solution of residual = full - low over (low, full) patches in network units.

    Uses every `every`-th token; `ridge` is relative to the mean squared feature.
    """
    network.eval()
    k, channels = network.config.voxel_unshuffle, network.config.channels
    size = 27 * channels + 1
    normal, right = (torch.zeros(size, columns, dtype=torch.float64) for columns in (size, k**3))
    caught = {}
    hook = network.blocks[-1].register_forward_hook(
        lambda block, given, output: caught.update(tokens_BNC=output[0])
    )
    for number, (low, full) in enumerate(patches):
        x_BCDHW, residual_BCDHW = (
            torch.from_numpy(image)[None, None].to(network.head.weight) for image in (low, full - low)
        )
        network(x_BCDHW)
        target_BCDHW = unshuffle(residual_BCDHW, k)
        d, h, w = space = target_BCDHW.shape[2:]
        features_DHWC = F.pad(caught["tokens_BNC"].view(*space, channels), (0, 0, 1, 1, 1, 1, 1, 1))
        shifts = [
            features_DHWC[z : z + d, y : y + h, x : x + w].reshape(-1, channels)
            for z in range(3)
            for y in range(3)
            for x in range(3)
        ]
        chosen = slice(number % every, None, every)
        rows = torch.stack([s[chosen] for s in shifts], -1).flatten(1)  # (tokens, C * 27), as a kernel
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        normal += (rows.T @ rows).double().cpu()
        right += (rows.T @ target_BCDHW.flatten(2)[0].T[chosen]).double().cpu()
    hook.remove()
    normal.diagonal().add_(ridge * normal.diagonal().mean())
    solution = torch.linalg.solve(normal, right).to(network.tail.weight)
    network.tail.weight.copy_(solution[:-1].T.reshape(network.tail.weight.shape))
    network.tail.bias.copy_(solution[-1])
