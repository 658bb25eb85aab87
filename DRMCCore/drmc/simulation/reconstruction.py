"""Ordered-subsets expectation maximization (Hudson and Larkin 1994) with an image-space resolution model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from drmc.simulation.projector import GaussianPSF, Projector, from_block, to_block


@dataclass
class AcquisitionModel:
    """expected = multiplicative * (P G x) + additive, per subset.

    `multiplicative` holds tensors (lines, z): all TOF bins of a line share it; `additive` tensors (rows, z).
    """

    projector: Projector
    psf: GaussianPSF | None
    multiplicative: list[torch.Tensor]
    additive: list[torch.Tensor]

    def forward(self, block: torch.Tensor, subset: int) -> torch.Tensor:
        """(y, x, images, z) -> (rows, images, z), without the additive part."""
        ny, nx, images, nz = block.shape
        blurred = self.psf(block) if self.psf else block
        sinogram = self.projector.forward(blurred.reshape(ny * nx, images * nz), subset)
        by_line = sinogram.view(self.projector.lines, -1, images, nz)
        return by_line.mul_(self.multiplicative[subset][:, None, None]).view(-1, images, nz)

    def adjoint(self, sinogram: torch.Tensor, subset: int) -> torch.Tensor:
        """(rows, images, z) -> (y, x, images, z)."""
        rows, images, nz = sinogram.shape
        by_line = sinogram.view(self.projector.lines, -1, images, nz)
        weighted = (self.multiplicative[subset][:, None, None] * by_line).view(rows, images * nz)
        n = self.projector.matrix
        block = self.projector.adjoint(weighted, subset).view(n, n, images, nz)
        return self.psf(block) if self.psf else block

    def slab(self, z: slice) -> AcquisitionModel:
        """The same model restricted to a range of slices."""
        cut = lambda parts: [part[:, z].contiguous() for part in parts]
        return AcquisitionModel(self.projector, self.psf, cut(self.multiplicative), cut(self.additive))


def field_of_view(matrix: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Inscribed circle, float (y, x)."""
    position = torch.arange(matrix, device=device) - (matrix - 1) / 2
    return ((position[:, None] ** 2 + position[None] ** 2) <= (matrix / 2) ** 2).float()


def osem(
    model: AcquisitionModel,
    prompts: list[torch.Tensor],
    iterations: int,
    *,
    after_subset: Callable[[], None] | None = None,
) -> torch.Tensor:
    """Reconstructs prompts (per subset: rows, images, z) to images (images, z, y, x). One subset is MLEM.

    `after_subset` is called after every update (progress; it may raise to cancel).
    """
    subsets, n = model.projector.subsets, model.projector.matrix
    _, images, nz = prompts[0].shape
    device = prompts[0].device
    circle = field_of_view(n, device)[:, :, None, None]
    block = circle.expand(n, n, images, nz).contiguous()
    ones = torch.ones(model.projector.rows, 1, nz, device=device)
    # the circle is folded into the inverse sensitivity, which costs nothing per update
    weight = [circle / model.adjoint(ones, s).clamp_(min=1e-12) for s in range(subsets)]
    for _ in range(iterations):
        for s in range(subsets):
            expected = model.forward(block, s).add_(model.additive[s][:, None]).clamp_(min=1e-9)
            ratio = torch.div(prompts[s], expected, out=expected)
            block.mul_(model.adjoint(ratio, s)).mul_(weight[s])
            if after_subset is not None:
                after_subset()
    return from_block(block)


def reconstruct(
    slab_of: Callable[[slice], tuple[AcquisitionModel, list[torch.Tensor]]],
    slices: int,
    iterations: int,
    post_filter: GaussianPSF | None = None,
    *,
    slab: int = 64,
    halo: int = 8,
    progress: Callable[[float], None] | None = None,
) -> torch.Tensor:
    """OSEM in axial slabs: memory does not grow with the patient.

    The resolution model and post-filter couple slices over a few millimeters only, which the halo covers.

    Args:
        slab_of: the model of a range of slices, and its prompts per subset (rows, images, z).
        slices: number of slices, at least one.
        iterations: over all subsets.
        post_filter: of the images.
        slab: slices of a slab.
        halo: further slices on each side of it.
        progress: called with the share done (0..1) after every update.

    Returns:
        Images (images, z, y, x).

    Raises:
        ValueError: there are no slices.
    """
    result: torch.Tensor | None = None
    done = 0
    for start in range(0, slices, slab):
        stop = min(start + slab, slices)
        low, high = max(0, start - halo), min(slices, stop + halo)
        model, prompts = slab_of(slice(low, high))
        updates = math.ceil(slices / slab) * iterations * model.projector.subsets

        def after_subset(updates: int = updates) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done / updates)

        part = osem(model, prompts, iterations, after_subset=after_subset)
        if post_filter is not None:
            part = from_block(post_filter(to_block(part)))
        if result is None:
            result = torch.empty(part.shape[0], slices, *part.shape[2:])
        result[:, start:stop] = part[:, start - low : stop - low].cpu()
        del model, prompts, part
    if result is None:
        raise ValueError("there are no slices to reconstruct")
    return result
