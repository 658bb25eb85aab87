"""The page of a training: made from its log alone, whole and safe whatever the log holds."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from drmc.cli import main as cli
from drmc.errors import InputError
from drmc.models.registry import find_model
from drmc.pages.plot import log_ticks, ticks
from drmc.training import curves
from drmc.training.history import History
from drmc.training.loop import train
from drmc.training.page import write_page
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine.small_training import CENTERS, make_dataset, stop_after, tiny_config

VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that elements close in order, and keeps text and tags."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open, self.tags, self.text = [], [], ""
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    @property
    def figures(self) -> dict[str, ElementTree.Element]:
        """The diagrams by their names."""
        found = (ElementTree.fromstring(svg) for svg in re.findall(r"<svg class.*?</svg>", self.source))
        return {svg.get("aria-label"): svg for svg in found}


def validation(step: int, psnr: float, **more) -> dict:
    low = {"psnr_low": {"A": 30.0}, "psnr_gaussian": {"A": 33.0}, "gaussian_fwhm_mm": {"A": 6.0}}
    return {"event": "validation", "step": step, "psnr": {"A": psnr}, "share": {"A": 0.5}, **low, **more}


def write_log(folder: Path, records: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_run_leaves_its_page_and_its_log_gives_it_again(tmp_path, capsys):
    config = tiny_config(make_dataset(tmp_path / "data"), tmp_path / "run", steps=4, validate_every=2)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict()))
    assert cli.main(["train", str(path)]) == 0
    written = (tmp_path / "run" / "training.html").read_bytes()
    (tmp_path / "run" / "training.html").unlink()
    capsys.readouterr()
    assert cli.main(["train", str(path), "--page"]) == 0
    assert str(tmp_path / "run" / "training.html") in capsys.readouterr().out
    assert (tmp_path / "run" / "training.html").read_bytes() == written
    page = Page(tmp_path / "run" / "training.html")
    assert "Training of tiny" in page.text and "Finished after 4 steps" in page.text
    assert "Simulated data" in page.text and "physical" not in page.text
    assert {f"PSNR, {center}" for center in CENTERS} | {"Gates closed", "Learning rate"} <= set(page.figures)
    # nothing from elsewhere, no script, no place on this machine
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import", page.source) and str(tmp_path) not in page.source


def test_a_page_says_where_a_run_stands(tmp_path, monkeypatch):
    config = tiny_config(make_dataset(tmp_path / "data"), tmp_path / "run", steps=6)
    pages = []

    def follow(record: dict) -> None:
        pages.append(Page(tmp_path / "run" / "training.html").text)

    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        train(config, report=follow)
    assert "Under way at step 0 of 6" in pages[0] and "Stopped at step 3 of 6" in pages[-1]
    train(config, report=follow)
    assert "Finished after 6 steps" in pages[-1] and "Resumed at step" in pages[-1]


def test_what_is_drawn_is_what_was_logged(tmp_path):
    records = [{"event": "started", "step": 0, "steps": 300, "name": "drawn"}]
    values = [31.0, 34.0, 33.0]
    records += [validation(100 * (k + 1), value) for k, value in enumerate(values)]
    page = Page(write_page(write_log(tmp_path, records)))
    lines = page.figures["PSNR, A"].findall("polyline")
    dashes = {"1 4": 30.0, "6 4": 33.0, "": None}
    points = {}
    for line in lines:
        dash = next(d for d in dashes if d and d in line.get("style")) if "dash" in line.get("style") else ""
        points[dash] = np.array([point.split(",") for point in line.get("points").split()], dtype=float)
    assert set(points) == set(dashes)
    # pixels are a linear map of the values: fixed by low dose and Gaussian filter, it gives
    # the network's back
    (low,), (gaussian,) = (np.unique(points[dash][:, 1]) for dash in ("1 4", "6 4"))
    found = 30.0 + (points[""][:, 1] - low) / (gaussian - low) * 3.0
    assert found == pytest.approx(values, abs=0.01)
    assert np.diff(points[""][:, 0], 2) == pytest.approx(0, abs=0.11)
    assert "+3.00 (6 mm)" in page.text and "33.00 (30.00)" in page.text and "50 %" in page.text


def test_a_watched_dataset_has_a_section_of_its_own(tmp_path):
    other = {k: {"Z": v["A"]} for k, v in validation(5, 40.0).items() if isinstance(v, dict)}
    page = Page(write_page(write_log(tmp_path, [validation(5, 31.0), validation(9, 32.0, watched=other)])))
    assert "Watched beside it" in page.text and {"PSNR, A", "PSNR, Z"} <= set(page.figures)
    alone = Page(write_page(write_log(tmp_path, [validation(5, 31.0)])))
    assert "Watched beside it" not in alone.text


def test_the_shipped_models_log_is_that_of_its_card():
    entry = find_model()
    history = History.read(entry.path.with_suffix(".training.jsonl"))
    training = entry.card["training"]
    assert (history.state, history.step) == ("finished", training["steps"])
    assert all(0 < step < history.step for step in history.resumed)
    assert history.centers == training["configuration"]["centers"]
    figures = curves.loss_figures(history.progress, history.centers)
    assert figures.count("<polyline") == 2 * len(history.centers)
    last = [record for record in history.validation if record["step"] == history.step][-1]
    gains = [last["psnr"][center] - last["psnr_low"][center] for center in history.centers]
    assert np.mean(gains) == pytest.approx(training["validation_gain"])


def test_markup_in_a_log_stays_text(tmp_path):
    name = "<script>alert(1)</script>&"
    about = {"name": name, "hardware": {"processor": name}, "version": name, "configuration": {name: name}}
    progress = {
        "event": "progress",
        "step": 1,
        "steps": 1,
        "loss": {name: 1.0},
        "usage": {name: [[0.5, 0.5]] * 2},
    }
    records = [{"event": "started", "step": 0, "steps": 1, **about}, {**progress, "entropy": {name: 1.0}}]
    records.append({"event": "validation", "step": 1, "psnr": {name: 30.0}, "psnr_low": {name: 20.0}})
    page = Page(write_page(write_log(tmp_path, records)))
    assert "script" not in {tag for tag, _ in page.tags} and page.text.count(name) >= 5


def test_a_log_cut_off_or_missing(tmp_path):
    with pytest.raises(InputError, match="no log of a training") as refusal:
        write_page(tmp_path)
    assert "\n" not in str(refusal.value) and not list(tmp_path.iterdir())
    write_log(tmp_path, [{"event": "started", "step": 0, "steps": 9}])
    with (tmp_path / "training.jsonl").open("a") as log:
        log.write('[]\n{"event": "x"}\n{"event": "progr')
    assert "Under way at step 0 of 9" in Page(write_page(tmp_path)).text


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=40)
@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=40))
def test_whatever_the_numbers_the_figures_stay_finite(values):
    records = [
        {"step": k + 1, "loss": {"A": a}, "gradient_norm": b, "psnr": {"A": c}, "rate": a, "share": {"A": b}}
        for k, (a, b, c) in enumerate(values)
    ]
    svg = curves.loss_figures(records, ["A"]) + curves.pace_figures(records)
    svg += curves.validation_figures(records, ["A"])
    assert not re.search(r"\b(nan|inf)\b", svg)
    for picture in re.findall(r"<svg.*?</svg>", svg):
        width, height = map(float, ElementTree.fromstring(picture).get("viewBox").split()[2:])
        for x, y in re.findall(
            r"(-?[\d.e+]+),(-?[\d.e+]+)", " ".join(re.findall(r'points="(.*?)"', picture))
        ):
            assert 0 <= float(x) <= width and 0 <= float(y) <= height


def test_a_long_log_makes_a_small_page_of_the_same_course(tmp_path):
    records = [
        {
            "event": "progress",
            "step": 50 * k,
            "steps": 200_000,
            "loss": {"A": 1 / k},
            "gradient_norm": 1.0 + k,
        }
        for k in range(1, 4001)
    ]
    page = Page(write_page(write_log(tmp_path, records)))
    assert len(page.source) < 60_000
    loss = page.figures["Charbonnier loss per center"].findall("polyline")[-1].get("points").split()
    y = [float(point.split(",")[1]) for point in loss]
    assert 100 < len(y) <= 300 and y == sorted(y)  # down the page, as the loss falls


def test_ticks_are_round_and_within():
    assert ticks(0, 60, 4) == [0, 20, 40, 60] and ticks(31.2, 38.9) == [32, 34, 36, 38]
    assert ticks(2.0, 2.0) == [2.0]
    assert log_ticks(0.009, 0.3) == [0.01, 0.02, 0.05, 0.1, 0.2] and log_ticks(0.5, 2000) == [
        1,
        10,
        100,
        1000,
    ]


def test_the_table_of_usage_shows_every_share():
    html = curves.usage_html({"A": [[1.0, 0.0], [0.25, 0.75]], "B": [[0.5, 0.5], [0.0, 0.0]]})
    cells = [int(cell) for cell in re.findall(r">(\d+) %<", html)]
    assert cells == [100, 25, 0, 75, 50, 0, 50, 0]
    grounds = dict(zip(cells, re.findall(r"rgb\((\d+),", html), strict=True))
    assert int(grounds[0]) > int(grounds[50]) > int(grounds[100])  # darker, the more it is used
    assert curves.usage_html({}) == ""
