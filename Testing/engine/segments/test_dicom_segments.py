"""DICOM segmentation objects of an independent writer: masks, refusals, the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drmc.cli import main as cli
from drmc.denoising import finding
from drmc.dicom.series import read_pet_series
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.models.weights import save_model
from drmc.segments.reading import read_segments
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.uid import RLELossless
from support.engine.denoising_cases import tiny_network
from support.engine.dicom_segmentations import (
    FRAME,
    ORIENTATIONS,
    box,
    in_space,
    make_scan,
    rectangle,
    segmentation,
    structure_set,
)
from support.engine.synthetic_dicom import SECRETS, write_series

# ---- segmentation objects


@pytest.fixture(scope="module", params=list(ORIENTATIONS))
def scan(request, tmp_path_factory) -> tuple[list[Dataset], Geometry]:
    """The files of a small PET series, and its grid by the project's reader."""
    return make_scan(tmp_path_factory.mktemp("pet"), ORIENTATIONS[request.param])


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
    segmentation(sources, labels, "LABELMAP").save_as(tmp_path / "labels.dcm")
    segments, notices = read_segments(tmp_path / "labels.dcm", geometry)
    assert [segment.name for segment in segments] == ["lesion 1", "lesion 2", "lesion 3"]
    assert all(np.array_equal(segment.mask, labels == n + 1) for n, segment in enumerate(segments))
    assert notices == []


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
