"""Lesions as contours, against independent geometry and real structure sets."""

from __future__ import annotations

import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.dicom.series import read_pet_series
from drmc.imaging.geometry import Geometry
from drmc.segments import contours
from drmc.segments.reading import read_segments
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from support.engine.dicom_segmentations import (
    FRAME,
    IDENTITY,
    box,
    grid,
    in_space,
    rectangle,
    rotation,
    structure_set,
)

# ---- contours


def polygon(draw) -> np.ndarray:
    count = draw(st.integers(3, 12))
    corner = st.floats(-3.0, 15.0, allow_nan=False, width=32)
    return np.array(draw(st.lists(st.tuples(corner, corner), min_size=count, max_size=count)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_filling_agrees_with_an_independent_point_in_polygon(data):
    polygons = [polygon(data.draw) for _ in range(data.draw(st.integers(1, 3)))]
    shape = (10, 13)
    centers = np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), axis=-1).reshape(-1, 2)
    triangles = sum(even_odd(one, centers) for one in polygons)
    to_contour = np.min([distance(outline(one), centers) for one in polygons], axis=0)
    to_diagonal = np.min([distance(diagonals(one), centers) for one in polygons], axis=0)
    clear = np.minimum(to_contour, to_diagonal) > 1e-6  # on a line the rules of two programs may differ
    found = contours.fill(polygons, shape).ravel()
    assert np.array_equal(found[clear], (triangles % 2 == 1)[clear])
    assert found[to_contour < 1e-9].all()


@pytest.mark.parametrize("corners", [[(0, 1), (0, 1e-5), (1.00001, 0)], [(2, 2), (2, 2), (2, 2)]])
def test_a_center_is_on_a_contour_by_its_distance_whatever_the_slope(corners):
    """A nearly level edge passes 1e-10 pixels from a center but meets its row 1e-5 pixels away."""
    column, row = np.round(corners[-1]).astype(int)
    upright, turned = (
        contours.fill([np.array(corners, float)[:, axes]], (4, 4)) for axes in ([0, 1], [1, 0])
    )
    assert upright[row, column] and np.array_equal(turned, upright.T)


def even_odd(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Of a star of triangles every point lies in an odd number exactly where even-odd says inside."""
    count = np.zeros(len(points), dtype=int)
    for second, third in pairwise(corners[1:]):
        triangle = np.array([corners[0], second, third])
        edges = np.roll(triangle, -1, axis=0) - triangle
        if abs(edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0]) > 0:
            count += Outline(triangle).contains_points(points)
    return count


def outline(corners: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(corners, np.roll(corners, -1, axis=0), strict=True))


def diagonals(corners: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The lines of the star that `even_odd` uses; of a triangle one of its edges."""
    return [(corners[0], other) for other in corners[2:]]


def distance(edges: list[tuple[np.ndarray, np.ndarray]], points: np.ndarray) -> np.ndarray:
    """From every point to the nearest of the edges."""
    best = np.full(len(points), np.inf)
    for start, end in edges:
        length = max(float((end - start) @ (end - start)), 1e-30)
        part = np.clip((points - start) @ (end - start) / length, 0, 1)
        best = np.minimum(best, np.linalg.norm(points - start - part[:, None] * (end - start), axis=1))
    return best


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_contours_on_slices_of_any_direction_are_taken_slice_by_slice(tmp_path: Path, turn: int, axis: int):
    geometry = grid(
        (9, 10, 11), (1.3, 2.1, 3.7), (-50.0, 7.0, 900.0), rotation(turn).ravel() if turn else IDENTITY
    )
    rng = np.random.default_rng(turn)
    mask = np.zeros(geometry.shape[::-1], dtype=bool)  # axes x, y, z
    across, down = (a for a in range(3) if a != axis)
    drawn = []
    for position in (2, 3, 4, 5):
        low = rng.uniform(0.6, 3.4, 2)
        high = rng.uniform(4.6, 7.4, 2)
        corners = np.zeros((4, 3))
        corners[:, axis] = position
        corners[:, across] = np.array([low[0], high[0], high[0], low[0]])
        corners[:, down] = np.array([low[1], low[1], high[1], high[1]])
        drawn.append(in_space(geometry, corners))
        index = np.indices(mask.shape)
        mask |= (
            (index[axis] == position)
            & (index[across] > low[0])
            & (index[across] < high[0])
            & (index[down] > low[1])
            & (index[down] < high[1])
        )
    path = structure_set(tmp_path / "rt.dcm", {"Läsion 1": drawn})
    (segment,), notices = read_segments(path, geometry, FRAME)
    assert segment.name == "Läsion 1"
    assert np.array_equal(segment.mask, mask.transpose(2, 1, 0))
    assert notices == []


def test_holes_are_inner_contours_or_keyholes_and_keep_their_rim(tmp_path: Path):
    geometry = grid((5, 14, 14))
    outer, inner = rectangle((1, 12), (1, 12), 2), rectangle((4.5, 8.5), (4.5, 8.5), 2)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1], inner[-1:], outer[:1]])
    regions = {"ring": [outer, inner], "keyhole": [keyhole], "full": [outer]}
    regions = {name: [in_space(geometry, one) for one in drawn] for name, drawn in regions.items()}
    segments, _ = read_segments(structure_set(tmp_path / "rt.dcm", regions), geometry)
    full = box(geometry.shape, (2, 3), (1, 13), (1, 13))  # centers on the contour count
    ring = full & ~box(geometry.shape, (2, 3), (5, 9), (5, 9))
    assert [np.array_equal(s.mask, m) for s, m in zip(segments, (ring, ring, full), strict=True)] == [
        True
    ] * 3


def test_mirroring_the_grid_mirrors_the_mask(tmp_path: Path):
    geometry = grid((4, 12, 12))
    drawn = [rectangle((2, 7), (3, 8.2), 1), rectangle((2, 7), (3, 8.2), 2)]
    path = structure_set(tmp_path / "rt.dcm", {"a": [in_space(geometry, one) for one in drawn]})
    mirrored = grid((4, 12, 12), origin=(22.0, 22.0, 6.0), direction=(-1, 0, 0, 0, -1, 0, 0, 0, -1))
    (one,), _ = read_segments(path, geometry)
    (other,), _ = read_segments(path, mirrored)
    assert one.voxels == 72 and np.array_equal(other.mask, one.mask[::-1, ::-1, ::-1])


@pytest.mark.parametrize(
    ("planes", "slices"),
    [
        ([2.0, 4.0, 6.0], [1, 2, 3, 4, 5, 6]),  # every second slice was drawn
        ([2.5, 3.5, 4.5], [2, 3, 4]),  # halfway between the slices
        ([3.3, 3.5, 3.7, 3.9, 4.1, 4.3], [4]),  # finer than the slices
        ([3.7 + 0.03 * n for n in range(50)], [4, 5]),  # much finer
        ([2.0, 3.0, 7.0, 8.0], [2, 3, 7, 8]),  # two lesions
        ([2.0, 3.02, 3.97, 5.0], [2, 3, 4, 5]),  # irregular slices
        ([4.0], [4]),
    ],
)
def test_a_slice_takes_the_contours_of_the_nearest_plane(tmp_path: Path, planes, slices):
    geometry = grid((12, 10, 10), (2.0, 2.0, 3.0))
    drawn = [in_space(geometry, rectangle((1.5, 5.5), (2.5, 7.5), z)) for z in planes]
    (segment,), notices = read_segments(structure_set(tmp_path / "rt.dcm", {"a": drawn}), geometry)
    expected = box(geometry.shape, (0, 12), (3, 8), (2, 6))
    expected[[z for z in range(12) if z not in slices]] = False
    assert np.array_equal(segment.mask, expected)
    told = " ".join(notices)
    assert ("nearest plane" in told) is (planes[0] not in (2.0, 4.0) or planes[1:2] == [4.0])
    assert ("no contours on 3 planes" in told) is (7.0 in planes)


def test_points_open_contours_and_doubles_are_told(tmp_path: Path):
    geometry = grid((5, 10, 10))
    closed = in_space(geometry, rectangle((1.5, 4.5), (1.5, 4.5), 2))
    path = structure_set(
        tmp_path / "rt.dcm",
        {"a": [closed, closed[:1], closed[:2], closed], "empty": []},
        kind=["CLOSED_PLANAR", "POINT", "OPEN_PLANAR", "CLOSED_PLANAR"],
    )
    (segment,), notices = read_segments(path, geometry)
    assert segment.voxels == 9
    assert "'a': 2 points or open contours enclose nothing" in notices[0]
    assert "'a': 1 contours are in the file twice" in notices[1]
    assert notices[2].endswith("left out: empty")


def test_contours_that_reach_out_of_the_scan_are_cut_and_told(tmp_path: Path):
    geometry = grid((5, 10, 10))
    drawn = [in_space(geometry, rectangle((-2.5, 2.5), (1.5, 4.5), z)) for z in (2, 3)]
    beyond = [in_space(geometry, rectangle((11.5, 14.5), (1.5, 4.5), 2))]
    path = structure_set(tmp_path / "rt.dcm", {"a": drawn, "b": beyond})
    (segment,), notices = read_segments(path, geometry)
    assert np.array_equal(segment.mask, box(geometry.shape, (2, 4), (2, 5), (0, 3)))
    assert "'a': 0.10 of 0.24 ml lie outside" in notices[0]
    assert "outside the scan and left out: b" in notices[1]


# ---- real structure sets


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_the_contours_of_the_ge_scan_give_its_published_mask_voxel_for_voxel(data_folder: Path):
    folder = data_folder / "ge_wb_sts001"
    series = read_pet_series(folder / "image")
    frame = series.frame_of_reference
    (mass, edema), notices = read_segments(folder / "rtstruct", series.geometry, frame)
    (published,), _ = read_segments(folder / "GTV_Mass_fullgrid.nii.gz", series.geometry)
    assert (mass.name, edema.name) == ("GTV_Mass", "GTV_Edema")
    assert mass.voxels == 5095 and np.array_equal(mass.mask, published.mask)
    assert mass.voxels * series.geometry.voxel_ml == pytest.approx(366.08, abs=0.01)
    assert edema.voxels > mass.voxels
    assert notices == []


def test_the_contours_of_the_reference_objects_lie_inside_their_masks(data_folder: Path, tmp_path: Path):
    """They were made from a surface: a ring of one voxel and both end slices of the mask are not in them."""
    with tarfile.open(data_folder / "ibsi_suv_dro" / "IBSI_SUV_DRO_v1.1.tar.xz") as archive:
        for name in ("RS/RS_dro_0_0.dcm", "mask/DRO_mask.nii.gz"):
            (tmp_path / Path(name).name).write_bytes(archive.extractfile(f"DRO/DRO_0_0/{name}").read())
    geometry = Geometry.from_image(sitk.ReadImage(str(tmp_path / "DRO_mask.nii.gz")))
    (region,), notices = read_segments(tmp_path / "RS_dro_0_0.dcm", geometry)
    (mask,), _ = read_segments(tmp_path / "DRO_mask.nii.gz", geometry)
    drawn = region.mask.any(axis=(1, 2))
    assert notices == [] and np.flatnonzero(drawn).tolist() == list(range(2, 18))
    assert not (region.mask & ~mask.mask).any()
    assert dice(region.mask[drawn], mask.mask[drawn]) > 0.98
