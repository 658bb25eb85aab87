"""Lesion candidates: which voxels, which candidates, what is said of physiological uptake, and their file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli.main import main
from drmc.errors import InputError
from drmc.imaging.files import write_image
from drmc.measures import candidates as found_in
from drmc.measures.candidates import find_candidates, fixed_threshold, liver_sphere, percist_threshold
from drmc.measures.lesions import segment_statistics
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from drmc.segments.writing import write_segmentation
from support.engine.lesion_masks import box_mask, grid

GRID = grid((40, 50, 60), (2.0, 2.0, 3.0), (5.0, -60.0, 70.0), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))


def ball(center, radius_mm, geometry=GRID):
    offsets = np.ogrid[tuple(slice(0, n) for n in geometry.shape)]
    return (
        sum(((o - c) * s) ** 2 for o, c, s in zip(offsets, center, geometry.spacing_zyx, strict=True))
        <= radius_mm**2
    )


def image():
    """Liver of SUV 2 +- 0.2, a large hot ball, a warm one, and a hot one that is too small."""
    values = np.full(GRID.shape, 0.5, dtype=np.float32)
    liver = ball((20, 10, 12), 15)
    values[liver] = 2.0 + 0.2 * np.where(np.indices(GRID.shape).sum(axis=0)[liver] % 2, 1, -1)
    values[ball((10, 36, 45), 12)] = 9.0
    values[ball((28, 36, 45), 10)] = 3.8
    values[20, 30, 30] = 30.0
    return values, Segment("Liver", liver)


def test_the_fixed_threshold_takes_connected_voxels_of_enough_volume():
    values, _ = image()
    found, notices = find_candidates(values, GRID, fixed_threshold())
    assert len(found) == 1
    (one,) = found
    assert np.array_equal(one.segment.mask, ball((10, 36, 45), 12))
    numbers = segment_statistics(values, one.segment.mask, GRID.spacing_zyx)
    assert (one.suv_max, one.suv_mean, one.suv_peak) == (9.0, 9.0, numbers["suv_peak"])
    assert one.volume_ml == pytest.approx(numbers["volume_ml"])
    assert one.segment.name == "candidate 1 (may be physiological)"
    assert any("every candidate may be physiological" in text for text in notices)
    every, _ = find_candidates(values, GRID, fixed_threshold(), least_ml=0.0)
    assert [round(each.suv_max) for each in every] == [9, 30]  # by SUVpeak
    assert find_candidates(values, GRID, fixed_threshold(31.0)) == ([], [])


def test_percist_says_what_it_leaves_out_at_an_end_of_the_image():
    """The first slice is the hottest, and no sphere around it is complete; the others are too cold."""
    values, liver = image()
    values[0, 30:40, 40:50], values[1:3, 30:40, 40:50] = 20.0, 3.5
    found, notices = find_candidates(values, GRID, percist_threshold(values, liver))
    assert [one.suv_max for one in found] == [9.0, pytest.approx(3.8)]
    assert "1 left out: their SUVpeak cannot be measured so near to the image's edge" in notices


def test_percist_is_that_of_the_liver_and_wants_the_peak():
    values, liver = image()
    threshold = percist_threshold(values, liver)
    inside = values[liver.mask].astype(float)
    assert threshold.suv == pytest.approx(1.5 * inside.mean() + 2 * inside.std(), rel=1e-12)
    assert threshold.liver_mean == pytest.approx(2.0, abs=0.02) and 3.3 < threshold.suv < 3.5
    found, _ = find_candidates(values, GRID, threshold, least_ml=0.0)
    # One hot voxel is above the threshold, but 1 ml around it is not.
    assert [one.suv_max for one in found] == pytest.approx([9.0, 3.8])
    # On another SUV type, which is proportional, the candidates are the same.
    scaled, _ = find_candidates(values * 0.7, GRID, percist_threshold(values * 0.7, liver), least_ml=0.0)
    assert [each.segment.voxels for each in scaled] == [each.segment.voxels for each in found]


def test_the_sphere_of_the_liver_is_where_the_point_is():
    center = GRID.matrix[:3, :3] @ np.array([12, 10, 20]) + GRID.matrix[:3, 3]
    sphere = liver_sphere(GRID, center)
    assert np.array_equal(sphere.mask, ball((20, 10, 12), 15))
    with pytest.raises(InputError, match="out of the image"):
        liver_sphere(GRID, center + 1000)


def test_voxels_that_share_no_face_are_apart_and_too_many_are_noise():
    values = np.zeros(GRID.shape, dtype=np.float32)
    values[box_mask(GRID.shape, (10, 10, 10), (14, 16, 16))] = 5
    values[box_mask(GRID.shape, (14, 16, 16), (18, 22, 22))] = 5  # they touch at one corner
    assert len(find_candidates(values, GRID, fixed_threshold())[0]) == 2
    noise = np.zeros(GRID.shape, dtype=np.float32)
    noise[::2, ::2, ::2] = 9
    with pytest.raises(InputError, match="noise"):
        find_candidates(noise, GRID, fixed_threshold(), least_ml=0.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kidney_left", True),
        ("Right Kidney", True),
        ("Kidneys", True),
        ("urinary_bladder", True),
        ("bladder", True),
        ("brain", True),
        ("heart_myocardium", True),
        ("gallbladder", False),
        ("gall_bladder", False),
        ("liver", False),
        ("brainlike", False),
    ],
)
def test_organs_are_known_by_their_names(name, expected):
    assert found_in.is_physiological(name) is expected


def test_only_given_organs_mark_physiological_uptake():
    values, liver = image()
    hot = ball((10, 36, 45), 12)
    touched = hot & (np.indices(GRID.shape)[2] < 40)
    organs = [liver, Segment("kidney_left", ball((10, 36, 45), 14)), Segment("heart", ball((28, 10, 45), 5))]
    found, notices = find_candidates(values, GRID, percist_threshold(values, liver), organs=organs)
    assert [(one.segment.name, one.organ, one.organ_share) for one in found] == [
        ("candidate 1 (physiological, 100 % in kidney_left)", "kidney_left", 1.0),
        ("candidate 2", None, 0.0),
    ]
    assert any("have no brain, bladder" in text for text in notices)
    organs[1] = Segment("kidney_left", touched)
    found, _ = find_candidates(values, GRID, fixed_threshold(), organs=organs)
    share = np.count_nonzero(touched) / np.count_nonzero(hot)
    assert found[0].organ_share == pytest.approx(share) and share < 0.5
    assert found[0].segment.name == f"candidate 1 ({100 * share:.0f} % in kidney_left)"


# ---- the file


def test_the_file_is_one_of_slicer(tmp_path):
    segments = [
        Segment("a (b)", box_mask(GRID.shape, (1, 2, 3), (4, 6, 8))),
        Segment("Läsion", box_mask(GRID.shape, (10, 12, 13), (14, 16, 18))),
    ]
    path = tmp_path / "lesions.seg.nrrd"
    write_segmentation(path, segments, GRID)
    again, notices = read_segments(path, GRID)
    assert [one.name for one in again] == ["a (b)", "Läsion"] and not notices
    assert all(np.array_equal(one.mask, two.mask) for one, two in zip(again, segments, strict=True))
    fields = sitk.ReadImage(str(path))
    assert fields.GetMetaData("Segment1_Extent") == "13 17 12 15 10 13"
    assert fields.GetMetaData("Segment0_LabelValue") == "1" and fields.GetMetaData("Segment0_Layer") == "0"
    assert "SCT^49755003^Morphologically Altered Structure~SCT^52988006^Lesion" in fields.GetMetaData(
        "Segment0_Tags"
    )
    with pytest.raises(ValueError, match="overlaps"):
        write_segmentation(path, [segments[0], segments[0]], GRID)
    with pytest.raises(InputError, match=r"\.seg\.nrrd"):
        write_segmentation(tmp_path / "lesions.nii.gz", segments, GRID)


# ---- the command


@pytest.fixture
def scan(tmp_path):
    values, liver = image()
    write_image(tmp_path / "pet.nii.gz", values, GRID)
    facts = {"Units": "SUV", "PatientWeight": 70, "PatientSize": 1.75, "PatientSex": "F"}
    (tmp_path / "pet.json").write_text(json.dumps(facts))
    write_segmentation(
        tmp_path / "organs.seg.nrrd", [liver, Segment("kidney_right", ball((10, 36, 45), 12))], GRID
    )
    return tmp_path / "pet.nii.gz"


def ran(capsys, *arguments):
    code = main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_writes_what_denoise_takes_as_lesions(capsys, scan, tmp_path):
    output = tmp_path / "lesions.seg.nrrd"
    code, out, err = ran(
        capsys, "candidates", scan, "-o", output, "--organs", tmp_path / "organs.seg.nrrd", "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["threshold"]["method"] == "percist" and found["threshold"]["liver"] == "Liver"
    names = [one["name"] for one in found["candidates"]]
    assert names == ["candidate 1 (physiological, 100 % in kidney_right)", "candidate 2"]
    segments, _ = read_segments(output, GRID)
    assert [one.name for one in segments] == names
    # Janmahasatian: 9270 W / (8780 + 244 BMI), over the weight.
    lean = 9270.0 / (8780.0 + 244.0 * 70 / 1.75**2)
    assert found["candidates"][0]["sul_peak"] == pytest.approx(found["candidates"][0]["suv_peak"] * lean)
    assert found["threshold"]["sul"] == pytest.approx(found["threshold"]["suv"] * lean)
    code, out, _ = ran(capsys, "quantify", scan, "--lesions", output, "--json")
    rows = json.loads(out)["segments"]
    for row, one in zip(rows, found["candidates"], strict=True):
        assert (row["suv_max"], row["suv_peak"]) == (one["suv_max"], one["suv_peak"])


def test_the_command_without_organs_says_so(capsys, scan, tmp_path):
    (tmp_path / "pet.json").write_text(json.dumps({"Units": "SUV"}))
    code, out, err = ran(capsys, "candidates", scan)
    assert code == 0
    assert "1 candidates at or above SUV 4.000" in out and "candidate 1 (may be physiological)" in out
    assert "every candidate may be physiological" in err and "Research use only" in out
    assert "SUL is not known: PatientWeight (0010,1030) is missing" in out
    output = tmp_path / "none.seg.nrrd"
    code, out, err = ran(capsys, "candidates", scan, "--threshold", "50", "-o", output)
    assert code == 0 and out.startswith("0 candidates") and not output.exists() and "not written" in err
    center = GRID.matrix[:3, :3] @ np.array([12, 10, 20]) + GRID.matrix[:3, 3]
    assert center.min() < 0  # such numbers are no options
    code, out, _ = ran(capsys, "candidates", scan, "--liver-sphere", *center)
    assert code == 0 and out.startswith("2 candidates") and "of liver sphere" in out


def test_contradictions_are_refused(capsys, scan, tmp_path):
    organs = tmp_path / "organs.seg.nrrd"
    for arguments, words in (
        (("--threshold", "3", "--liver-sphere", "0", "0", "0"), "needs no liver"),
        (("--liver", "x"), "--organs, which is missing"),
        (("--liver", "x", "--organs", organs), "no segment has this name"),
        (("-o", tmp_path / "x.nii.gz"), ".seg.nrrd"),
        (("-o", organs, "--organs", organs), "over an input"),
        (("--threshold", "-1"), "above 0"),
        (("--min-volume", "-1"), "must not be negative"),
    ):
        code, _, err = ran(capsys, "candidates", scan, *arguments)
        assert code == 2 and words in err, arguments
