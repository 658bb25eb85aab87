"""Work over the voxels of tiles: convolutions, normalization and FFN on tokens, in pieces that stay in cache.

Axes as in `drmc.networks.drmc`: tokens are channels-last, x_BNC with N = D H W; a convolution sees a
channels-last view, so nothing is transposed in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv3d_weight

Space = tuple[int, int, int]  # D, H, W
CACHE_VALUES = 2**19  # intermediate values of a chunk of voxels in a bank on a CPU, measured
SLAB_VALUES = 2**21  # the same for a slab of planes in the head and the tail
SMALL_IMAGE = 20480  # C * D * H of a single image up to which PyTorch does not use oneDNN


def unshuffle(x_BCDHW: Tensor, k: int) -> Tensor:
    """(B, 1, D, H, W) -> (B, k^3, D / k, H / k, W / k), the voxels of each cube of k x k x k as channels.

    Channel (i k + j) k + l contains voxels (k d + i, k h + j, k w + l). Sizes that are not multiples of k are
    padded with zeros at the end, as a convolution pads.
    """
    if k == 1:
        return x_BCDHW
    D, H, W = x_BCDHW.shape[2:]
    x_BCDHW = F.pad(x_BCDHW, (0, -W % k, 0, -H % k, 0, -D % k))
    x_BDkHkWk = x_BCDHW.view(-1, *(n for size in x_BCDHW.shape[2:] for n in (size // k, k)))
    return x_BDkHkWk.permute(0, 2, 4, 6, 1, 3, 5).flatten(1, 3)


def fill_behind(x_BCDHW: Tensor, multiple: int) -> Tensor:
    """Pads each size at its end to a multiple by repeating the last plane; (B, C, D, H, W)."""
    for axis in (2, 3, 4):
        if missing := -x_BCDHW.shape[axis] % multiple:
            shape = [missing if a == axis else -1 for a in range(5)]
            last_BCDHW = x_BCDHW.narrow(axis, x_BCDHW.shape[axis] - 1, 1).expand(shape)
            x_BCDHW = torch.cat([x_BCDHW, last_BCDHW], axis)
    return x_BCDHW


def spare_like(x_BNC: Tensor) -> Tensor | None:
    """A tensor that a block may overwrite, on a CPU without gradients, else None.

    Reusing it is faster there, because the system fills every new page of memory with zeros.
    """
    reuse = x_BNC.device.type == "cpu" and not torch.is_grad_enabled()
    return torch.empty_like(x_BNC) if reuse else None


def shuffle(x_BNC: Tensor, space: Space, k: int, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `unshuffle` for tokens (B, N, k^3), cropped to `shape` (B, 1, D, H, W)."""
    x_BDHWkkk = x_BNC.view(-1, *space, k, k, k)
    x_B1DHW = x_BDHWkkk.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, 1, *(k * n for n in space))
    return x_B1DHW[..., : shape[2], : shape[3], : shape[4]]


def normalize(
    x_BNC: Tensor, norm: nn.LayerNorm, skip_C: Tensor, spare_BNC: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """LN x, its mean over the voxels (B, C), and skip x.

    With a spare tensor LN x is written to it, and skip x to x.
    """
    exact = norm.weight.dtype
    weight, bias, skip_C = (p.to(x_BNC.dtype) for p in (norm.weight, norm.bias, skip_C))
    if spare_BNC is None:
        y_BNC = F.layer_norm(x_BNC, norm.normalized_shape, weight, bias, norm.eps)
        return y_BNC, y_BNC.sum(1, dtype=exact) / y_BNC.shape[1], x_BNC * skip_C
    sum_BC = x_BNC.new_zeros(len(x_BNC), x_BNC.shape[2], dtype=exact)
    for b, n in _chunks(x_BNC, x_BNC.shape[2]):
        y_nC = F.layer_norm(x_BNC[b, n], norm.normalized_shape, weight, bias, norm.eps)
        sum_BC[b] += y_nC.sum(0, dtype=exact)
        spare_BNC[b, n] = y_nC
        x_BNC[b, n] *= skip_C
    return spare_BNC, sum_BC / x_BNC.shape[1], x_BNC


def gram(x_BNC: Tensor) -> Tensor:
    """X^T X of each tile, (B, C, C), in float64 (float32 on devices without it).

    Tokens of a flat tile are nearly equal, and their small differences matter: the mean is added separately,
    so that the products are those of the deviations from it.
    """
    fine = torch.float32 if x_BNC.device.type == "mps" else torch.float64
    mean_B1C = x_BNC.mean(1, keepdim=True)
    if torch.is_grad_enabled() or x_BNC.device.type != "cpu":
        apart_BNC = x_BNC - mean_B1C
        gram_BCC = apart_BNC.mT @ apart_BNC
    else:
        gram_BCC = x_BNC.new_zeros(len(x_BNC), x_BNC.shape[2], x_BNC.shape[2])
        for b, n in _chunks(x_BNC, x_BNC.shape[2]):
            apart_nC = x_BNC[b, n] - mean_B1C[b]
            gram_BCC[b].addmm_(apart_nC.T, apart_nC)
    mean_B1C = mean_B1C.to(fine)
    return gram_BCC.to(fine) + x_BNC.shape[1] * (mean_B1C.mT @ mean_B1C)


def convolve(
    x_BNC: Tensor, kernel: Tensor, space: Space, groups: int = 1, bias: Tensor | None = None, stride: int = 1
) -> Tensor:
    """3x3x3 convolution of channels-last tokens, zero-padded; kernel (out, in / groups, 3, 3, 3).

    On a CPU a single small image is computed as two slabs of planes, see `_in_halves`.
    """
    if x_BNC.dtype == torch.bfloat16 and space[0] == 2 and x_BNC.device.type == "cpu":
        # There oneDNN's gradient of the kernel is wrong, not even finite (torch 2.13).
        bias = None if bias is None else bias.float()
        return convolve(x_BNC.float(), kernel.float(), space, groups, bias, stride).bfloat16()
    (B, _, C), depth, padding = x_BNC.shape, -(-space[0] // stride), (1, 1, 1)
    if halved := B == groups == 1 and x_BNC.device.type == "cpu" and C * space[0] * space[1] <= SMALL_IMAGE:
        x_BCDHW, padding = _in_halves(x_BNC[0], space, stride), (0, 1, 1)
    else:
        x_BCDHW = x_BNC.view(B, *space, C).permute(0, 4, 1, 2, 3)
    y_BCDHW = F.conv3d(x_BCDHW, kernel, bias, padding=padding, stride=stride, groups=groups)
    y_BDHWC = y_BCDHW.permute(0, 2, 3, 4, 1)
    return y_BDHWC.flatten(0, 1)[None, :depth].flatten(1, 3) if halved else y_BDHWC.flatten(1, 3)


def _in_halves(x_NC: Tensor, space: Space, stride: int = 1) -> Tensor:
    """One image as a batch of two slabs, (2, C, planes, H, W), with the neighboring planes that they need.

    For a single small image PyTorch avoids oneDNN and takes up to sixteen times as long. Each slab makes half
    of the output's planes, rounded up.
    """
    (depth, H, W), half = space, (-(-space[0] // stride) + 1) // 2
    planes, second = stride * (half - 1) + 3, stride * half
    padded = F.pad(x_NC.reshape(depth, -1), (0, 0, 1, second + planes - 1 - depth))
    x_2DHWC = torch.stack([padded[:planes], padded[second : second + planes]]).view(2, planes, H, W, -1)
    return x_2DHWC.permute(0, 4, 1, 2, 3)


def convolve_in_slabs(x_BNC: Tensor, layer: nn.Conv3d, space: Space) -> Tensor:
    """The same as `convolve`; on a CPU without gradients in slabs of planes to save memory."""
    if torch.is_grad_enabled() or x_BNC.device.type != "cpu":
        return convolve(x_BNC, layer.weight, space, bias=layer.bias)
    if layer.out_channels == 1:
        return torch.stack([_convolve_to_one_channel(x_NC, layer, space) for x_NC in x_BNC])
    result_BNC = x_BNC.new_empty(*x_BNC.shape[:2], layer.out_channels)
    for b, slab, wider, inside, planes in _slabs(x_BNC, space, max(layer.in_channels, layer.out_channels)):
        part_1NC = convolve(x_BNC[b : b + 1, wider], layer.weight, (planes, *space[1:]), bias=layer.bias)
        result_BNC[b, slab] = part_1NC[0, inside]
    return result_BNC


def _convolve_to_one_channel(x_NC: Tensor, layer: nn.Conv3d, space: Space) -> Tensor:
    """The same for one tile: a product gives what each voxel adds to its 27 neighbors, shifts add it.

    The convolution of oneDNN takes six times as long, because it computes sixteen channels.
    """
    (D, H, W), weight_TC = space, layer.weight[0].flatten(1).T
    sum_DHW, step = x_NC.new_zeros(D + 2, H + 2, W + 2), max(1, CACHE_VALUES // (27 * H * W))
    for z in range(0, D, step):
        terms_TDHW = (weight_TC @ x_NC[z * H * W : (z + step) * H * W].T).view(27, -1, H, W)
        for term_DHW, (i, j, k) in zip(terms_TDHW, product((2, 1, 0), repeat=3), strict=True):
            sum_DHW[z + i : z + i + len(term_DHW), j : j + H, k : k + W] += term_DHW
    result_N1 = sum_DHW[1:-1, 1:-1, 1:-1].reshape(-1, 1)
    return result_N1 if layer.bias is None else result_N1 + layer.bias


class FactoredConvolution(torch.autograd.Function):
    """total + 3x3x3 convolution of each tile by its kernel = sum over k of out[:, k] depthwise[k] map[k, :].

    The factors apply it, forward and backward. With a kernel (B, C, C, 3, 3, 3) the kernel receives the
    gradient, and autograd passes it on to the factors; without (None) the factors receive theirs directly, in
    the dtype of x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        total_BNC: Tensor,
        x_BNC: Tensor,
        kernel_BCC333: Tensor | None,
        map_BKC: Tensor,
        depthwise_K1333: Tensor,
        out_BCK: Tensor,
        space: Space,
    ) -> Tensor:
        """Adds the convolution to total, in place."""
        ctx.save_for_backward(x_BNC, map_BKC, depthwise_K1333, out_BCK)
        ctx.space, ctx.by_kernel = space, kernel_BCC333 is not None
        ctx.mark_dirty(total_BNC)
        _add_factored(total_BNC, x_BNC, map_BKC, depthwise_K1333, out_BCK, space)
        return total_BNC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BNC: Tensor) -> tuple[Tensor | None, ...]:
        """Recomputes the intermediate results between the factors."""
        grad_BNC, (x_BNC, map_BKC, depthwise_K1333, out_BCK) = grad_BNC.contiguous(), ctx.saved_tensors
        if not ctx.by_kernel:
            grad_x_BNC, *of_factors = _factor_gradients(
                x_BNC, grad_BNC, map_BKC, depthwise_K1333, out_BCK, ctx.space
            )
            return grad_BNC, grad_x_BNC, None, *of_factors, None
        grad_x_BNC, flipped_K1333 = torch.zeros_like(x_BNC), depthwise_K1333.flip(2, 3, 4)
        _add_factored(grad_x_BNC, grad_BNC, out_BCK.mT, flipped_K1333, map_BKC.mT, ctx.space)
        grads = [_kernel_gradient(*pair, ctx.space) for pair in zip(x_BNC, grad_BNC, strict=True)]
        return grad_BNC, grad_x_BNC, torch.stack(grads), None, None, None, None


def _factor_gradients(
    x_BNC: Tensor, grad_BNC: Tensor, map_BKC: Tensor, depthwise_K1333: Tensor, out_BCK: Tensor, space: Space
) -> tuple[Tensor, ...]:
    """Gradients of the tokens and of the three factors of `FactoredConvolution`."""
    K = len(depthwise_K1333)
    v_BNK, grad_w_BNK = x_BNC @ map_BKC.mT, grad_BNC @ out_BCK
    w_BNK = convolve(v_BNK, depthwise_K1333, space, groups=K)
    grad_v_BNK = convolve(grad_w_BNK, depthwise_K1333.flip(2, 3, 4), space, groups=K)
    at_once = max(1, CACHE_VALUES // v_BNK[0].numel()) if x_BNC.device.type == "cpu" else len(x_BNC)
    tiles = zip(v_BNK.split(at_once), grad_w_BNK.split(at_once), strict=True)
    zero = x_BNC.new_zeros((), dtype=torch.promote_types(x_BNC.dtype, torch.float32))
    grad_K1333 = sum((_depthwise_gradient(*pair, space) for pair in tiles), zero).to(depthwise_K1333.dtype)
    return grad_v_BNK @ map_BKC, grad_v_BNK.mT @ x_BNC, grad_K1333, grad_BNC.mT @ w_BNK


def _depthwise_gradient(x_BNK: Tensor, grad_BNK: Tensor, space: Space) -> Tensor:
    """Gradient of a depth-wise 3x3x3 kernel, (K, 1, 3, 3, 3), shift by shift.

    PyTorch's own is slower, and wrong in bfloat16 on an image of two planes (2.13 with oneDNN).
    """
    (D, H, W), exact = space, torch.promote_types(x_BNK.dtype, torch.float32)
    grad_BDHWK = grad_BNK.view(-1, D, H, W, grad_BNK.shape[2])
    padded_BDHWK = F.pad(x_BNK.view(grad_BDHWK.shape), (0, 0, 1, 1, 1, 1, 1, 1))
    sums = [
        (padded_BDHWK[:, z : z + D, y : y + H, x : x + W] * grad_BDHWK).sum((0, 1, 2, 3), dtype=exact)
        for z, y, x in product(range(3), repeat=3)
    ]
    return torch.stack(sums, 1).view(-1, 1, 3, 3, 3)


def _kernel_gradient(x_NC: Tensor, grad_NC: Tensor, space: Space) -> Tensor:
    """Gradient of a dense kernel, (C, C, 3, 3, 3), from the tokens of one tile and the output's gradient."""
    (depth, H, W), C = space, x_NC.shape[1]
    if C * depth * H > SMALL_IMAGE or x_NC.device.type != "cpu":
        x, grad = (tokens.view(1, *space, C).permute(0, 4, 1, 2, 3) for tokens in (x_NC, grad_NC))
        return conv3d_weight(x, (C, C, 3, 3, 3), grad, padding=1)
    grad_2DHWC = F.pad(grad_NC.reshape(depth, -1), (0, 0, 0, depth % 2)).view(2, -1, H, W, C)
    grad_2CDHW = grad_2DHWC.permute(0, 4, 1, 2, 3)
    return conv3d_weight(_in_halves(x_NC, space), (C, C, 3, 3, 3), grad_2CDHW, padding=(0, 1, 1))


def _add_factored(
    total_BNC: Tensor, x_BNC: Tensor, map_BKC: Tensor, depthwise_K1333: Tensor, out_BCK: Tensor, space: Space
) -> None:
    """Adds out depthwise(map x) to total; on a CPU in slabs of planes that stay in cache.

    Where slabs would be thin, expert by expert. The planes that two slabs share are mapped once.
    """
    (D, H, W), K, C = space, len(depthwise_K1333), x_BNC.shape[2]
    plane, step, width = H * W, D, K
    if x_BNC.device.type == "cpu":
        width = C if 2 * plane * K > CACHE_VALUES else K
        step = max(2, -(-D // max(1, D * plane * width // CACHE_VALUES)))
    v_PNK = x_BNC.new_empty(step + 2, plane, width)  # map x on planes z - 1 ... z + step
    for b, k in ((b, slice(k, k + width)) for b in range(len(x_BNC)) for k in range(0, K, width)):
        x_DNC, total_DNC = x_BNC[b].view(D, plane, C), total_BNC[b].view(D, plane, C)
        for z in range(0, D, step):
            first, end, last = z + 1 if z else 0, min(D, z + step), min(D, z + step + 1)
            if z:
                v_PNK[:2] = v_PNK[step:]
            else:
                v_PNK[0] = 0
            new_PNK = v_PNK[first - z + 1 : last - z + 1]
            torch.mm(x_DNC[first:last].flatten(0, 1), map_BKC[b, k].T, out=new_PNK.flatten(0, 1))
            v_PNK[last - z + 1 :] = 0
            v_1KDHW = v_PNK[: end - z + 2].view(1, -1, H, W, width).permute(0, 4, 1, 2, 3)
            w_1KDHW = F.conv3d(v_1KDHW, depthwise_K1333[k], padding=(0, 1, 1), groups=width)
            w_NK = w_1KDHW.permute(0, 2, 3, 4, 1).reshape(-1, width)
            total_DNC[z:end].flatten(0, 1).addmm_(w_NK, out_BCK[b, :, k].T)


def _slabs(x_BNC: Tensor, space: Space, width: int) -> Iterator[tuple[int, slice, slice, slice, int]]:
    """Yields (tile, voxels of a slab, these with the neighboring planes, the slab in them, planes in all).

    On a CPU a slab has so few planes that `width` values per voxel take little memory, elsewhere all planes.
    """
    depth, plane = space[0], space[1] * space[2]
    step = max(4, SLAB_VALUES // (plane * width)) if x_BNC.device.type == "cpu" else depth
    for b, z in ((b, z) for b in range(len(x_BNC)) for z in range(0, depth, step)):
        first, end, last = max(0, z - 1), min(depth, z + step), min(depth, z + step + 1)
        voxels = lambda low, high: slice(low * plane, high * plane)
        yield b, voxels(z, end), voxels(first, last), voxels(z - first, end - first), last - first


def _chunks(x_BNC: Tensor, width: int) -> list[tuple[int, slice]]:
    """All (tile, voxels) in order, on a CPU so few that `width` values for each voxel stay in its cache."""
    N, size = x_BNC.shape[1], max(1, (CACHE_VALUES if x_BNC.device.type == "cpu" else 2**27) // width)
    return [(b, slice(n, min(N, n + size))) for b in range(len(x_BNC)) for n in range(0, N, size)]


class ChunkedFFN(torch.autograd.Function):
    """total + gelu(x W1^T + b1) W2 + b2 in chunks that stay in cache; the backward keeps x and recomputes."""

    @staticmethod
    def forward(
        ctx: Any,
        total_BNC: Tensor,
        x_BNC: Tensor,
        weight1_KC: Tensor,
        bias1_K: Tensor,
        weight2_BKC: Tensor,
        bias2_BC: Tensor,
    ) -> Tensor:
        """Adds the FFN's output to total, in place."""
        ctx.save_for_backward(x_BNC, weight1_KC, bias1_K, weight2_BKC)
        ctx.mark_dirty(total_BNC)
        chunks = _chunks(x_BNC, len(bias1_K))
        buffer_nK = x_BNC.new_empty(chunks[0][1].stop, len(bias1_K))  # new memory would be slower on a CPU
        for b, n in chunks:
            x_nC = x_BNC[b, n]
            hidden_nK = torch.addmm(bias1_K, x_nC, weight1_KC.T, out=buffer_nK[: len(x_nC)])
            total_BNC[b, n].add_(bias2_BC[b]).addmm_(torch.ops.aten.gelu_(hidden_nK), weight2_BKC[b])
        return total_BNC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BNC: Tensor) -> tuple[Tensor, ...]:
        """Recomputes the hidden layer, chunk by chunk."""
        x_BNC, weight1_KC, bias1_K, weight2_BKC = saved = ctx.saved_tensors
        exact, grad_x_BNC = torch.promote_types(x_BNC.dtype, torch.float32), torch.empty_like(x_BNC)
        grad1_KC, grad_bias1_K, grad2_BKC = (torch.zeros_like(weight, dtype=exact) for weight in saved[1:])
        for b, n in _chunks(x_BNC, len(bias1_K)):
            x_nC, grad_nC = x_BNC[b, n], grad_BNC[b, n]
            hidden_nK = torch.addmm(bias1_K, x_nC, weight1_KC.T)
            grad2_BKC[b] += F.gelu(hidden_nK).T @ grad_nC
            grad_nK = torch.ops.aten.gelu_backward(grad_nC @ weight2_BKC[b].T, hidden_nK)
            grad1_KC += grad_nK.T @ x_nC
            grad_bias1_K += grad_nK.sum(0)
            torch.mm(grad_nK, weight1_KC, out=grad_x_BNC[b, n])
        return grad_BNC, grad_x_BNC, grad1_KC, grad_bias1_K, grad2_BKC, grad_BNC.sum(1)
