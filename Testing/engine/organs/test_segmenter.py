"""Labels of a scan: what they must not depend on, order in them, and the way back to the scan's grid."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.errors import CanceledError
from drmc.imaging.geometry import Geometry
from drmc.networks.organ_unet import OrganUNet, OrganUNetConfig, gather, spread
from drmc.organs.cleaning import cleaned
from drmc.organs.inputs import PATCH_PLANE, frame_of
from drmc.organs.scores import body_scores, slab_starts
from drmc.organs.segmenter import Segmenter, _on_scan, largest
from drmc.organs.table import by_name
from support.engine.small_organs import BODY, TINY_UNET, body

LIVER, RIGHT_LUNG, LEFT_LUNG = (by_name()[key].index for key in ("liver", "lung_right", "lung_left"))


@pytest.fixture(scope="module")
def network() -> OrganUNet:
    torch.manual_seed(4)
    found = OrganUNet(TINY_UNET)
    with torch.no_grad():
        found.tail.weight.mul_(4)  # many classes win somewhere
    return found.eval()


@pytest.fixture(scope="module")
def scan() -> tuple[np.ndarray, Geometry]:
    noise = np.random.default_rng(5).normal(0, 0.05, BODY)
    image = body(np.random.default_rng(0))[1]
    return (image * (1 + noise)).astype(np.float32), Geometry(BODY, (4.0,) * 3, (-50.0, 20.0, 700.0))


@pytest.fixture(scope="module")
def labels(network, scan) -> np.ndarray:
    found = Segmenter(network, 16, device="cpu").segment(*scan).labels
    assert len(np.unique(found)) > 4  # else the tests below show nothing
    return found


@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e5])
def test_the_unit_of_a_scan_does_not_matter(network, scan, labels, factor):
    image, geometry = scan
    found = Segmenter(network, 16, device="cpu").segment(image * np.float32(factor), geometry).labels
    assert (found == labels).mean() > 0.999


@pytest.mark.parametrize("code", ["RAS", "LPI", "PSR", "ILA"])
def test_the_order_of_the_axes_does_not_matter(network, scan, labels, code):
    image, geometry = scan
    turned = sitk.DICOMOrient(geometry.to_image(image), code)
    array, other = sitk.GetArrayFromImage(turned), Geometry.from_image(turned)
    found = Segmenter(network, 16, device="cpu").segment(array, other).labels
    assert found.shape == array.shape
    back = sitk.DICOMOrient(other.to_image(found), "LPS")
    assert Geometry.from_image(back).matches(geometry)
    assert (sitk.GetArrayFromImage(back) == labels).mean() > 0.999


def test_a_mirrored_scan_is_not_labeled_as_its_mirror_image(network, scan, labels):
    image, geometry = scan
    found = Segmenter(network, 16, device="cpu").segment(image[:, :, ::-1].copy(), geometry).labels
    assert (found[:, :, ::-1] != labels).mean() > 0.01  # a network that cannot tell sides would agree


def test_finer_voxels_give_labels_on_the_scans_own_grid(network, scan):
    image, geometry = scan
    fine = np.repeat(np.repeat(np.repeat(image, 2, 0), 2, 1), 2, 2)
    own = Geometry(fine.shape, (2.0,) * 3, tuple(o - 1 for o in geometry.origin))
    found = Segmenter(network, 16, device="cpu").segment(fine, own).labels
    coarse = Segmenter(network, 16, device="cpu").segment(image, geometry).labels
    assert found.shape == fine.shape
    even = np.ones(coarse.shape, bool)  # where all neighbors have the same label
    for axis in range(3):
        for step in (-1, 1):
            even &= np.roll(coarse, step, axis) == coarse
    wide = lambda volume: np.repeat(np.repeat(np.repeat(volume, 2, 0), 2, 1), 2, 2)
    assert even.sum() > 1000 and (wide(coarse) == found)[wide(even)].mean() > 0.9


def test_the_way_back_is_linear_interpolation_of_each_class():
    """On the own grid the labels are those of the largest score; halfway between, of the larger mean."""
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(3, 5, 6, 7)).astype(np.float32)
    labels = scores.argmax(0).astype(np.uint8)
    part = Geometry((5, 6, 7), (4.0,) * 3, (8.0, 4.0, 0.0))
    same = _on_scan(scores, labels, part, part, None)
    assert (same == labels).all()
    wide = Geometry((7, 10, 13), (4.0,) * 3, (0.0, 0.0, -4.0))
    found = _on_scan(scores, labels, part, wide, None)
    assert (found[1:6, 1:7, 2:9] == labels).all() and found.sum() == labels.sum()
    fine = Geometry((5, 6, 13), (2.0, 4.0, 4.0), (8.0, 4.0, 0.0))
    halfway = _on_scan(scores, labels, part, fine, None)
    assert (halfway[:, :, ::2] == labels).all()
    means = (scores[..., 1:] + scores[..., :-1]) / 2
    assert (halfway[:, :, 1::2] == means.argmax(0)).mean() > 0.95  # a class far from its voxels is not seen


def test_an_empty_scan_one_slice_and_a_tiny_one_have_labels(network):
    segmenter = Segmenter(network, 16, device="cpu")
    empty = segmenter.segment(np.zeros((6, 7, 8), np.float32), Geometry((6, 7, 8), (4.0,) * 3))
    assert not empty.labels.any() and "no body" in empty.notices[-1]
    image = body(np.random.default_rng(0))[1]
    one = segmenter.segment(image[22:23], Geometry((1, 24, 32), (4.0, 4.0, 3.0)))
    assert one.labels.shape == (1, 24, 32)
    assert segmenter.segment(np.ones((2, 2, 2), np.float32), Geometry((2, 2, 2))).labels.shape == (2, 2, 2)


def test_a_cancel_ends_it(network, scan):
    asked = []

    def cancel() -> bool:
        asked.append(True)
        return len(asked) > 2

    with pytest.raises(CanceledError):
        Segmenter(network, 16, device="cpu").segment(*scan, cancel=cancel)


@pytest.mark.parametrize(("slices", "length"), [(5, 16), (16, 16), (17, 16), (40, 16), (250, 96), (97, 96)])
def test_slabs_cover_a_scan_and_overlap(slices, length):
    starts = slab_starts(slices, length)
    assert starts[0] == 0 and starts[-1] == max(0, slices - length)
    overlap = [a + length - b for a, b in pairwise(starts)]
    assert all(width >= 2 * min(16, length // 4) for width in overlap)


def test_slabs_are_blended_to_the_scores_of_a_network_that_sees_single_voxels(scan):
    """Without instance statistics a slab's scores depend on its voxels alone: blending changes nothing."""
    image, _ = scan
    frame = frame_of(image)

    class PerVoxel(torch.nn.Module):
        config = replace(TINY_UNET, classes=3)
        head = torch.nn.Conv3d(1, 1, 1)

        def forward(self, x_BCDHW, dtype=None):
            return [torch.cat([x_BCDHW[:, :1], 1 - x_BCDHW[:, :1], x_BCDHW[:, 2:3]], 1)]

    whole, region = body_scores(PerVoxel(), image, frame, 64)
    slabs, _ = body_scores(PerVoxel(), image, frame, 16)
    np.testing.assert_allclose(slabs, whole, atol=1e-5)
    np.testing.assert_allclose(whole[0], np.arcsinh(2 * image[region] / frame.mean), atol=1e-5)


class Seeing(torch.nn.Module):
    """Keeps what it is shown."""

    config = replace(TINY_UNET, classes=3)

    def __init__(self):
        super().__init__()
        self.head, self.seen = torch.nn.Conv3d(1, 1, 1), []

    def forward(self, x_BCDHW, dtype=None):
        self.seen.append(x_BCDHW[0])
        return [x_BCDHW[:, :3]]


@pytest.mark.parametrize("slices", [40, 10])
def test_the_network_sees_as_much_air_around_a_small_body_as_in_training(scan, slices):
    """Its normalization is over all that it sees, which training has never cut closely around a body."""
    image = scan[0][:slices]
    network = Seeing()
    scores, region = body_scores(network, image, frame_of(image), 32)
    assert scores.shape[1:] == image[region].shape
    assert all(tuple(seen.shape[1:]) == (32, *PATCH_PLANE) for seen in network.seen)
    np.testing.assert_allclose(scores[0], np.arcsinh(2 * image[region] / frame_of(image).mean), atol=1e-5)


def test_the_network_is_told_places_in_the_air_around_a_scan_as_in_training(scan):
    image, network = scan[0][:22, :22], Seeing()
    frame = frame_of(image)
    _, region = body_scores(network, image, frame, 32)
    (told,) = network.seen
    for channel, axis, zero in ((2, 2, frame.middle), (3, 1, frame.back)):
        places = (torch.arange(told.shape[1 + axis]) + region[axis].start - zero) * (4 / 200)
        wanted = places if axis == 2 else places[:, None]
        torch.testing.assert_close(told[channel], wanted.expand(told.shape[1:]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("halo", "width", "core"), [(0.02, 8, 0.6), (0.7, 6, 0.3)])
def test_the_frame_of_a_scan_does_not_depend_on_the_air_around_it(halo, width, core):
    """Scans of a training are cropped to the body, others are not; uncorrected ones have a halo."""
    z, y, x = np.ogrid[:20, :140, :140]
    radius = np.hypot((y - 70) / 28, (x - 66) / 42) + 0 * z
    rng = np.random.default_rng(7)
    image = np.where(radius < 1, core + (1 - core) * radius**2, halo * np.exp(-28 * (radius - 1) / width))
    image = ((image + 0.02) * rng.gamma(20, 1 / 20, image.shape)).astype(np.float32)
    top, left = 70 - 28 - 4, 66 - 42 - 4
    cropped = image[:, top : 70 + 28 + 5, left : 66 + 42 + 5]
    whole, part = frame_of(image), frame_of(cropped)
    assert part.mean == pytest.approx(whole.mean, rel=0.02)
    assert part.middle + left == pytest.approx(whole.middle, abs=0.5)
    assert part.back + top == pytest.approx(whole.back, abs=1)


def test_cubes_of_voxels_and_channels_are_inverse():
    x = torch.rand(2, 3, 4, 6, 8)
    assert torch.equal(spread(gather(x, 2), 2), x)
    assert torch.equal(gather(x, 2)[:, :8].unflatten(1, (2, 2, 2))[:, 1, 0, 1], x[:, 0, 1::2, ::2, 1::2])


def test_scores_of_a_few_slices_at_a_time_are_those_of_all(network):
    x = torch.rand(1, 4, 40, 16, 24)  # more slices than are scored at a time
    with torch.no_grad():
        parts = network(x)[0]
    torch.testing.assert_close(parts, network(x)[0].detach(), rtol=1e-5, atol=1e-6)


def test_the_largest_score_wins_and_the_first_of_equal_ones():
    scores = np.random.default_rng(1).integers(0, 4, (5, 6, 7, 8)).astype(np.float32)
    assert (largest(scores) == scores.argmax(0)).all()


def test_the_network_gives_coarser_scores_in_training_only():
    network = OrganUNet(OrganUNetConfig(widths=(4, 6, 8), units=(1, 1, 1), classes=5))
    x = torch.rand(1, 4, 16, 16, 24)
    fine, coarse = network.train()(x)
    assert fine.shape == (1, 5, 16, 16, 24) and coarse.shape == (1, 5, 4, 4, 6)
    assert len(network.eval()(x)) == 1
    with pytest.raises(ValueError, match="multiples of 8"):
        network(torch.rand(1, 4, 12, 16, 24))


# ---- order in the labels


def test_stray_parts_wrong_sides_traces_and_holes_are_put_in_order():
    labels = np.zeros((40, 40, 60), np.uint8)
    labels[5:25, 5:25, 5:25] = LIVER
    labels[12:15, 12:15, 12:15] = 0  # enclosed
    labels[30:33, 30:33, 30:33] = LIVER  # far away
    labels[28:38, 5:20, 5:20] = RIGHT_LUNG
    labels[28:38, 5:20, 40:55] = LEFT_LUNG
    labels[30:36, 8:16, 50:58] = RIGHT_LUNG  # on the left
    labels[2:4, 30:32, 2:4] = by_name()["spleen"].index  # half a milliliter
    found, changes = cleaned(labels, middle=30.0)
    wanted = np.zeros_like(labels)
    wanted[5:25, 5:25, 5:25] = LIVER
    wanted[28:38, 5:20, 5:20] = RIGHT_LUNG
    wanted[28:38, 5:20, 40:55] = LEFT_LUNG
    wanted[30:36, 8:16, 50:58] = LEFT_LUNG
    assert (found == wanted).all()
    assert changes.parts == {"liver": pytest.approx(27 * 0.064)}
    assert changes.sides == {"right lung": pytest.approx(384 * 0.064)}
    assert changes.traces == {"spleen": pytest.approx(8 * 0.064)}
    assert changes.holes == {"liver": pytest.approx(27 * 0.064)}


def test_an_organ_that_crosses_the_middle_keeps_its_side():
    labels = np.zeros((20, 20, 60), np.uint8)
    labels[5:15, 5:15, 25:45] = RIGHT_LUNG  # three quarters of it beyond
    assert (cleaned(labels, middle=30.0)[0] == labels).all()
