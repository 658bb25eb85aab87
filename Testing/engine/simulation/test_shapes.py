"""Primitives and random fields: their volumes, edges and statistics are those of geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drmc.simulation.shapes import (
    Canvas,
    Capsule,
    Common,
    LatticeField,
    Shell,
    Slab,
    Superellipsoid,
    Union,
    rotation,
    tube,
    volume_ml,
)

# ---- random fields and primitives


@pytest.mark.parametrize(
    ("spacing", "band", "size"),
    [(9.0, None, 220.0), (26.0, None, 600.0), (60.0, None, 900.0), (4.25, 17.0, 130.0)],
)
def test_lattice_fields_have_unit_variance(spacing, band, size):
    generator = torch.Generator().manual_seed(11)
    axis = torch.arange(0, size, 0.61 * spacing)
    fields = [
        LatticeField(generator, (0, 0, 0), (size,) * 3, spacing, band).sample(axis, axis, axis)
        for _ in range(3)
    ]
    values = torch.stack(fields)
    assert float(values.var()) == pytest.approx(1, abs=0.1)
    assert float(values.mean()) == pytest.approx(0, abs=0.1)
    assert not torch.allclose(fields[0], fields[1])


def test_lattice_fields_do_not_depend_on_the_grid():
    make = lambda: LatticeField(torch.Generator().manual_seed(5), (-60, -50, -40), (60, 50, 40), 9.0)
    fine = torch.arange(-30.0, 30.5, 1.0)
    whole = make().sample(fine, fine, fine)
    some = make().sample(fine[7:40:3], fine[5:50:5], fine[::6])
    assert torch.allclose(some, whole[7:40:3, 5:50:5, ::6], atol=1e-5)
    assert float((whole[1:] - whole[:-1]).std()) < 0.25  # smooth at 1 mm for a lattice of 9 mm


def test_a_band_field_varies_at_its_wavelength():
    field = LatticeField(torch.Generator().manual_seed(5), (0, 0, 0), (200,) * 3, 4.25, 17.0)
    axis = torch.arange(0, 200.0, 2.0)
    power = torch.fft.fftn(field.sample(axis, axis, axis)).abs() ** 2
    k = torch.fft.fftfreq(len(axis), d=2.0)
    radius = (k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None] ** 2).sqrt()
    assert 1 / float((power * radius).sum() / power.sum()) == pytest.approx(17.0, rel=0.15)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 2.0, 3.0)])
def test_painted_volumes_are_those_of_geometry(spacing):
    shape = tuple(int(120 / s) for s in spacing)
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True))

    def volume(primitives) -> tuple[float, float]:
        canvas = Canvas(shape, spacing, origin)
        canvas.paint(primitives, 2.0, 0.01, 9)
        assert float(canvas.activity.max()) == pytest.approx(2) and float(canvas.mu.max()) == pytest.approx(
            0.01
        )
        assert set(canvas.label.unique().tolist()) == {0, 9}
        voxel = math.prod(spacing)
        return float(canvas.activity.sum()) / 2 * voxel, float((canvas.label == 9).sum()) * voxel

    turned = Superellipsoid((3, -2, 5), (40, 22, 30), 2, rotation(20, 35, 50))
    capsule = tube([(-20, 0, -15), (20, 10, 15)], 12)
    half = Superellipsoid((0, 0, 0), (30, 30, 30), 2, cuts=[((0, 0, 1), 0.0)])
    shell = Superellipsoid((0, 0, 0), (30, 30, 30), 2, inner=(20, 20, 20))
    length = math.dist((-20, 0, -15), (20, 10, 15))
    ball = 4 / 3 * math.pi
    expected = (
        (turned, ball * 40 * 22 * 30),
        (capsule, math.pi * 12**2 * length + ball * 12**3),
        (half, ball * 30**3 / 2),
        (shell, ball * (30**3 - 20**3)),
    )
    for primitive, exact in expected:
        for painted in volume(primitive):
            assert painted == pytest.approx(exact, rel=0.04)


def test_signed_distances_and_bounds():
    at = lambda primitive, *p: float(primitive.distance(*(torch.tensor(float(v)) for v in p)))
    ball = Superellipsoid((1, 2, 3), (10, 10, 10))
    assert at(ball, 1, 2, 18) == pytest.approx(5, abs=1e-4) and at(ball, 5, 2, 3) == pytest.approx(
        -6, abs=1e-4
    )
    cone = Capsule(np.array([0.0, 0, 0]), np.array([0.0, 0, 20]), 4.0, 4.0)
    assert at(cone, 7, 0, 10) == pytest.approx(3, abs=1e-4) and at(cone, 0, 0, 26) == pytest.approx(
        2, abs=1e-4
    )
    # a turn about z by 90 degrees takes the long axis from x to y
    turned = Superellipsoid((0, 0, 0), (30, 10, 10), 2, rotation(0, 0, 90))
    assert at(turned, 0, 25, 0) < 0 < at(turned, 25, 0, 0)
    lower, upper = turned.bounds()
    assert np.allclose(upper, (10, 30, 10), atol=1e-4) and np.allclose(lower, -upper)


def test_an_edge_is_as_wide_as_the_voxel_is_along_its_normal():
    """Anisotropic voxels: 6 mm axially, 2 mm in plane; and in between for a slanted face."""
    spacing = (6.0, 2.0, 2.0)
    for angle in (0.0, 35.0, 90.0):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        canvas = Canvas((21, 61, 61), spacing, (-60.0, -60.0, -60.0))
        half = Superellipsoid((0, 0, 0), (400, 400, 400), 2, cuts=[((s, 0, c), 0.0)])
        _, share = canvas.coverage(half)
        z, _, x = torch.meshgrid(canvas.z, canvas.y, canvas.x, indexing="ij")
        depth = (s * x + c * z)[4:-4, 20:-20, 8:-8]
        share = share[4:-4, 20:-20, 8:-8]
        width = math.hypot(s * 2.0, c * 6.0)
        inner = depth.abs() < 0.45 * width
        assert inner.sum() > 100
        assert torch.allclose(share[inner], 0.5 - depth[inner] / width, atol=0.02), angle
        assert bool((share[depth > 0.6 * width] == 0).all()) and bool(
            (share[depth < -0.6 * width] == 1).all()
        )


def test_common_union_slab_and_shell_have_the_volumes_of_geometry():
    ball = lambda x, r=30.0: Superellipsoid((x, 0, 0), (r, r, r))
    full = 4 / 3 * math.pi * 27.0
    lens = math.pi * (4 * 30 + 40) * (2 * 30 - 40) ** 2 / 12 / 1000  # two balls of 30 mm, 40 mm apart
    assert volume_ml(ball(0), 2.0) == pytest.approx(full, rel=0.01)
    assert volume_ml(Common(ball(0), ball(40)), 1.5) == pytest.approx(lens, rel=0.03)
    assert volume_ml(Union([ball(0), [ball(40)]]), 2.0) == pytest.approx(2 * full - lens, rel=0.01)
    disk = math.pi * (30**2 - 5**2 / 3) * 10 / 1000
    assert volume_ml(Common(ball(0), Slab((0, 0, 0), (0, 3, 0), 10)), 1.0) == pytest.approx(disk, rel=0.03)
    skin = 4 / 3 * math.pi * (32**3 - 28**3) / 1000
    assert volume_ml(Shell(ball(0), 4.0), 1.0) == pytest.approx(skin, rel=0.03)


def test_paint_keeps_to_the_labels_that_it_may_cover():
    canvas = Canvas((20, 20, 20), (2.0,) * 3, (0.0,) * 3)
    canvas.paint(Superellipsoid((10, 19, 19), (9, 30, 30), 8), 1.0, 0.01, 5)
    only = torch.zeros(256, dtype=torch.bool)
    only[5] = True
    canvas.paint(Superellipsoid((19, 19, 19), (12, 12, 12)), 3.0, 0.02, 9, only)
    assert {0, 5, 9} == set(canvas.label.unique().tolist())
    assert bool((canvas.x.expand(20, 20, 20)[canvas.label == 9] < 20).all())
    before = canvas.label.clone()
    canvas.paint(Superellipsoid((10, 19, 19), (6, 6, 6)), 7.0, 0.02, None)
    assert torch.equal(canvas.label, before) and float(canvas.activity.max()) == pytest.approx(7.0)
