"""Centers described in files: the table of the paper, and a hospital's own scanner in the same form."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

import pytest
from drmc.errors import InputError
from drmc.simulation.centers import (
    CENTERS,
    TABLE,
    Center,
    find_center,
    find_centers,
    load_centers,
)
from support import REPOSITORY
from support.engine.center_tables import parameter_sources


def given(value, source: str = "our protocol") -> dict:
    return {"value": value, "source": source}


def write(path, **centers):
    path.write_text(json.dumps({"schema": 1, "centers": centers}))
    return path


def test_every_parameter_of_every_center_has_a_source():
    for name, sources in parameter_sources(TABLE).items():
        assert sources.keys() == {f.name for f in fields(Center)} - {"name"}, name
        assert all(source.split(":")[0].split(";")[0] for source in sources.values())
    assert all(s["voxel_mm"] == "paper, Table 1" for s in parameter_sources(TABLE).values())


def test_a_hospital_describes_its_own_scanner_by_what_differs(tmp_path):
    path = write(
        tmp_path / "mine.json",
        Mine={
            "like": "C1",
            "seconds": given(90),
            "post_filter_mm": given(6),
            "dose_reduction_factors": given([5, 2]),
        },
        Twin={"like": "Mine", "scanner": given("another")},
    )
    mine, twin = find_centers(f"C3, {path},C3")[1:]
    expected = {**asdict(CENTERS["C1"]), "name": "Mine", "seconds": 90.0}
    expected |= {"post_filter_mm": (6.0, 6.0, 6.0), "dose_reduction_factors": (5.0, 2.0)}
    assert asdict(mine) == expected
    assert asdict(twin) == {**expected, "name": "Twin", "scanner": "another"}
    assert [c.name for c in find_centers(f"C3, {path},C3")] == ["C3", "Mine", "Twin"]


def test_a_whole_description_reads_back_as_itself(tmp_path):
    for name, center in CENTERS.items():
        parameters = {key: given(value) for key, value in center.to_dict().items() if key != "name"}
        assert load_centers(write(tmp_path / "one.json", **{name: parameters}))[name] == center


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sensitivty": given(1)}, "unknown parameter 'sensitivty'"),
        ({"seconds": 90}, "'seconds' must be {\"value\""),
        ({"seconds": given(-1)}, "'seconds' must be a number above 0, not -1"),
        ({"seconds": given("long")}, "'seconds' must be a number"),
        ({"seconds": given(True)}, "'seconds' must be a number"),
        ({"views": given(180.5)}, "'views' must be a whole number"),
        ({"views": given(181)}, "multiple of 'subsets'"),
        ({"voxel_mm": given([2, 3])}, "one number or three"),
        ({"voxel_mm": given([2, 3, 4])}, "square in plane"),
        ({"region": given("legs")}, "'region' must be wholebody or brain"),
        ({"matrix": given(999)}, "'reconstruction_matrix' must exceed"),
        ({"dose_reduction_factors": given([1])}, "numbers above 1"),
        ({"dose_reduction_factors": given([])}, "numbers above 1"),
        ({"tof_bins": given(0)}, "'tof_fwhm_ps' needs"),
        ({"like": "C9"}, "is like 'C9', which is none of C1"),
        ({"bed_step_mm": given(400)}, "must not exceed"),
        ({"scatter_fraction": given(0.95)}, "below 0.9"),
    ],
)
def test_a_wrong_description_is_refused_in_one_line(tmp_path, changes, said):
    path = write(tmp_path / "mine.json", Mine={"like": "C1", **changes})
    with pytest.raises(InputError) as refusal:
        find_centers(str(path))
    message = str(refusal.value)
    assert said in message and str(path) in message and "Mine" in message and "\n" not in message


def test_files_and_names_that_do_not_fit_are_refused(tmp_path):
    cases = {
        str(write(tmp_path / "a.json", C1={"like": "C2"})): "the name C1 is taken",
        str(write(tmp_path / "b.json", **{"My hospital": {"like": "C2"}})): "without spaces",
        str(write(tmp_path / "c.json", **{"../up": {"like": "C2"}})): "the name must be",
        str(write(tmp_path / "d.json", Mine={})): "is missing",
        str(write(tmp_path / "e.json", Mine=[1])): "not an object",
        str(write(tmp_path / "f.json")): "no file of centers",
        str(tmp_path / "absent.json"): "absent.json",
        " , ": "no center is named",
        "C1,C9": "unknown center 'C9': choose from C1, C2",
    }
    for names, said in cases.items():
        with pytest.raises(InputError) as refusal:
            find_centers(names)
        assert said in str(refusal.value) and "\n" not in str(refusal.value), names
    with pytest.raises(InputError, match="C7"):
        find_center("C7")


def test_the_table_is_a_file_of_the_same_form():
    assert load_centers(TABLE) == CENTERS


def test_the_scanners_that_are_shipped_are_read():
    folder = REPOSITORY / "Resources" / "Scanners"
    found = {center.name: center for path in folder.glob("*.json") for center in find_centers(str(path))}
    assert set(found) == {"W4", "GE5", "SI2", "SI4", "SI5", "B2", "F1", "O1", "O2", "O3", "O4"}
    assert found["W4"].voxel_mm == (4.0, 4.0, 4.0)
    assert all(center.matrix <= center.reconstruction_matrix for center in found.values())
