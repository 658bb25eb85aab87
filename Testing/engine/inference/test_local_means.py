"""The mean of a scan over some centimeters is held: a network's bias there is taken out of its residual."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drmc.imaging.body import body_mask
from drmc.imaging.geometry import Geometry
from drmc.imaging.smoothing import FWHM_PER_SIGMA
from drmc.inference.denoiser import Denoiser
from drmc.inference.local_means import LOCAL_MEAN_FWHM_MM, keep_local_means
from scipy.ndimage import gaussian_filter


class Lowers(torch.nn.Module):
    """A network that takes a tenth from every voxel."""

    config = SimpleNamespace(gates_shape=(0, 0), features_per_voxel=1)

    def forward(self, x_BCDHW, compute_dtype=None):
        return -0.1 * x_BCDHW, x_BCDHW.new_zeros(len(x_BCDHW), 0, 0)


SPACINGS = [(2.0, 2.0, 2.0), (3.3, 1.2, 1.2), (5.0, 4.1, 4.1)]


def ellipsoid(geometry, half=0.45):
    """Bool (z, y, x): its half axes are this share of the field in each direction."""
    axes = np.ogrid[tuple(map(slice, geometry.shape))]
    terms = (((a - (n - 1) / 2) / (half * n)) ** 2 for a, n in zip(axes, geometry.shape, strict=True))
    return sum(terms) < 1


def local_mean(volume, body, spacing):
    """The normalized Gaussian on every voxel, by SciPy."""
    sigma = [LOCAL_MEAN_FWHM_MM / FWHM_PER_SIGMA / step for step in spacing]
    weight = gaussian_filter(body.astype(float), sigma, mode="nearest")
    mean = gaussian_filter(np.where(body, volume, 0.0), sigma, mode="nearest")
    return np.where(body, mean / np.maximum(weight, 1e-9), 0.0)


@pytest.mark.parametrize("shape", [(61, 70, 83), (3, 64, 64), (1, 1, 1), (40, 9, 50)])
def test_what_is_taken_out_is_the_normalized_gaussian_of_the_body(shape):
    """Computed on blocks; beside it SciPy's on every voxel."""
    rng = np.random.default_rng(3)
    geometry = Geometry(shape, (2.0, 2.0, 2.0))
    body = ellipsoid(geometry)
    trend = np.linspace(-1, 2, shape[0], dtype=np.float32)[:, None, None]
    residual = (rng.normal(0, 1, shape) + trend).astype(np.float32)
    changed = residual.copy()
    keep_local_means(changed, body, (2.0, 2.0, 2.0))
    np.testing.assert_array_equal(changed[~body], residual[~body])
    expected = local_mean(residual, body, (2.0, 2.0, 2.0))
    np.testing.assert_allclose((residual - changed)[body], expected[body], atol=0.06 * np.ptp(trend) + 0.02)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_bias_of_the_network_does_not_reach_the_scan(spacing):
    """A tenth taken from everywhere; what is small keeps its change."""
    geometry = Geometry((60, 90, 90), spacing)
    suv = np.where(ellipsoid(geometry), 2.0, 0.0).astype(np.float32)
    suv[30, 45, 45] = 40.0

    held = Denoiser(Lowers(), 32, device="cpu").denoise(suv, geometry).residual
    plain = Denoiser(Lowers(), 32, device="cpu", keep_means=False).denoise(suv, geometry).residual
    body = body_mask(suv, spacing)
    assert plain[body].mean() < -0.1
    assert abs(held[body].mean()) < 0.06 * abs(plain[body].mean())  # blocks at the faces are cut
    middle = ellipsoid(geometry, 0.15)
    assert abs(held[middle].mean()) < 0.15 * abs(plain[middle].mean())
    assert (held - plain)[30, 45, 45] == pytest.approx(0.2, rel=0.15)
    assert held[30, 45, 45] < -0.8


def test_noise_that_is_taken_out_stays_out():
    """White noise has next to no mean over 40 mm: its removal is kept."""
    rng = np.random.default_rng(4)
    geometry = Geometry((60, 70, 80), (2.0, 2.0, 2.0))
    body = ellipsoid(geometry)
    residual = np.where(body, rng.normal(0, 1, geometry.shape), 0).astype(np.float32)
    changed = residual.copy()
    keep_local_means(changed, body, (2.0, 2.0, 2.0))
    assert np.std((changed - residual)[body]) < 0.02
