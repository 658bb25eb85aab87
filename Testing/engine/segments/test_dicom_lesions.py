"""Lesions in DICOM where the file is unlike the scan.

Contours that overlap, stale frames of reference, slices left out, label maps that lie elsewhere, and objects
made to fill the memory.
"""

from __future__ import annotations

import copy
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drmc.cli.main import main
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.segments import contours
from drmc.segments.reading import read_segments
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    generate_uid,
)
from support.engine.compressed_dicom import by_simpleitk, jpeg_2000, without_plugins
from support.engine.dicom_segmentations import (
    FRAME,
    box,
    grid,
    in_space,
    make_scan,
    rectangle,
    segmentation,
    structure_set,
)

# ---- contours of one region that overlap


def drawn_on(geometry: Geometry, *corners: np.ndarray) -> list[np.ndarray]:
    return [in_space(geometry, one) for one in corners]


SHAPE = (5, 16, 16)


def test_contours_that_overlap_are_joined_and_both_volumes_told(tmp_path):
    geometry = grid(SHAPE)
    drawn = [
        one
        for z in (1, 2)
        for one in (rectangle((1.5, 8.5), (1.5, 8.5), z), rectangle((5.5, 12.5), (5.5, 12.5), z))
    ]
    path = structure_set(tmp_path / "rt.dcm", {"L": drawn_on(geometry, *drawn)})
    (segment,), (notice,) = read_segments(path, geometry)
    expected = box(SHAPE, (1, 3), (2, 9), (2, 9)) | box(SHAPE, (1, 3), (6, 13), (6, 13))
    assert np.array_equal(segment.mask, expected)
    ml = 0.008 * np.count_nonzero(expected)
    assert "'L': contours on 2 planes overlap" in notice and f"{ml:.2f} ml" in notice
    assert f"{ml - 0.008 * 2 * 9:.2f} ml" in notice


def test_contours_that_say_that_they_exclude_each_other_do(tmp_path):
    geometry = grid(SHAPE)
    drawn = drawn_on(geometry, rectangle((1.5, 8.5), (1.5, 8.5), 2), rectangle((5.5, 12.5), (5.5, 12.5), 2))
    path = structure_set(tmp_path / "rt.dcm", {"L": drawn}, kind="CLOSEDPLANAR_XOR")
    (segment,), notices = read_segments(path, geometry)
    expected = box(SHAPE, (2, 3), (2, 9), (2, 9)) ^ box(SHAPE, (2, 3), (6, 13), (6, 13))
    assert np.array_equal(segment.mask, expected) and notices == []


def masks_of(*rectangles: tuple[float, float, float, float]) -> list[np.ndarray]:
    """Contours (points, 2) around x0 to x1 and y0 to y1."""
    return [np.array([(a, c), (b, c), (b, d), (a, d)]) for a, b, c, d in rectangles]


def flat(x: tuple[int, int], y: tuple[int, int]) -> np.ndarray:
    return box((1, 16, 16), (0, 1), y, x)[0]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("rectangles", "expected"),
    [
        pytest.param(  # a ring whose hole an overlapping contour does not fill
            [(0.5, 9.5, 0.5, 9.5), (2.5, 4.5, 2.5, 4.5), (7.5, 13.5, 2.5, 5.5)],
            (flat((1, 10), (1, 10)) & ~flat((3, 5), (3, 5))) | flat((8, 14), (3, 6)),
            id="ring and overlap",
        ),
        pytest.param(  # an island in a hole
            [(0.5, 12.5, 0.5, 12.5), (2.5, 9.5, 2.5, 9.5), (4.5, 6.5, 4.5, 6.5), (11.5, 14.5, 1.5, 3.5)],
            (flat((1, 13), (1, 13)) & ~flat((3, 10), (3, 10)))
            | flat((5, 7), (5, 7))
            | flat((12, 15), (2, 4)),
            id="island",
        ),
        pytest.param(  # two holes that overlap are one hole
            [(0.5, 13.5, 0.5, 13.5), (2.5, 6.5, 2.5, 6.5), (4.5, 9.5, 4.5, 9.5)],
            flat((1, 14), (1, 14)) & ~flat((3, 7), (3, 7)) & ~flat((5, 10), (5, 10)),
            id="two holes",
        ),
        pytest.param(  # the same contour, drawn again by a hand that trembles
            [(0.5, 9.5, 0.5, 9.5), (0.52, 9.49, 0.51, 9.52)], flat((1, 10), (1, 10)), id="drawn twice"
        ),
        pytest.param([(0.5, 5.5, 0.5, 5.5), (5.5, 9.5, 0.5, 5.5)], flat((1, 10), (1, 6)), id="side by side"),
        pytest.param(  # less than a pixel sticks out, but that is a third of it
            [(0.5, 6.5, 0.5, 6.5), (5.5, 7.2, 2.5, 4.5)],
            flat((1, 7), (1, 7)) | flat((6, 8), (3, 5)),
            id="between pixels",
        ),
    ],
)
def test_how_contours_are_joined(rectangles, expected, order):
    polygons = masks_of(*rectangles)[::order]
    assert np.array_equal(contours.fill_joined(polygons, (16, 16)), expected)
    turned = [polygon[:, ::-1] for polygon in polygons]
    assert np.array_equal(contours.fill_joined(turned, (16, 16)), expected.T)


def test_nested_contours_stay_even_odd(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(50):
        outer = sorted(rng.uniform(0, 15, 8))
        nested = masks_of(*((outer[i], outer[7 - i], outer[i], outer[7 - i]) for i in range(4)))
        joined = contours.fill_joined(nested, (16, 16))
        if np.min(np.diff(outer)) > 0.3:
            assert np.array_equal(joined, contours.fill(nested, (16, 16)))


def test_a_hole_that_leans_out_by_a_rounding_error_stays_a_hole():
    polygons = masks_of((0.5, 9.5, 0.5, 9.5), (0.499, 4.5, 2.5, 4.5))
    assert not contours.fill_joined(polygons, (16, 16))[3, 3]


# ---- frames of reference


def referenced(path: Path, *items: tuple[str, str]) -> Path:
    """Writes ReferencedFrameOfReferenceSequence: the frame and the series of each item."""
    ds = pydicom.dcmread(path)
    ds.ReferencedFrameOfReferenceSequence = []
    for frame, series in items:
        item, study, one = Dataset(), Dataset(), Dataset()
        item.FrameOfReferenceUID, one.SeriesInstanceUID = frame, series
        study.RTReferencedSeriesSequence = [one]
        item.RTReferencedStudySequence = [study]
        ds.ReferencedFrameOfReferenceSequence.append(item)
    ds.save_as(path)
    return path


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([(FRAME, "1.9")], "(0020,0052)"),
        ([("1.2.3.99", "1.7")], "(0020,000E)"),
        ([(FRAME, "1.7"), ("1.2.3.99", "1.9")], None),
        ([("1.2.3.99", "1.9")], None),
        ([], None),
    ],
)
def test_a_stale_frame_of_a_region(tmp_path, items, words):
    geometry = grid(SHAPE)
    drawn = drawn_on(geometry, rectangle((1.5, 4.5), (1.5, 4.5), 2))
    path = referenced(structure_set(tmp_path / "rt.dcm", {"L": drawn}, frame="1.2.3.5"), *items)
    if words is None:
        with pytest.raises(InputError, match=r"another FrameOfReferenceUID \(3006,0024\)"):
            read_segments(path, geometry, FRAME, "1.7")
    else:
        (segment,), (notice,) = read_segments(path, geometry, FRAME, "1.7")
        assert segment.voxels == 9 and words in notice and "taken as drawn on it" in notice


def test_a_stale_frame_on_the_command_line(tmp_path, capsys):
    sources, geometry = make_scan(tmp_path / "pet")
    drawn = drawn_on(geometry, rectangle((1.5, 4.5), (1.5, 4.5), 2))
    path = structure_set(tmp_path / "rt.dcm", {"L": drawn}, frame="1.2.3.5")
    referenced(path, ("1.2.3.99", sources[0].SeriesInstanceUID))
    assert main(["quantify", str(tmp_path / "pet"), "--lesions", str(path)]) == 0
    assert "taken as drawn on it" in capsys.readouterr().out


def test_a_stale_frame_of_a_segmentation(tmp_path):
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, 2:4, 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    ds.FrameOfReferenceUID = "1.2.3.5"
    ds.save_as(tmp_path / "seg.dcm")
    (segment,), notices = read_segments(tmp_path / "seg.dcm", geometry, FRAME, sources[0].SeriesInstanceUID)
    assert np.array_equal(segment.mask, mask[0].astype(bool)) and "(0008,1115)" in notices[0]
    with pytest.raises(InputError, match="another FrameOfReferenceUID"):
        read_segments(tmp_path / "seg.dcm", geometry, FRAME, "1.2.3")


# ---- steps of sparse segmentations


@pytest.mark.parametrize("stated", [None, 3.0, 6.0, 4.5, 100.0])
@pytest.mark.parametrize("thickness", [None, 3.0, 5.0, 6.0])
@pytest.mark.parametrize("slices", [(0, 2, 4), (1, 3), (0, 2, 5), (0, 3), (4,), (0, 5)])
def test_slices_that_were_left_out_add_no_volume(tmp_path, stated, thickness, slices):
    """The frames lie on the scan's slices, 3 mm apart, whatever step and thickness the object states."""
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, slices, 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for keyword, value in (("SpacingBetweenSlices", stated), ("SliceThickness", thickness)):
        if value is None and keyword in measures:
            del measures[keyword]
        elif value is not None:
            setattr(measures, keyword, value)
    ds.save_as(tmp_path / "seg.dcm")
    for series_uid in (None, sources[0].SeriesInstanceUID):
        (segment,), notices = read_segments(tmp_path / "seg.dcm", geometry, FRAME, series_uid)
        assert np.array_equal(segment.mask, mask[0].astype(bool))
        assert all("each is taken as one of them" in notice for notice in notices)


def test_a_coarse_segmentation_keeps_its_own_step(tmp_path):
    """Its pixels are not the scan's, so its slices need not be either."""
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, (0, 2, 4), 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 6.0
    del ds.ReferencedSeriesSequence
    ds.save_as(tmp_path / "seg.dcm")
    finer = Geometry((6, 14, 18), tuple(np.array(geometry.spacing) / (2, 2, 1)), geometry.origin)
    (segment,), _ = read_segments(tmp_path / "seg.dcm", finer)
    ml = segment.voxels * finer.voxel_ml
    assert ml == pytest.approx(3 * 9 * 4 * 5 * 6 / 1000, rel=0.2)


def test_steps_that_only_a_part_of_the_smallest_gap_explains(tmp_path):
    """Slices 0, 2 and 5 of an image that is not the scan."""
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, (0, 2, 5), 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SpacingBetweenSlices
    del measures.SliceThickness
    ds.save_as(tmp_path / "seg.dcm")
    shifted = Geometry(
        (40, 7, 9), (*geometry.spacing[:2], 1.0), (*geometry.origin[:2], geometry.origin[2] - 9.5)
    )
    (segment,), _ = read_segments(tmp_path / "seg.dcm", shifted)
    assert segment.voxels * shifted.voxel_ml == pytest.approx(3 * 9 * 4 * 5 * 3 / 1000, rel=0.2)


# ---- compressed segmentations


@pytest.mark.parametrize("plugins", [True, False])
@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("name", ["JPEG", "JPEG2000", "deflated"])
def test_compressed_segmentations(tmp_path, monkeypatch, name, kind, plugins):
    sources, geometry = make_scan(tmp_path / "pet", rows=40, columns=48)
    mask = np.zeros((1, 6, 40, 48), np.uint8)
    mask[0, 1:4, 10:25, 20:37] = 1
    ds = segmentation(sources, mask, "FRACTIONAL", max_fractional_value=200)
    if kind == "LABELMAP":
        ds.SegmentationType = "LABELMAP"
        ds.PixelData = (np.frombuffer(ds.PixelData, np.uint8) > 0).astype(np.uint8).tobytes()
    if name == "deflated":
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    else:
        encode, syntax = {
            "JPEG": (by_simpleitk(tmp_path, "JPEG"), JPEGLosslessSV1),
            "JPEG2000": (jpeg_2000, JPEG2000Lossless),
        }[name]
        frames = np.frombuffer(ds.PixelData, np.uint8)[: int(ds.NumberOfFrames) * 1920].reshape(-1, 40, 48)
        ds.PixelData = pydicom.encaps.encapsulate([encode(one) for one in frames])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(tmp_path / "seg.dcm")
    if not plugins:
        without_plugins(monkeypatch)
    (segment,), _ = read_segments(tmp_path / "seg.dcm", geometry)
    assert np.array_equal(segment.mask, mask[0].astype(bool))


# ---- masks with the scan's shape that lie elsewhere


def label_image(path: Path, mask: np.ndarray, **geometry: object) -> Path:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(geometry.get("spacing", (2.0, 2.0, 2.0)))
    image.SetOrigin(geometry.get("origin", (0.0, 0.0, 0.0)))
    image.SetDirection(geometry.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nrrd", "m.mha", "m.seg.nrrd"])
def test_a_mask_of_the_scans_shape_that_lies_elsewhere_is_told(tmp_path, name):
    scan = grid(SHAPE, origin=(4.0, 6.0, 2.0))
    mask = box(SHAPE, (1, 4), (4, 9), (4, 9))
    _, notices = read_segments(label_image(tmp_path / name, mask), scan)
    assert "has the scan's shape but another position or direction" in notices[0]
    assert "7.483 mm apart" in notices[0] and "(4, 6, 2)" in notices[0] and name in notices[0]
    _, notices = read_segments(label_image(tmp_path / name, mask, spacing=(1.0, 1.0, 1.0)), scan)
    assert "has the scan's shape" in notices[0]


def test_a_mask_of_the_scans_shape_far_away_is_refused_and_says_so(tmp_path):
    path = label_image(tmp_path / "m.nii.gz", np.ones(SHAPE), origin=(900.0, 0.0, 0.0))
    with pytest.raises(InputError, match="does not overlap the scan; it has the scan's shape"):
        read_segments(path, grid(SHAPE))


def test_the_same_voxels_in_another_order_lie_where_the_scan_does(tmp_path):
    flipped = label_image(
        tmp_path / "m.nrrd",
        box(SHAPE, (1, 4), (4, 9), (4, 9)),
        origin=(30.0, 0.0, 0.0),
        direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1),
    )
    assert read_segments(flipped, grid(SHAPE))[1] == []
    assert read_segments(label_image(tmp_path / "n.nrrd", np.ones(SHAPE), origin=(0.3, 0, 0)), grid(SHAPE))[1]


# ---- bounded memory


def test_frames_far_apart_do_not_fill_the_memory(tmp_path):
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, 1:5, 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    place = ds.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    place.ImagePositionPatient = [place.ImagePositionPatient[0], place.ImagePositionPatient[1], 9e7]
    ds.save_as(tmp_path / "seg.dcm")
    with pytest.raises(InputError, match=r"not slices at even steps|in steps of"):
        read_segments(tmp_path / "seg.dcm", geometry)


def test_many_segments_are_kept_by_what_they_mark(tmp_path):
    """40 segments of one voxel on 512 x 512 pixels and 60 slices: 630 MB as whole masks."""
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, :2, 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    first = ds.PerFrameFunctionalGroupsSequence[0]
    ds.Rows = ds.Columns = 512
    ds.PerFrameFunctionalGroupsSequence, described = [], ds.SegmentSequence[0]
    ds.SegmentSequence = []
    frames = np.zeros((80, 512, 512), np.uint8)
    for number in range(1, 41):
        one = copy.deepcopy(described)
        one.SegmentNumber = number
        ds.SegmentSequence.append(one)
        for part, z in enumerate((0, 59)):
            frame, identified, place = copy.deepcopy(first), Dataset(), Dataset()
            identified.ReferencedSegmentNumber = number
            frame.SegmentIdentificationSequence = [identified]
            x, y, _ = first.PlanePositionSequence[0].ImagePositionPatient
            place.ImagePositionPatient = [x, y, 30.0 + 3.0 * z]
            frame.PlanePositionSequence = [place]
            ds.PerFrameFunctionalGroupsSequence.append(frame)
            frames[2 * number - 2 + part, number, number] = 1
    ds.NumberOfFrames = 80
    ds.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    ds.save_as(tmp_path / "seg.dcm")
    large = Geometry((60, 512, 512), geometry.spacing, (geometry.origin[0], geometry.origin[1], 30.0))
    tracemalloc.start()
    segments, _ = read_segments(tmp_path / "seg.dcm", large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [segment.voxels for segment in segments] == [2] * 40
    assert peak < 120e6


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_nested_without_end_are_refused(tmp_path, undefined):
    path = structure_set(tmp_path / "rt.dcm", {"L": [rectangle((1, 4), (1, 4), 2)]})
    ds = pydicom.dcmread(path)
    inner = Dataset()
    inner.add_new("PixelData", "OB", bytes(1 << 20))
    for _ in range(60):
        outer = Dataset()
        outer.add_new("ReferencedStudySequence", "SQ", [inner])
        outer["ReferencedStudySequence"].is_undefined_length = undefined
        inner = outer
    ds.ReferencedStudySequence = [inner]
    ds.save_as(path)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"rt.dcm cannot be read as DICOM \(RecursionError\)"):
        read_segments(path, grid(SHAPE))
    assert tracemalloc.get_traced_memory()[1] < 80e6
    tracemalloc.stop()


def test_a_frame_larger_than_any_scan_is_refused(tmp_path):
    sources, geometry = make_scan(tmp_path / "pet")
    mask = np.zeros((1, 6, 7, 9), np.uint8)
    mask[0, 1:5, 1:4, 2:5] = 1
    ds = segmentation(sources, mask)
    ds.Rows = ds.Columns = 65535
    ds.SeriesInstanceUID = generate_uid()
    ds.save_as(tmp_path / "seg.dcm")
    with pytest.raises(InputError, match="do not fit a segmentation"):
        read_segments(tmp_path / "seg.dcm", geometry)
    assert read_volume(tmp_path / "pet").geometry == geometry
