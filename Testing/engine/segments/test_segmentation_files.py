"""Segmentations in image files: layers, labels, grids that differ, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.errors import InputError
from drmc.segments.reading import read_segments
from support.engine.lesion_masks import box_mask, grid, save


def write_slicer_segmentation(
    path: Path, layers_zyxl: np.ndarray, segments: list[dict[str, str]], origin=(0, 0, 0)
):
    """A `.seg.nrrd` as 3D Slicer writes it: layers first, the segments' names in the header."""
    size = " ".join(str(n) for n in layers_zyxl.shape[::-1])
    lines = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {size}",
        "space directions: none (2,0,0) (0,2,0) (0,0,2)",
        "kinds: list domain domain domain",
        "encoding: raw",
        f"space origin: ({origin[0]},{origin[1]},{origin[2]})",
    ]
    for index, keys in enumerate(segments):
        lines += [f"Segment{index}_{key}:={value}" for key, value in keys.items()]
    path.write_bytes(("\n".join(lines) + "\n\n").encode("utf-8") + layers_zyxl.astype(np.uint8).tobytes())
    return path


def test_slicer_segmentation_with_overlapping_layers_on_a_cropped_extent(tmp_path: Path):
    shape, corner = (10, 11, 12), (2, 3, 4)
    a, b = box_mask(shape, (3, 4, 5), (6, 7, 8)), box_mask(shape, (4, 5, 6), (9, 9, 9))
    c = box_mask(shape, (7, 4, 5), (8, 5, 6))
    layers = np.stack([a * 1 + c * 2, b * 1], axis=-1)[2:, 3:, 4:]
    path = write_slicer_segmentation(
        tmp_path / "lesions.seg.nrrd",
        layers,
        [
            {"ID": "s1", "Name": "Mass é", "LabelValue": "1", "Layer": "0"},
            {"ID": "s2", "Name": "Node", "LabelValue": "1", "Layer": "1"},
            {"ID": "s3", "Name": "Node", "LabelValue": "2", "Layer": "0"},
            {"ID": "s4", "Name": "Drawn later", "LabelValue": "3", "Layer": "0"},
        ],
        origin=tuple(2 * n for n in corner[::-1]),
    )
    segments, notices = read_segments(path, grid(shape))
    assert [segment.name for segment in segments] == ["Mass é", "Node", "Node (2)"]
    for segment, expected in zip(segments, (a, b, c), strict=True):
        assert np.array_equal(segment.mask, expected)
    assert len(notices) == 1 and "Drawn later" in notices[0]


def test_older_slicer_segmentation_has_one_layer_per_segment(tmp_path: Path):
    a, b = box_mask((5, 5, 5), (1, 1, 1), (3, 3, 3)), box_mask((5, 5, 5), (2, 2, 2), (4, 4, 4))
    path = write_slicer_segmentation(
        tmp_path / "old.seg.nrrd", np.stack([a, b], axis=-1), [{"ID": "A"}, {"ID": "B", "Name": "second"}]
    )
    segments, _ = read_segments(path, grid((5, 5, 5)))
    assert [segment.name for segment in segments] == ["A", "second"]
    assert np.array_equal(segments[1].mask, b)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_label_image_gives_a_segment_per_value(tmp_path: Path, ending: str):
    labels = np.zeros((6, 7, 8), dtype=np.int16)
    labels[1:3, 1:3, 1:3], labels[4, 4, 4] = 7, 300
    segments, notices = read_segments(save(tmp_path / f"organs{ending}", labels), grid(labels.shape))
    assert [segment.name for segment in segments] == ["organs_7", "organs_300"]
    assert [segment.voxels for segment in segments] == [8, 1]
    assert notices == []


def test_a_fourth_axis_holds_layers(tmp_path: Path):
    layers = np.zeros((2, 5, 5, 5), dtype=np.uint8)
    layers[0, 1:4, 1:4, 1:4], layers[1, 2:5, 2:5, 2:5] = 1, 1
    image = sitk.JoinSeries([sitk.GetImageFromArray(layer) for layer in layers])
    sitk.WriteImage(image, str(tmp_path / "two.nii.gz"))
    segments, _ = read_segments(tmp_path / "two.nii.gz", grid((5, 5, 5), (1.0, 1.0, 1.0)))
    assert [segment.name for segment in segments] == ["two_1_1", "two_2_1"]
    assert np.array_equal(segments[1].mask, layers[1].astype(bool))


def test_another_order_of_axes_is_the_same_grid(tmp_path: Path):
    shape = (6, 7, 8)
    mask = np.random.default_rng(1).random(shape) < 0.2
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((2.0, 3.0, 4.0))
    turned = sitk.DICOMOrient(image, "SAR")
    assert turned.GetSize() != image.GetSize()
    sitk.WriteImage(turned, str(tmp_path / "turned.nrrd"))
    segments, notices = read_segments(tmp_path / "turned.nrrd", grid(shape, (2.0, 3.0, 4.0)))
    assert np.array_equal(segments[0].mask, mask)
    assert notices == []


@pytest.mark.parametrize(("shift", "same"), [(0.08, True), (0.3, False)])
def test_less_than_a_tenth_of_a_voxel_is_the_same_grid(tmp_path: Path, shift: float, same: bool):
    mask = box_mask((6, 7, 8), (1, 1, 1), (4, 4, 4))
    path = save(tmp_path / "m.nrrd", mask.astype(np.uint8), origin=(2.0 * shift, 0.0, 0.0))
    segments, notices = read_segments(path, grid(mask.shape))
    assert np.array_equal(segments[0].mask, mask)
    assert (notices == []) is same


def test_a_spacing_that_drifts_by_more_than_a_tenth_of_a_voxel_is_another_grid(tmp_path: Path):
    mask = box_mask((6, 7, 40), (1, 1, 1), (4, 4, 4)).astype(np.uint8)
    _, notices = read_segments(save(tmp_path / "m.nrrd", mask, spacing=(2.01, 2.0, 2.0)), grid(mask.shape))
    assert len(notices) == 1


def test_another_grid_is_resampled_and_says_so(tmp_path: Path):
    fine = box_mask((40, 40, 40), (8, 8, 8), (24, 24, 24)).astype(np.uint8)
    path = save(tmp_path / "fine.nii.gz", fine, spacing=(1.0, 1.0, 1.0), origin=(-0.5, -0.5, -0.5))
    segments, notices = read_segments(path, grid((20, 20, 20)))
    assert np.array_equal(segments[0].mask, box_mask((20, 20, 20), (4, 4, 4), (12, 12, 12)))
    (notice,) = notices
    assert "nearest neighbor" in notice and "fine 4.10 -> 4.10 ml" in notice


def test_what_lies_outside_the_scan_is_told(tmp_path: Path):
    labels = np.zeros((6, 6, 20), dtype=np.uint8)
    labels[2, 2, 8:12], labels[4, 4, 15:] = 1, 2
    segments, notices = read_segments(save(tmp_path / "m.nrrd", labels), grid((6, 6, 10)))
    assert [segment.name for segment in segments] == ["m_1"]
    assert segments[0].voxels == 2
    assert "0.02 of 0.03 ml lie outside" in notices[0]
    assert notices[1].endswith("left out: m_2")


@pytest.mark.parametrize(
    ("array", "origin", "message"),
    [
        (np.ones((3, 3, 3), np.uint8), (500.0, 0.0, 0.0), "does not overlap"),
        (np.zeros((3, 3, 3), np.uint8), (0.0, 0.0, 0.0), "empty"),
        (np.full((3, 3, 3), 0.37, np.float32), (0.0, 0.0, 0.0), "0.37"),
        (np.full((3, 3, 3), np.nan, np.float32), (0.0, 0.0, 0.0), "nan"),
        (np.full((3, 3, 3), -1000, np.int16), (0.0, 0.0, 0.0), "-1000"),
        (np.arange(2744, dtype=np.int16).reshape(14, 14, 14), (0.0, 0.0, 0.0), "not a segmentation"),
    ],
)
def test_what_is_no_segmentation_of_this_scan_is_refused(tmp_path: Path, array, origin, message):
    with pytest.raises(InputError, match=message) as refusal:
        read_segments(save(tmp_path / "m.nrrd", array, origin=origin), grid((8, 8, 8)))
    assert "\n" not in str(refusal.value) and "m.nrrd" in str(refusal.value)


def test_a_lesion_lost_between_coarse_voxels_is_refused(tmp_path: Path):
    tiny = box_mask((40, 40, 40), (5, 5, 5), (6, 6, 6)).astype(np.uint8)
    tiny[20:30, 20:30, 20:30] = 2
    path = save(tmp_path / "m.nrrd", tiny, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="m_1"):
        read_segments(path, grid((10, 10, 10), (4.0, 4.0, 4.0)))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no such"):
        read_segments(tmp_path / "absent.nrrd", grid((4, 4, 4)))
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.nii\.gz") as refusal:
        read_segments(tmp_path / "broken.nii.gz", grid((4, 4, 4)))
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="DICOM"):
        read_segments(tmp_path, grid((4, 4, 4)))
    flat = sitk.Image([4, 4], sitk.sitkUInt8) + 1
    sitk.WriteImage(flat, str(tmp_path / "flat.nrrd"))
    with pytest.raises(InputError, match="3-D"):
        read_segments(tmp_path / "flat.nrrd", grid((4, 4, 4)))
