"""The anatomy audit: what it measures on a known label map, and how it compares patients with references."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.errors import InputError
from drmc.runtime.workers import run_in_processes
from drmc.simulation import audit
from drmc.simulation.audit import LIMIT_SD, Measured, audited_organs, judged, measure
from drmc.simulation.organs import LEFT, ORGANS

REFERENCES = json.loads(audit.REFERENCES.read_text(encoding="utf-8"))


def blocks() -> np.ndarray:
    """Labels (z, y, x) with boxes of known place: brain on top, the cord behind, a liver, both lungs."""
    labels = np.zeros((100, 30, 40), np.uint8)
    labels[80:95, 10:20, 15:25] = ORGANS["gray_matter"].label
    labels[5:80, 24:26, 19:21] = ORGANS["spinal_cord"].label
    labels[30:40, 5:15, 5:15] = ORGANS["liver"].label
    labels[40:60, 8:16, 4:12] = ORGANS["lung"].label
    labels[40:60, 8:16, 28:36] = ORGANS["lung"].label + LEFT
    return labels


@pytest.mark.parametrize("height_m", [1.74, 1.60])
def test_places_and_volumes_of_boxes(height_m):
    spacing = (4.0, 3.0, 2.0)
    found = measure(blocks(), spacing, height_m)
    scale = 1.74 / height_m
    assert set(found) == {"brain", "liver", "lung left", "lung right"}
    liver = found["liver"]
    # the cord's centroid is at column 19.5 and row 24.5, the brain's top 2 mm above the slice 94
    assert (liver.x, liver.y) == pytest.approx(((9.5 - 19.5) * 2.0, (9.5 - 24.5) * 3.0))
    assert liver.z == pytest.approx((94.5 - 34.5) * 4.0 * scale)
    assert (liver.top, liver.bottom) == pytest.approx(((94 - 39) * 4.0 * scale, (94 - 29) * 4.0 * scale))
    assert liver.volume_ml == pytest.approx(1000 * 24 / 1000)
    assert found["lung left"].x > 0 > found["lung right"].x
    assert found["brain"].top == 0


def test_a_map_without_brain_or_cord_is_refused():
    for organ in ("gray_matter", "spinal_cord"):
        labels = blocks()
        labels[labels == ORGANS[organ].label] = 0
        with pytest.raises(InputError, match="no brain or no spinal cord"):
            measure(labels, (4.0,) * 3, 1.7)


def people(shift_mm: float = 0.0, spread_mm: float = 8.0, factor: float = 1.0, n: int = 40) -> list[dict]:
    """Patients spread around the middle of both reference anatomies."""
    rng = np.random.default_rng(3)
    anatomies = [one["organs"] for one in REFERENCES["anatomies"].values()]
    found = []
    for _ in range(n):
        patient = {}
        for organ in audited_organs():
            known = [one[organ] for one in anatomies if organ in one]
            known = known or [{**one["lung left"], "x": -one["lung left"]["x"]} for one in anatomies]
            wide = max(spread_mm, 0.5 * float(np.ptp([[k[q] for q in "xyz"] for k in known], axis=0).max()))
            x, y, z = (np.mean([k[q] for k in known]) + rng.normal(0, wide) for q in "xyz")
            volume = float(np.exp(np.mean([math.log(k["volume_ml"]) for k in known]) + rng.normal(0, 0.25)))
            half = 112 if organ.startswith("lung") else 40
            patient[organ] = Measured(x, y, z + shift_mm, z - half, z + half, volume * factor)
        found.append(patient)
    return found


def test_people_like_the_references_pass_and_others_miss():
    found = judged(people())
    assert found["worst_sd"] <= LIMIT_SD and found["passes"], found["ranges"]
    low = judged(people(shift_mm=80.0))  # where the first simulated bodies hung
    assert not low["passes"] and low["anatomies"]["ICRP 110 man"]["offsets"]["spleen"]["z"] < -LIMIT_SD
    large = judged(people(factor=2.5))
    assert not large["passes"]
    assert {one["organ"] for one in large["ranges"] if not one["holds"]} >= {"brain", "lungs", "heart"}


def test_an_organ_that_some_do_not_have_is_told_by_those_who_have_it():
    patients = people()
    for patient in patients[:5]:
        del patient["gallbladder"]
    assert judged(patients)["organs"]["gallbladder"]["n"] == len(patients) - 5


def test_the_command_tells_and_keeps_what_it_found(capsys, tmp_path, monkeypatch):
    rows = {}

    def recorded(function, tasks, workers, *, progress, finished):
        keep = lambda index, row: (rows.update({index: row}), finished(index, row))
        run_in_processes(function, tasks, workers, progress=progress, finished=keep)

    def repeated(function, tasks, workers, *, progress, finished):
        """One patient is measured again, the others are as they were: each takes seconds."""
        assert function(tasks[-1], None) == rows[len(tasks) - 1]
        for index, row in rows.items():
            finished(index, row)

    monkeypatch.setattr(audit, "run_in_processes", recorded)
    assert main(["simulate", "--audit", "--patients", "8", "--seed", "3", "-o", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    kept = json.loads((tmp_path / "a" / "audit.json").read_text(encoding="utf-8"))
    assert "8 simulated patients, seed 3" in said and kept["patients"] == 8
    assert set(kept["organs"]) == set(audited_organs()) and kept["organs"]["liver"]["n"] == 8
    page = (tmp_path / "a" / "audit.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4 and "ICRP Publication 110" in page and "<script" not in page
    monkeypatch.setattr(audit, "run_in_processes", repeated)
    assert main(["simulate", "--audit", "--patients", "8", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["organs"] == kept["organs"]  # the same patients


def test_too_few_patients_are_refused(capsys):
    assert main(["simulate", "--audit", "--patients", "3"]) == 2
    assert "at least 8" in capsys.readouterr().err
