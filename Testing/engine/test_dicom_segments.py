"""Lesions in DICOM: what an independent writer's SEG gives back, contours against independent geometry and
real structure sets, and what is refused."""

from __future__ import annotations

import json
import tarfile
from itertools import pairwise
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drmc.cli import main as cli
from drmc.denoising import finding
from drmc.dicom.series import read_pet_series
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.models.weights import save_model
from drmc.segments import contours
from drmc.segments.reading import read_segments
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pack_bits
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid
from synthetic_dicom import SECRETS, write_series
from test_pipeline import tiny_network

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
STRUCTURE_SET_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
FRAME = "1.2.3.4"


def grid(shape_zyx, spacing_xyz=(2.0, 2.0, 2.0), origin=(0.0, 0.0, 0.0), direction=IDENTITY) -> Geometry:
    return Geometry(tuple(shape_zyx), tuple(spacing_xyz), tuple(origin), tuple(direction))


def rotation(seed: int) -> np.ndarray:
    """A random rotation."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


ORIENTATIONS = {
    "axial": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "upside down": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "oblique": tuple(np.round(rotation(1)[:, :2].T.ravel(), 9)),
    "another oblique": tuple(np.round(rotation(5)[:, :2].T.ravel(), 9)),
}


# ---- segmentation objects


@pytest.fixture(scope="module", params=list(ORIENTATIONS))
def scan(request, tmp_path_factory) -> tuple[list[Dataset], Geometry]:
    """The files of a small PET series, and its grid by the project's reader."""
    return make_scan(tmp_path_factory.mktemp("pet"), ORIENTATIONS[request.param])


def make_scan(
    folder: Path, orientation=ORIENTATIONS["axial"], rows: int = 7, columns: int = 9
) -> tuple[list[Dataset], Geometry]:
    files = write_series(
        folder, slices=6, rows=rows, columns=columns, orientation=orientation, FrameOfReferenceUID=FRAME
    )
    sources = [pydicom.dcmread(file) for file in files]
    for one in sources:
        for keyword in ("StudyID", "StudyDate", "StudyTime", "PatientSex", "ReferringPhysicianName"):
            setattr(one, keyword, "")
    return sources, read_pet_series(folder).geometry


def segmentation(sources: list[Dataset], masks: np.ndarray, kind: str = "BINARY", **options) -> Dataset:
    """`masks` (segment, z, y, x) as highdicom writes them; the segments are called lesion 1, 2, ..."""
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="test", version="1", family=codes.cid7162.ArtificialIntelligence
    )
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"lesion {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number in range(1, len(masks) + 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=masks if masks.ndim == 3 else np.moveaxis(masks, 0, -1),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def in_another_order(ds: Dataset, seed: int) -> Dataset:
    """The same object with its frames shuffled."""
    pixels = ds.pixel_array.reshape(int(ds.NumberOfFrames), int(ds.Rows), int(ds.Columns))
    order = np.random.default_rng(seed).permutation(len(pixels))
    frames = list(ds.PerFrameFunctionalGroupsSequence)
    ds.PerFrameFunctionalGroupsSequence = [frames[i] for i in order]
    shuffled = pixels[order]
    ds.PixelData = pack_bits(shuffled.ravel()) if ds.BitsAllocated == 1 else shuffled.tobytes()
    return ds


def random_masks(seed: int, segments: int, shape=(6, 7, 9)) -> np.ndarray:
    """Overlapping masks (segment, z, y, x), none empty, some slices empty."""
    rng = np.random.default_rng(seed)
    masks = rng.random((segments, *shape)) < rng.choice([0.05, 0.4])
    masks &= rng.random((segments, shape[0], 1, 1)) < 0.6
    for mask in masks:
        mask[tuple(rng.integers(0, n) for n in shape)] = True
    return masks.astype(np.uint8)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.booleans(), st.booleans())
def test_a_binary_segmentation_comes_back_as_it_was_drawn(scan, tmp_path_factory, seed, count, dense, order):
    sources, geometry = scan
    masks = random_masks(seed, count)
    ds = segmentation(sources, masks, omit_empty_frames=not dense)
    if order:
        ds = in_another_order(ds, seed)
    path = tmp_path_factory.mktemp("seg") / "lesions.dcm"
    ds.save_as(path)
    segments, notices = read_segments(path, geometry, FRAME)
    assert [segment.name for segment in segments] == [f"lesion {n + 1}" for n in range(count)]
    for segment, mask in zip(segments, masks, strict=True):
        assert np.array_equal(segment.mask, mask.astype(bool))
    assert notices == []


def test_a_compressed_segmentation_is_read_too(scan, tmp_path: Path):
    sources, geometry = scan
    masks = random_masks(3, 2)
    ds = segmentation(sources, masks.astype(float), "FRACTIONAL", transfer_syntax_uid=RLELossless)
    ds.save_as(tmp_path / "rle.dcm")
    segments, _ = read_segments(tmp_path / "rle.dcm", geometry)
    assert [np.array_equal(s.mask, m.astype(bool)) for s, m in zip(segments, masks, strict=True)] == [
        True
    ] * 2


@pytest.mark.parametrize("highest", [255, 100, 3])
def test_half_of_the_largest_fraction_counts(tmp_path: Path, highest: int):
    sources, geometry = make_scan(tmp_path / "pet")
    fractions = np.random.default_rng(2).random((1, 6, 7, 9))
    ds = segmentation(sources, fractions, "FRACTIONAL", max_fractional_value=highest)
    ds.save_as(tmp_path / "fractions.dcm")
    stored = np.round(fractions[0] * highest)
    ((segment,), (notice,)) = read_segments(tmp_path / "fractions.dcm", geometry)
    assert np.array_equal(segment.mask, stored / highest >= 0.5)
    assert "FRACTIONAL" in notice and f"(0062,000E) {highest} count" in notice


def test_a_label_map_object_is_read_too(scan, tmp_path: Path):
    sources, geometry = scan
    labels = np.random.default_rng(4).integers(0, 4, (6, 7, 9)).astype(np.uint8)
    template = random_masks(0, 3)
    ds = segmentation(sources, template, "BINARY")
    ds = label_map(sources, labels, ds)
    ds.save_as(tmp_path / "labels.dcm")
    segments, notices = read_segments(tmp_path / "labels.dcm", geometry)
    assert [segment.name for segment in segments] == ["lesion 1", "lesion 2", "lesion 3"]
    assert all(np.array_equal(segment.mask, labels == n + 1) for n, segment in enumerate(segments))
    assert notices == []


def label_map(sources: list[Dataset], labels: np.ndarray, like: Dataset) -> Dataset:
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=labels,
        segmentation_type="LABELMAP",
        segment_descriptions=list(like.SegmentSequence),
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )


def test_a_segmentation_of_the_ct_is_resampled_and_says_so(tmp_path: Path):
    sources, geometry = make_scan(tmp_path / "ct")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, 1:5, 2:6, 2:7] = 1
    segmentation(sources, mask).save_as(tmp_path / "ct.dcm")
    coarse = Geometry(
        (3, 4, 5), tuple(2.0 * s for s in geometry.spacing), geometry.origin, geometry.direction
    )
    (segment,), (notice,) = read_segments(tmp_path / "ct.dcm", coarse)
    assert np.array_equal(segment.mask, mask[0, ::2, ::2, ::2].astype(bool))
    assert "nearest neighbor" in notice and "lesion 1 4.80 -> 5.76 ml" in notice


@pytest.mark.parametrize("stated", [None, 3.0, 4.5, 100.0])
@pytest.mark.parametrize("slices", [(1, 2, 5), (3, 4)])
def test_the_positions_of_the_frames_overrule_a_wrong_spacing(tmp_path: Path, stated, slices):
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, slices, 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SliceThickness = 3.0
    measures.SpacingBetweenSlices = stated
    ds.save_as(tmp_path / "seg.dcm")
    (segment,), notices = read_segments(tmp_path / "seg.dcm", geometry)
    assert np.array_equal(segment.mask, mask[0].astype(bool)) and notices == []


def test_one_slice_has_the_spacing_that_is_stated_or_its_thickness(tmp_path: Path):
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, 2, 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    ds.save_as(tmp_path / "seg.dcm")
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    ds.save_as(tmp_path / "thickness.dcm")
    for name in ("seg.dcm", "thickness.dcm"):
        (segment,), notices = read_segments(tmp_path / name, geometry)
        assert np.array_equal(segment.mask, mask[0].astype(bool)) and notices == []


def test_a_segment_without_voxels_is_told(tmp_path: Path):
    sources, geometry = make_scan(tmp_path / "pet")
    masks = random_masks(1, 2)
    masks[1] = 0
    segmentation(sources, masks).save_as(tmp_path / "seg.dcm")
    segments, (notice,) = read_segments(tmp_path / "seg.dcm", geometry)
    assert [segment.name for segment in segments] == ["lesion 1"]
    assert "empty in seg.dcm and left out: lesion 2" in notice


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
    """A nearly level edge passes 1e-10 pixels from a center, but meets its row 1e-5 pixels beside it; a point is an edge."""
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


def structure_set(
    path: Path, regions: dict[str, list], kind: str | list[str] = "CLOSED_PLANAR", frame: str = FRAME
) -> Path:
    """An RT Structure Set; `regions`: by name the contours, each (points, 3) in mm, LPS."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = STRUCTURE_SET_CLASS
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = SECRETS[:2]
    ds.Modality = "RTSTRUCT"
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, drawn) in enumerate(regions.items(), start=1):
        region, item = Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = number, name, frame
        item.ReferencedROINumber, item.ContourSequence = number, []
        for index, points in enumerate(drawn):
            contour = Dataset()
            contour.ContourGeometricType = kind if isinstance(kind, str) else kind[index]
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.6f}"[:16] for value in np.ravel(points)]
            item.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(region)
        ds.ROIContourSequence.append(item)
    ds.save_as(path, enforce_file_format=True)
    return path


def in_space(geometry: Geometry, index: np.ndarray) -> np.ndarray:
    """Voxel indices (points, 3) as (x, y, z) in mm."""
    matrix = np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing)
    return np.asarray(geometry.origin) + np.asarray(index, dtype=float) @ matrix.T


def rectangle(x: tuple[float, float], y: tuple[float, float], z: float) -> np.ndarray:
    return np.array([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)])


def box(shape, z: tuple[int, int], y: tuple[int, int], x: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[z[0] : z[1], y[0] : y[1], x[0] : x[1]] = True
    return mask


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


# ---- refusals


def damaged(change):
    """Writes a segmentation object after `change`."""

    def make(folder: Path) -> Path:
        sources, _ = make_scan(folder / "pet")
        ds = segmentation(sources, random_masks(1, 2))
        change(ds)
        path = folder / "lesions.dcm"
        ds.save_as(path)
        return path

    return make


def drawn_as(regions, **options):
    return lambda folder: structure_set(folder / "lesions.dcm", regions, **options)


def no_frames(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence
    ds.NumberOfFrames = 0


def turn_one_frame(ds: Dataset) -> None:
    for index, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        plane = Dataset()
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if index else [0, 1, 0, 0, 0, -1]
        frame.PlaneOrientationSequence = [plane]


def shift_one_frame(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[0] += 1.0


def pet_slice(folder: Path) -> Path:
    return write_series(folder / "pet")[0]


def two_objects(folder: Path) -> Path:
    for name in ("a.dcm", "b.dcm"):
        structure_set(folder / name, {"a": [SQUARE]})
    return folder


def no_object(folder: Path) -> Path:
    return pet_slice(folder).parent


SQUARE = rectangle((0.0, 10.0), (-10.0, 10.0), 33.0)
REFUSALS = {
    "no DICOM SEG or RTSTRUCT": no_object,
    "contains 2 DICOM SEG or RTSTRUCT": two_objects,
    "has PT .Modality": pet_slice,
    "no segments": damaged(lambda ds: delattr(ds, "SegmentSequence")),
    "no frames": damaged(no_frames),
    "SegmentationType": damaged(lambda ds: setattr(ds, "SegmentationType", "OTHER")),
    "differs between frames": damaged(turn_one_frame),
    "shifted against each other": damaged(shift_one_frame),
    "cannot be decoded": damaged(lambda ds: setattr(ds, "PixelData", ds.PixelData[:20])),
    "no closed contours": drawn_as({"a": [SQUARE[:1]], "b": []}, kind="POINT"),
    "not parallel": drawn_as({"a": [SQUARE + np.outer([0, 1, 1, 0], [0, 0, 5])]}),
    "does not overlap": drawn_as({"a": [SQUARE + 100.0]}),
    "far beyond the scan": drawn_as({"a": [SQUARE * [1e5, 1e5, 1.0]]}),
    "no voxel center": drawn_as({"a": [SQUARE * [0.1, 0.1, 1.0] + [1.5, 2, 0]]}),
    "another FrameOfReferenceUID .3006,0024": drawn_as({"a": [SQUARE]}, frame="1.2.3.5"),
    "another FrameOfReferenceUID .0020,0052": damaged(
        lambda ds: setattr(ds, "FrameOfReferenceUID", "1.2.3.5")
    ),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_bad_input_is_refused_in_one_line_that_names_the_file(tmp_path: Path, message: str):
    _, geometry = make_scan(tmp_path / "scan")
    path = REFUSALS[message](tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        read_segments(path, geometry, FRAME)
    text = str(refusal.value)
    assert "\n" not in text and path.name in text
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("kind", ["structure set", "segmentation"])
def test_a_truncated_object_is_refused_wherever_it_ends(tmp_path: Path, kind: str):
    sources, geometry = make_scan(tmp_path / "scan")
    path = tmp_path / "lesions.dcm"
    if kind == "segmentation":
        segmentation(sources, random_masks(2, 3)).save_as(path)
    else:
        structure_set(path, {name: [SQUARE, SQUARE + np.array([0.0, 0.0, 3.0])] for name in "abc"})
    whole = path.read_bytes()
    read_segments(path, geometry, FRAME)
    for size in sorted({int(part * len(whole)) for part in np.linspace(0.0, 0.99, 25)} | {len(whole) - 2}):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"lesions\.dcm"):
            read_segments(path, geometry, FRAME)


# ---- the command line


def test_the_command_measures_dicom_lesions(tmp_path: Path, capsys):
    sources, geometry = make_scan(tmp_path / "scan")
    mask = box(geometry.shape, (1, 4), (2, 5), (3, 6))
    segmentation(sources, mask[None].astype(np.uint8)).save_as(tmp_path / "seg.dcm")
    drawn = [in_space(geometry, rectangle((2.5, 5.5), (1.5, 4.5), z)) for z in (1, 2, 3)]
    structure_set(tmp_path / "RS.1.2.3", {"lesion 1": drawn})  # exports often have no ending
    rows = []
    for name in ("seg.dcm", "RS.1.2.3"):
        assert (
            cli.main(["quantify", str(tmp_path / "scan"), "--lesions", str(tmp_path / name), "--json"]) == 0
        )
        rows.append(json.loads(capsys.readouterr().out)["segments"])
    assert rows[0] == rows[1]
    values = read_pet_series(tmp_path / "scan").array[mask]
    assert rows[0][0]["segment"] == "lesion 1"
    assert rows[0][0]["volume_ml"] == pytest.approx(mask.sum() * geometry.voxel_ml)
    assert rows[0][0]["suv_max"] / rows[0][0]["suv_mean"] == pytest.approx(
        values.max() / values.mean(), rel=1e-6
    )
    structure_set(tmp_path / "other.dcm", {"a": drawn}, frame="1.2.3.5")
    arguments = ["quantify", str(tmp_path / "scan"), "--lesions", str(tmp_path / "other.dcm")]
    assert cli.main(arguments) == 2
    assert "FrameOfReferenceUID" in capsys.readouterr().err


def test_denoise_takes_a_structure_set_and_never_writes_over_it(tmp_path: Path, capsys):
    _, geometry = make_scan(tmp_path / "scan")
    drawn = [in_space(geometry, rectangle((2.5, 5.5), (1.5, 4.5), z)) for z in (1, 2, 3)]
    save_model(tmp_path / "tiny.pt", tiny_network(), 16)
    out = tmp_path / "out"
    out.mkdir()
    arguments = ["denoise", str(tmp_path / "scan"), "-o", str(out), "--model", str(tmp_path / "tiny.pt")]
    arguments += ["--device", "cpu", "--lesions"]
    lesions = structure_set(tmp_path / "lesions.dcm", {"mass": drawn})
    assert cli.main([*arguments, str(lesions)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert {row["segment"] for row in summary["lesions"]["segments"]} == {"mass"}
    in_the_way = structure_set(out / "routing.csv", {"mass": drawn})
    before = in_the_way.read_bytes()
    capsys.readouterr()
    assert cli.main([*arguments, str(in_the_way)]) == 2
    assert "written over the input" in capsys.readouterr().err
    assert in_the_way.read_bytes() == before


def test_a_batch_finds_dicom_lesions_by_the_name_of_the_scan(tmp_path: Path):
    (tmp_path / "p2").mkdir()
    structure_set(tmp_path / "p1.dcm", {"a": [SQUARE]})
    structure_set(tmp_path / "p2" / "RS.1.2.3.dcm", {"a": [SQUARE]})
    found = finding.companions(tmp_path, {"p1": Path("p1"), "p2": Path("p2"), "p3": Path("p3")}, "--lesions")
    assert found == {"p1": tmp_path / "p1.dcm", "p2": tmp_path / "p2", "p3": None}
