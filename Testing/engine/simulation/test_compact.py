"""`drmc simulate --compact`: images around the body, of half the bits, in the same place."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.simulation.centers import CENTERS
from drmc.simulation.cohort import COMPACT_MARGIN_MM, ScanOptions, write_case
from drmc.simulation.scan import Scan

SHAPE, SPACING, ORIGIN = (6, 40, 50), (4.0, 4.0, 2.0), (-100.0, -80.0, 30.0)


@pytest.fixture
def scan() -> Scan:
    rng = np.random.default_rng(0)
    organs = np.zeros(SHAPE, np.uint8)
    organs[1:5, 12:25, 20:31] = 7
    image = lambda: rng.gamma(1.0, 1.0, SHAPE).astype(np.float32)
    phantom = SimpleNamespace(
        activity=torch.from_numpy(image()),
        organs=torch.from_numpy(organs),
        lesions=torch.zeros(SHAPE, dtype=torch.uint8),
    )
    facts = {"weight_kg": 70.0, "tracer": "FDG"}
    return Scan(image(), {4.0: image()}, phantom, SPACING, ORIGIN, facts, {1.0: image()})  # type: ignore[arg-type]


def test_compact_images_are_those_around_the_body_to_eleven_bits(scan, tmp_path):
    for name, options in (("whole", ScanOptions()), ("compact", ScanOptions(compact=True))):
        write_case(scan, CENTERS["C1"], tmp_path / name, seed=[1, 0, 0, 1], options=options)
    names = {name: {path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "compact")}
    assert names["whole"] - names["compact"] == {"truth.nii.gz"}
    margin = round(COMPACT_MARGIN_MM / 4)
    y, x = slice(12 - margin, 25 + margin), slice(20 - margin, 31 + margin)
    for name in ("full", "low_drf004", "full_nac", "organs"):
        whole, compact = (sitk.ReadImage(str(tmp_path / k / f"{name}.nii.gz")) for k in ("whole", "compact"))
        one, two = sitk.GetArrayFromImage(whole)[:, y, x], sitk.GetArrayFromImage(compact)
        assert compact.GetOrigin() == pytest.approx(
            whole.TransformIndexToPhysicalPoint((x.start, y.start, 0))
        )
        if name == "organs":
            assert (one == two).all()
        else:
            np.testing.assert_allclose(two, one, rtol=2**-11)
            assert not (two.view(np.uint32) & 0x1FFF).any() and (one != two).any()
