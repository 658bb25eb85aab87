"""The comparison on unseen patients: what its tables say follows from the images."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.evaluation import estimators
from drmc.evaluation.config import EvaluationConfig
from drmc.evaluation.filters import (
    gaussian_filter,
    nonlocal_means,
    nonlocal_means_slices,
    restored,
    stabilized,
)
from drmc.evaluation.tuning import slabs
from drmc.imaging.geometry import Geometry
from drmc.imaging.smoothing import noise_level
from drmc.measures.metrics import attainable_gain_db, nrmse, psnr, ssim
from drmc.measures.metrics_legacy import psnr_legacy, ssim_legacy
from drmc.models.card import add_to_card
from drmc.models.evaluation import evaluation_path, read_evaluation, summary
from drmc.models.registry import find_model
from drmc.pet.reading import read_volume
from skimage.restoration import denoise_nl_means
from support.engine.evaluation_data import (
    LARGE,
    LIVER,
    SHAPE,
    SMALL,
    SPACING,
    constant_model,
    write_dataset,
    write_nifti,
)

OFFSETS = {"drmc": 0.05, "baseline": 0.5, "a": 0.1, "b": -0.3}
NLM = {"nlm_strength": [0.5, 1.0, 2.0], "nlm_patch": [3], "nlm_reach": [2], "nlm_slab_mm": 8.0}


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(tmp_path / "data")


def configured(dataset: Path, tmp_path: Path, /, **changes) -> Path:
    """A configuration of the short form, or of what `changes` says."""
    paths = {n: str(constant_model(tmp_path / "model" / f"{n}.pt", o)) for n, o in OFFSETS.items()}
    values = {
        "dataset": str(dataset),
        "output": str(tmp_path / "out"),
        "tuning_dataset": str(dataset),
        "gaussian_fwhm_mm": [1.0, 6.0, 40.0],
        "device": "cpu",
        "precision": "fp32",
        "spots": 0,  # test_evaluation_spots.py
        "keep_means": False,  # the models of these tests add a constant
        **changes,
    }
    if "methods" not in values and "model" not in values:
        values["model"] = paths["drmc"]
    if "methods" in values:
        values["methods"] = [with_models(method, paths) for method in values["methods"]]
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    return path


def with_models(method: dict, paths: dict[str, str]) -> dict:
    """A method with the files of the models that it names; one whose name is a model's gets that."""
    if "models" in method:
        return {**method, "models": {c: paths[m] for c, m in method["models"].items()}}
    return {"model": paths[method["name"]], **method} if method["name"] in paths else method


def evaluated(path: Path, *options: str) -> dict:
    assert cli.main(["evaluate", str(path), *options]) == 0
    return json.loads((Path(json.loads(path.read_text())["output"]) / "evaluation.json").read_text())


def images_of(dataset: Path, case: str, dose: float) -> tuple[np.ndarray, np.ndarray]:
    names = ("full.nii.gz", f"low{dose:g}.nii.gz")
    full, low = (read_volume(dataset / case / name, units="suv").suv_array() for name in names)
    return full, low


def test_the_table_follows_from_the_images(dataset, tmp_path, capsys):
    result = evaluated(configured(dataset, tmp_path))
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert result["data"] == "simulated" and result["patients"] == {"A": 1, "B": 1}
    found = {(r["center"], r["dose_reduction_factor"], r["method"]): r for r in result["table"]}
    assert set(found) == {
        (c, d, m) for c, d in (("A", 4), ("B", 3), ("B", 12)) for m in ("low", "gaussian", "drmc")
    }
    chosen = {(c["center"], c["dose_reduction_factor"]): c["parameters"] for c in result["tuning"]["chosen"]}
    deep = deep_inside()
    assert deep.sum() > 50
    for (center, dose, method), record in found.items():
        full, low = images_of(dataset, f"{center}-test", dose)
        tuning_full, tuning_low = images_of(dataset, f"{center}-train", dose)
        widths = (1.0, 6.0, 40.0)
        scores = [psnr(gaussian_filter(tuning_low, SPACING, w), tuning_full) for w in widths]
        best = widths[int(np.argmax(scores))]
        assert chosen[center, dose] == {"fwhm_mm": best}
        estimate = {
            "low": lambda low=low: low,
            "drmc": lambda low=low: low + OFFSETS["drmc"],
            "gaussian": lambda low=low, best=best: gaussian_filter(low, SPACING, best),
        }[method]()
        expected, before = psnr(estimate, full), psnr(low, full)  # all of these images is body
        assert record["psnr"] == record["psnr_2mm"] == pytest.approx(expected, abs=1e-3)
        assert record["psnr_gain"] == pytest.approx(expected - before, abs=1e-3)
        assert record["psnr_share"] == pytest.approx((expected - before) / attainable_gain_db(dose), abs=1e-3)
        assert record["nrmse"] == pytest.approx(nrmse(estimate, full), rel=1e-4)
        assert record["ssim"] == pytest.approx(ssim(estimate, full), rel=1e-4)
        assert record["body_mean_change"] == pytest.approx(estimate.mean() / low.mean() - 1, abs=1e-5)
        assert record["body_mean_bias"] == pytest.approx(estimate.mean() / full.mean() - 1, abs=1e-5)
        differences = {
            name: estimate[mask].mean() / full[mask].mean() - 1 for name, mask in (("1", LARGE), ("2", SMALL))
        }
        assert record["B_mean"] == pytest.approx(np.mean(np.abs(list(differences.values()))), abs=1e-5)
        assert record["B_mean_signed"] == pytest.approx(np.mean(list(differences.values())), abs=1e-5)
        assert record["psnr_legacy"] == pytest.approx(psnr_legacy(estimate, full), abs=1e-3)
        assert record["ssim_legacy"] == pytest.approx(ssim_legacy(estimate, full), rel=1e-4)
        assert record["lesions"] == 1  # the other one has 8 mm
        assert record["bias_mean"] == pytest.approx(differences["1"], abs=1e-5)
        assert record["label"] == (f"gaussian {best:g} mm" if method == "gaussian" else method)
        liver = estimate[deep]
        assert record["liver_cov"] == pytest.approx(liver.std(ddof=1) / liver.mean(), rel=1e-4)
        assert [
            r["value"]
            for r in rows
            if (r["center"], r["method"], r["metric"]) == (center, method, "psnr")
            and float(r["dose_reduction_factor"]) == dose
        ] == [f"{record['psnr']:.6f}"]
    table = (out / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert f"| {found['A', 4, 'drmc']['psnr']:.2f} |" in table


def deep_inside() -> np.ndarray:
    """8 mm inside the liver, which ends at the image's border, and away from both lesions."""
    padded, deep = np.pad(LIVER, 4), LIVER.copy()
    for offset in np.argwhere(np.ones((9, 9, 9))):
        if ((offset - 4) ** 2).sum() <= 16:
            deep &= padded[tuple(slice(o, o + n) for o, n in zip(offset, SHAPE, strict=True))]
    return deep & (near_lesions() < 0.02)


def near_lesions() -> np.ndarray:
    """Gaussian of 5 mm standard deviation of the lesions, edges repeated, by plain sums."""
    image = (LARGE | SMALL).astype(float)
    weights = np.exp(-0.5 * (np.arange(-10, 11) / 2.5) ** 2)
    weights /= weights.sum()
    for axis in range(3):
        padded = np.pad(image, [(10, 10) if a == axis else (0, 0) for a in range(3)], mode="edge")
        image = sum(w * np.take(padded, range(k, k + SHAPE[axis]), axis) for k, w in enumerate(weights))
    return image


def test_networks_are_applied_as_drmc_denoise_applies_them_unless_it_is_said_otherwise(dataset, tmp_path):
    """What is left of a constant when the scan's local means are held: nothing, in the middle of a body."""
    change = {}
    for keep in (False, None):  # None: the default
        folder = tmp_path / str(keep)
        folder.mkdir()
        result = evaluated(configured(dataset, folder, centers=["A"], keep_means=keep))
        change[keep] = next(r["body_mean_change"] for r in result["table"] if r["method"] == "drmc")
    assert abs(change[False]) > 1e-3
    assert abs(change[None]) < 0.05 * abs(change[False])


def test_lesions_are_compared_with_the_truth_as_well(dataset, tmp_path):
    evaluated(configured(dataset, tmp_path, centers=["A"]))
    lines = list(csv.DictReader((tmp_path / "out" / "lesions.csv").open()))
    full, low = images_of(dataset, "A-test", 4)
    truth = read_volume(dataset / "A-test" / "truth.nii.gz", units="suv").suv_array()
    estimates = {"low": low, "drmc": low + OFFSETS["drmc"], "full": full}
    checked = 0
    for line in lines:
        if line["method"] not in estimates:
            continue
        checked += 1
        image, mask = estimates[line["method"]], LARGE if line["lesion"].endswith("1") else SMALL
        volume = mask.sum() * math.prod(SPACING)
        assert float(line["diameter_mm"]) == pytest.approx(
            2 * (volume * 3 / 4 / math.pi) ** (1 / 3), abs=0.01
        )
        for against, reference in (("full", full), ("truth", truth)):
            for quantity, of in (("mean", np.mean), ("max", np.max)):
                expected = of(image[mask]) / of(reference[mask]) - 1
                assert float(line[f"{against}_{quantity}"]) == pytest.approx(expected, abs=1e-5)
    assert checked == 2 * len(estimates)


def test_a_specialist_serves_its_center_and_others_by_the_mean(dataset, tmp_path):
    rows = lambda result: {(r["center"], r["dose_reduction_factor"], r["method"]): r for r in result["table"]}
    both = [{"name": "drmc"}, {"name": "own", "models": {"A": "a", "B": "b"}}]
    found = rows(evaluated(configured(dataset, tmp_path, methods=both)))
    for center, offset in (("A", OFFSETS["a"]), ("B", OFFSETS["b"])):
        dose = 4 if center == "A" else 12
        full, low = images_of(dataset, f"{center}-test", dose)
        assert found[center, dose, "own"]["psnr"] == pytest.approx(psnr(low + offset, full), abs=1e-3)
    elsewhere = [{"name": "drmc"}, {"name": "own", "models": {"X": "a", "Y": "b"}}]
    found = rows(evaluated(configured(dataset, tmp_path, methods=elsewhere, centers=["A"])))
    full, low = images_of(dataset, "A-test", 4)
    each = [low + OFFSETS[name] for name in ("a", "b")]
    assert found["A", 4, "own"]["psnr"] == pytest.approx(np.mean([psnr(e, full) for e in each]), abs=1e-3)
    biases = [e[LARGE].mean() / full[LARGE].mean() - 1 for e in each]
    assert found["A", 4, "own"]["bias_mean"] == pytest.approx(np.mean(biases), abs=1e-5)
    model = str(tmp_path / "model" / "b.pt")
    general = [elsewhere[0], {"name": "own", "models": {"X": "a"}}]
    path = configured(dataset, tmp_path, methods=general, centers=["A"])
    written = json.loads(path.read_text())
    written["methods"][1]["model"] = model
    path.write_text(json.dumps(written))
    found = rows(evaluated(path))
    assert found["A", 4, "own"]["psnr"] == pytest.approx(psnr(low + OFFSETS["b"], full), abs=1e-3)
    elsewhere[1]["unknown"] = "leave out"
    found = rows(evaluated(configured(dataset, tmp_path, methods=elsewhere, centers=["A"])))
    assert {method for _, _, method in found} == {"low", "drmc"}


@pytest.fixture
def computed(monkeypatch) -> list[tuple[str, int]]:
    """What was computed: the method's kind and the sum of its low-dose image, to tell the patients apart."""
    seen = []
    estimate = estimators.Estimator.estimate

    def counted(self, low, full, geometry, share=None):
        seen.append((self.method, round(float(low.sum()))))
        return estimate(self, low, full, geometry, share)

    monkeypatch.setattr(estimators.Estimator, "estimate", counted)
    return seen


def without_seconds(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if ",seconds," not in line]


def test_what_is_done_is_not_done_again(dataset, tmp_path, computed):
    out = tmp_path / "out"
    first = evaluated(configured(dataset, tmp_path, methods=[{"name": "gaussian"}, {"name": "drmc"}]))
    assert len(computed) == 3 * 4  # three doses; low, gaussian, drmc, full
    text = (out / "results.csv").read_text()
    tuned = {path: path.stat().st_mtime_ns for path in (out / "tuning").rglob("*.json")}
    computed.clear()
    again = evaluated(configured(dataset, tmp_path, methods=[{"name": "gaussian"}, {"name": "drmc"}]))
    assert computed == [] and again == first and (out / "results.csv").read_text() == text

    methods = [{"name": "gaussian"}, {"name": "drmc"}, {"name": "baseline"}]
    more = evaluated(configured(dataset, tmp_path, methods=methods))
    assert [method for method, _ in computed] == ["baseline"] * 3
    kept = [r for r in more["table"] if r["method"] != "baseline"]
    assert kept == first["table"]

    computed.clear()  # another name for the same model is the same image
    named = [{"name": "ours", "model": str(tmp_path / "model" / "drmc.pt")}]
    renamed = evaluated(configured(dataset, tmp_path, methods=named))
    assert computed == [] and renamed["reference"] == "ours"

    computed.clear()  # other weights under the same name, another image of one patient
    constant_model(tmp_path / "model" / "ours.pt", 0.07)
    evaluated(configured(dataset, tmp_path, methods=[{"name": "ours", "model": "model/ours.pt"}]))
    assert [method for method, _ in computed] == ["ours"] * 3
    computed.clear()
    write_nifti(dataset / "B-test" / "low3.nii.gz", images_of(dataset, "B-test", 3)[1] + 1)
    evaluated(configured(dataset, tmp_path, methods=methods))
    assert [method for method, _ in computed] == ["low", "gaussian", "drmc", "baseline", "full"]
    assert {path: path.stat().st_mtime_ns for path in tuned} == tuned


def test_an_evaluation_that_was_broken_off_goes_on(dataset, tmp_path, monkeypatch, computed, capsys):
    path = configured(dataset, tmp_path)
    evaluated(path)
    whole, everything = without_seconds(tmp_path / "out" / "results.csv"), sorted(computed)
    broken = configured(dataset, tmp_path, output=str(tmp_path / "broken"))
    computed.clear()
    counted = estimators.Estimator.estimate

    def stops(self, *arguments):
        if len(computed) == 6:
            raise KeyboardInterrupt
        return counted(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(estimators.Estimator, "estimate", stops)
        assert cli.main(["evaluate", str(broken)]) == 130
    assert capsys.readouterr().err.endswith("drmc: canceled\n")
    assert not (tmp_path / "broken" / "results.csv").exists()
    assert not list((tmp_path / "broken").rglob(".part-*"))
    evaluated(broken)
    assert sorted(computed) == everything  # each once, over both runs
    assert without_seconds(tmp_path / "broken" / "results.csv") == whole


def test_several_processes_give_the_same(dataset, tmp_path, capsys):
    evaluated(configured(dataset, tmp_path))
    whole = without_seconds(tmp_path / "out" / "results.csv")
    capsys.readouterr()
    path = configured(dataset, tmp_path, output=str(tmp_path / "two"))
    evaluated(path, "--workers", "2", "--progress", "json")
    assert without_seconds(tmp_path / "two" / "results.csv") == whole
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events].count("outcome") == 5  # three doses that are tuned, two patients
    assert events[-1]["event"] == "result" and len(events[-1]["aims"]) == 11
    last = [e for e in events if e["event"] == "progress"][-1]
    assert last["done"] == last["total"] == 5


def test_nonlocal_means_are_those_of_the_library_and_tuned_on_other_patients(dataset, tmp_path):
    methods = [{"name": "nlm"}, {"name": "drmc"}]
    result = evaluated(configured(dataset, tmp_path, methods=methods, centers=["A"], **NLM))
    (choice,) = result["tuning"]["chosen"]
    full, low = images_of(dataset, "A-train", 4)
    level = noise_level(low, np.ones(SHAPE, bool), SPACING)
    parts = slabs(SHAPE[0], 2.0, 8.0)
    scores = {}
    for strength in NLM["nlm_strength"]:
        h = strength * level
        options = {"patch_size": 3, "patch_distance": 2, "h": h, "fast_mode": True, "preserve_range": True}
        filtered = denoise_nl_means(low.astype(float), **options)
        pieces = [np.concatenate([image[part] for part in parts]) for image in (filtered, full)]
        scores[strength] = psnr(*pieces)
    best = max(scores, key=scores.get)
    assert choice["parameters"] == {"patch": 3, "reach": 2, "strength": best}
    assert choice["psnr"] == pytest.approx(scores[best], abs=1e-3) and choice["at_the_end_of"] == [
        "strength"
    ] * (best != 1.0)
    full, low = images_of(dataset, "A-test", 4)
    filtered = nonlocal_means(low, SPACING, **choice["parameters"])
    found = next(r for r in result["table"] if r["method"] == "nlm")
    assert found["psnr"] == pytest.approx(psnr(filtered, full), abs=1e-3)


def test_nonlocal_means_in_pieces_are_those_of_the_whole():
    rng = np.random.default_rng(2)
    image = rng.normal(2, 0.5, (61, 12, 11)).astype(np.float32)
    options = {"patch_size": 5, "patch_distance": 3, "fast_mode": True, "preserve_range": True}
    whole = denoise_nl_means(image.astype(float), h=0.6, **options)
    np.testing.assert_allclose(nonlocal_means_slices(image, 0.6, 5, 3), whole, atol=1e-5)
    part = nonlocal_means_slices(image, 0.6, 5, 3, slices=slice(20, 33))
    np.testing.assert_allclose(part, whole[20:33], atol=1e-5)
    air = np.zeros((6, 7, 8), np.float32)
    np.testing.assert_array_equal(nonlocal_means(air, SPACING, patch=3, reach=2, strength=1.0), air)


def test_the_square_root_makes_noise_alike_in_faint_and_bright_organs_and_is_undone():
    rng = np.random.default_rng(5)
    levels = (0.5, 2.0, 8.0)
    images = [rng.normal(level, 0.1 * np.sqrt(level), 20000).astype(np.float32) for level in levels]
    spreads = [stabilized(image).std() for image in images]
    assert max(spreads) / min(spreads) < 1.1 < images[2].std() / images[0].std()
    suv = np.linspace(-3, 20, 60, dtype=np.float32).reshape(3, 4, 5)
    everywhere = np.ones(suv.shape, bool)
    np.testing.assert_allclose(restored(stabilized(suv), suv, everywhere), suv, atol=1e-5)
    smoothed = np.full_like(suv, stabilized(suv).mean())  # below the root of the mean
    assert restored(smoothed, suv, everywhere).mean() == pytest.approx(suv.mean(), rel=1e-5)
    assert restored(smoothed, suv, ~everywhere).mean() < suv.mean()


def test_stabilized_nonlocal_means_are_tuned_and_applied_alike(dataset, tmp_path):
    methods = [{"name": "nlm"}, {"name": "nlm_stabilized"}, {"name": "drmc"}]
    result = evaluated(configured(dataset, tmp_path, methods=methods, centers=["A"], **NLM))
    choice = next(one for one in result["tuning"]["chosen"] if one["filter"] == "nlm_stabilized")
    full, low = images_of(dataset, "A-test", 4)
    filtered = nonlocal_means(low, SPACING, **choice["parameters"], stabilize=True)
    found = {row["method"]: row["psnr"] for row in result["table"]}
    assert found["nlm_stabilized"] == pytest.approx(psnr(filtered, full), abs=1e-3)
    assert found["nlm_stabilized"] != found["nlm"]
    assert filtered.mean() == pytest.approx(low.mean(), rel=1e-4)  # the body is all of it


def test_slabs_lie_in_the_image_and_never_twice():
    assert slabs(100, 2.0, 20.0) == [slice(20, 30), slice(45, 55), slice(70, 80)]
    assert slabs(20, 2.0, 40.0) == [slice(0, 20)] and slabs(1, 2.0, 40.0) == [slice(0, 1)]
    for slices in range(1, 60):
        taken = [index for part in slabs(slices, 3.0, 40.0) for index in range(slices)[part]]
        assert taken and len(taken) == len(set(taken))


def test_the_result_goes_beside_the_model_when_asked(dataset, tmp_path):
    path = configured(dataset, tmp_path, centers=["A"])
    card = tmp_path / "model" / "drmc.json"
    before = json.loads(card.read_text())
    evaluated(path)
    assert json.loads(card.read_text()) == before and not evaluation_path(find_model(card).path).exists()
    result = evaluated(path, "--card")
    after = json.loads(card.read_text())
    assert after == {**before, "evaluation_summary": summary(result)}
    assert read_evaluation(find_model(card)) == result
    assert find_model(card).sha256 == before["sha256"] == result["model"]["sha256"]
    with pytest.raises(ValueError, match="'tile' follows from the weights"):
        add_to_card(find_model(card), {"tile": 8})


def test_the_gaussian_has_the_width_it_is_asked_for():
    impulse = np.zeros((41, 41, 41), np.float32)
    impulse[20, 20, 20] = 1
    geometry = Geometry((41, 41, 41), (2.0, 2.0, 4.0))
    smooth = gaussian_filter(impulse, geometry.spacing_zyx, 12.0).astype(float)
    assert smooth.sum() == pytest.approx(1, abs=1e-3)
    for axis, spacing in ((0, 4.0), (1, 2.0), (2, 2.0)):
        profile = smooth.sum(tuple(a for a in range(3) if a != axis))
        variance = np.sum(profile * (spacing * (np.arange(41) - 20)) ** 2)
        assert variance == pytest.approx((12.0 / np.sqrt(8 * np.log(2))) ** 2, rel=0.03)


def test_the_patients_of_earlier_trainings_make_their_centers_known(dataset, tmp_path):
    path = configured(dataset, tmp_path, centers=["A", "B"])
    earlier = {"name": "first", "training": {"patients": {"A": 3}}}
    for training, known in (
        ({"patients": {"B": 1}, "initial_weights": earlier}, {"A", "B"}),
        ({"patients": {"B": 1}, "initial_weights": {"name": "first"}}, {"B"}),
    ):
        add_to_card(find_model(tmp_path / "model" / "drmc.json"), {"training": training})
        assert set(evaluated(path)["known_centers"]) == known


def test_the_page_shows_every_center_and_needs_nothing_outside(dataset, tmp_path):
    known = {"known_centers": ["A"], "methods": [{"name": "gaussian"}, {"name": "drmc"}]}
    evaluated(configured(dataset, tmp_path, **known))
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "<script" not in page and not re.search(r'(src|href)="(?!data:)', page)
    assert "Simulated data. Research use only" in page
    assert page.count("<img") == 2 * 4 * 2  # centers, images, views
    for case in read_manifest(dataset):
        assert (case.case_id in page) == (case.split == "test")
    assert page.count('aria-label="Gain in PSNR') == 3 and page.count('aria-label="Difference of SUV') == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "validation"}, "no patient in the split 'validation'"),
        ({"centers": ["Z"]}, "of the centers asked for"),
        ({"models": "x"}, "unknown key 'models'"),
        ({"methods": [{"name": "drmc"}], "model": "x"}, "give one of them"),
        ({"methods": [{"name": "y", "modle": "x"}]}, "method 'y': unknown key 'modle'"),
        ({"methods": [{"name": "drmc"}, {"name": "drmc"}]}, "two methods are named 'drmc'"),
        ({"methods": [{"name": "low", "model": "x"}]}, "which is not low or full"),
        ({"methods": [{"name": "gaussian", "model": "x"}]}, "which has no other keys"),
        ({"methods": [{"name": "nlm"}]}, "hold no network"),
        ({"methods": [{"name": "x"}]}, "give either 'model' or 'models'"),
        ({"methods": [{"name": "drmc"}, {"name": "x", "model": "gone.pt"}]}, "'gone.pt': no such file"),
        (
            {"methods": [{"name": "gaussian"}, {"name": "drmc"}], "tuning_dataset": None},
            "tuned on other patients",
        ),
        ({"methods": [{"name": "drmc"}], "reference": "x"}, "reference 'x' is none of the methods"),
        ({"tuning_split": "test"}, "A-test is a patient of the test"),
        ({"nlm_patch": [4]}, "its size is odd"),
        ({"nlm_strength": ["much"]}, "'much' is no number above 0"),
        ({"centers": "A"}, "'centers' is a list"),
        ({"device": 1}, "device: 1 is no text"),
        ({"real_scans": [{"scan": "gone"}]}, "gone is not there"),
        ({"dataset": None}, "key 'dataset' is missing"),
        (
            {"methods": [{"name": "s", "models": {"A": "a"}}], "real_scans": [{"scan": "data"}]},
            "serves every center",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(dataset, tmp_path, capsys, changes, said):
    assert cli.main(["evaluate", str(configured(dataset, tmp_path, **changes))]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and said in errors
    assert not (tmp_path / "out").exists()


def test_null_is_as_left_out(tmp_path):
    path = tmp_path / "evaluation.json"
    told = {"dataset": "data", "output": "out", "gaussian_fwhm_mm": [1, 2.5]}
    path.write_text(json.dumps(told))
    plain = EvaluationConfig.read(path)
    assert plain.gaussian_fwhm_mm == (1, 2.5) and type(plain.gaussian_fwhm_mm[0]) is float
    nulls = dict.fromkeys(("split", "nlm_patch", "nlm_patients", "methods", "real_scans", "centers", "model"))
    path.write_text(json.dumps({**told, **nulls}))
    assert EvaluationConfig.read(path) == plain
    path.write_text(json.dumps({**told, "output": None}))
    with pytest.raises(InputError, match="key 'output' is missing"):
        EvaluationConfig.read(path)


def test_without_the_library_nonlocal_means_are_refused(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.restoration", None)
    path = configured(dataset, tmp_path, methods=[{"name": "nlm"}, {"name": "drmc"}])
    assert cli.main(["evaluate", str(path)]) == 2
    assert "pip install scikit-image" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_images_that_do_not_belong_together_are_refused(dataset, tmp_path, capsys):
    write_nifti(dataset / "A-test" / "low4.nii.gz", np.ones((20, 24, 27)))
    assert cli.main(["evaluate", str(configured(dataset, tmp_path, centers=["A"]))]) == 2
    assert "A-test: low and full dose lie on different grids" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.csv").exists()
    assert not (tmp_path / "out" / "evaluation.json").exists()
