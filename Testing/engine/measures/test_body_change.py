"""The change of a scan by denoising: in the body, and in the liver where a segment is the liver."""

from __future__ import annotations

import numpy as np
import pytest
from drmc.imaging.geometry import Geometry
from drmc.measures.body_change import body_change
from drmc.segments.segment import Segment


def test_noise_in_the_liver_falls_by_what_the_noise_there_falls():
    """White noise of known standard deviations: 0.4 and 0.2 in the liver, 0.4 and 0.3 elsewhere."""
    rng = np.random.default_rng(5)
    shape = (24, 40, 40)
    noise = rng.normal(0, 1, (2, *shape))
    inLiver = np.zeros(shape, bool)
    inLiver[4:20, 8:32, 8:32] = True
    original = (4.0 + 0.4 * noise[0]).astype(np.float32)
    denoised = (4.0 + np.where(inLiver, 0.2, 0.3) * noise[1]).astype(np.float32)
    geometry = Geometry(shape, spacing=(2.0, 2.0, 2.0))
    found = body_change(original, denoised, geometry, Segment("Liver", inLiver))
    assert found["liver"]["segment"] == "Liver"
    assert found["liver"]["noise_original"] == pytest.approx(0.4, rel=0.05)
    assert found["liver"]["noise_reduction_percent"] == pytest.approx(50.0, abs=4.0)
    assert "liver" not in body_change(original, denoised, geometry)
    assert found["noise_reduction_percent"] == pytest.approx(33.0, abs=6.0)
