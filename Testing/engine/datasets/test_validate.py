"""`drmc validate`: every planted fault is found by name, clean data have none; the fingerprint of content."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli.main import main
from drmc.datasets.manifest import read_manifest
from drmc.datasets.validation.checks import examine
from drmc.datasets.validation.findings import CODES
from drmc.datasets.validation.fingerprint import fingerprint
from drmc.datasets.validation.index import write_index
from drmc.datasets.validation.measures import noise
from drmc.errors import InputError
from drmc.imaging.files import read_image, write_image
from drmc.imaging.geometry import Geometry
from drmc.runtime.progress import JsonProgress
from drmc.simulation.cohort import write_cohort
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.engine.small_scanners import BODY, HEAD

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")

GRID = Geometry((18, 22, 24), (4.0, 4.0, 4.0), (-46.0, -42.0, 10.0))
FACTORS = (4.0, 12.0)
CASES = [f"{center}-{index}" for center in ("A", "B") for index in range(4)]
SPARE = "A-0"  # what faults that need a second case copy from; it gets none of its own
IMAGES = ("full", "low_drf004", "low_drf012", "lesions", "organs", "truth")


def make_case(folder: Path, seed: int) -> None:
    """An ellipsoid of SUV 1 with hot spots of its own; doses are thinned from one another, as counts are."""
    rng = np.random.default_rng(seed)
    middle = [(n - 1) / 2 + rng.uniform(-1, 1) for n in GRID.shape]
    axes = np.ogrid[tuple(slice(n) for n in GRID.shape)]
    radii = rng.uniform(7, 10, 3)
    body = sum(((a - m) / r) ** 2 for a, m, r in zip(axes, middle, radii, strict=True)) < 1
    truth = body * rng.uniform(0.8, 1.3)
    hot = np.zeros(GRID.shape, np.uint8)
    for label in (1, 2, 3):
        z, y, x = (int(m + rng.uniform(-4, 4)) for m in middle)
        truth[z : z + 3, y : y + 3, x : x + 3] = rng.uniform(3, 9)
        hot[z : z + 3, y : y + 3, x : x + 3] = label
    grain = lambda variance: np.sqrt(variance) * 0.04 * np.sqrt(truth) * rng.standard_normal(GRID.shape)
    images = {"truth": truth, "full": truth + grain(1), "lesions": hot, "organs": body}
    for factor in FACTORS:
        images[f"low_drf{factor:03g}"] = images["full"] + grain(factor - 1)
    folder.mkdir(parents=True)
    for name, image in images.items():
        put(folder, name, image)
    facts = {
        "Units": "SUV",
        "BodyWeight": 70.0,
        "InjectedRadioactivity": 300.0,
        "ManufacturersModelName": "M",
    }
    facts |= {"InjectedRadioactivityUnits": "MBq", "DoseReductionFactors": list(FACTORS)}
    (folder / "pet.json").write_text(json.dumps(facts))


def put(folder: Path, name: str, array: np.ndarray, geometry: Geometry = GRID) -> None:
    write_image(folder / f"{name}.nii.gz", array.astype(np.float32), geometry)


def get(folder: Path, name: str) -> np.ndarray:
    return sitk.GetArrayFromImage(read_image(folder / f"{name}.nii.gz"))


def change(folder: Path, name: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
    put(folder, name, how(get(folder, name)))


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """Two centers of four cases without a fault."""
    folder = tmp_path_factory.mktemp("clean") / "data"
    entries = []
    for number, name in enumerate(CASES):
        make_case(folder / name[0] / name, number)
        place = lambda image, name=name: f"{name[0]}/{name}/{image}.nii.gz"
        low = {f"{factor:g}": place(f"low_drf{factor:03g}") for factor in FACTORS}
        entry = {
            "id": name,
            "center": name[0],
            "split": "train" if number % 4 else "test",
            "full": place("full"),
        }
        entry |= {"low": low, **{key: place(key) for key in ("lesions", "organs", "truth")}}
        entries.append({**entry, "facts": f"{name[0]}/{name}/pet.json"})
    (folder / "dataset.json").write_text(json.dumps({"schema": 1, "cases": entries}))
    return folder


# ---- faults


class Planter:
    """A copy of the clean dataset for planted faults; `entry` and `folder` are those of the faulty case."""

    def __init__(self, clean: Path, folder: Path):
        self.dataset = Path(shutil.copytree(clean, folder))
        self.manifest = json.loads((folder / "dataset.json").read_text())

    def plant(self, code: str, name: str) -> None:
        self.entry = next(entry for entry in self.manifest["cases"] if entry["id"] == name)
        self.folder = self.dataset / name[0] / name
        FAULTS[code](self)

    def facts(self, name: str = "", **values: object) -> None:
        path = (self.dataset / name[0] / name if name else self.folder) / "pet.json"
        facts = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))

    def copy_from_spare(self, *names: str) -> None:
        for name in names:
            shutil.copy(self.dataset / SPARE[0] / SPARE / f"{name}.nii.gz", self.folder / f"{name}.nii.gz")

    def swap(self, first: str, second: str) -> None:
        a, b = get(self.folder, first), get(self.folder, second)
        put(self.folder, first, b)
        put(self.folder, second, a)

    def found(self) -> list:
        (self.dataset / "dataset.json").write_text(json.dumps(self.manifest))
        return examine(self.dataset)[0]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def with_nan(array: np.ndarray) -> np.ndarray:
    array[4, 5, 6] = np.nan
    return array


def some_below_zero(array: np.ndarray) -> np.ndarray:
    return np.where(np.arange(array.size).reshape(array.shape) % 25 == 0, -0.2, array)


def near_copy(p: Planter) -> None:
    p.copy_from_spare(*IMAGES)
    rng = np.random.default_rng(5)
    for name in IMAGES[:3]:  # scanned again, and with another weight
        change(
            p.folder,
            name,
            lambda array: 0.9 * array + 0.01 * (array > 0.1) * rng.standard_normal(array.shape),
        )


def another_body_uncorrected(p: Planter) -> None:
    """Both images have one; that of the full dose shows a body beside the body."""
    for key, name, shift in (("1", "full", 10), ("4", "low_drf004", 0)):
        put(p.folder, f"{name}_nac", 0.3 * np.roll(get(p.folder, name), shift, axis=2))
        p.entry.setdefault("uncorrected", {})[key] = f"{p.entry['center']}/{p.entry['id']}/{name}_nac.nii.gz"


def another_patient(p: Planter) -> None:
    """A low dose with the grid and the activity of the right one."""
    own, other = get(p.folder, "low_drf012"), get(p.dataset / SPARE[0] / SPARE, "low_drf012")
    put(p.folder, "low_drf012", other * (own.sum() / other.sum()))


def scale(factor: float, *names: str) -> Callable[[Planter], None]:
    return lambda p: [change(p.folder, name, lambda array: array * factor) for name in names]


SHIFTED = Geometry(GRID.shape, GRID.spacing, (-44.0, -42.0, 10.0))
FAULTS: dict[str, Callable[[Planter], object]] = {
    "manifest.entry": lambda p: p.entry.pop("split"),
    "manifest.split": lambda p: p.entry.update(split="holdout"),
    "manifest.unlisted": lambda p: make_case(p.folder.with_name(p.folder.name + "-new"), 99),
    "file.missing": lambda p: (p.folder / "low_drf004.nii.gz").unlink(),
    "file.unreadable": lambda p: truncate(p.folder / "full.nii.gz"),
    "facts.unreadable": lambda p: (p.folder / "pet.json").write_text("{"),
    "facts.weight": lambda p: p.facts(BodyWeight=0.07),
    "facts.activity": lambda p: p.facts(InjectedRadioactivityUnits="GBq"),
    "units.unknown": lambda p: p.facts(Units="kBq/ml"),
    "units.unstated": lambda p: p.facts(Units=None),
    "units.implausible": scale(5000.0, "full", "low_drf004", "low_drf012"),
    "voxels.not-finite": lambda p: change(p.folder, "low_drf012", with_nan),
    "voxels.constant": scale(0.0, "full"),
    "voxels.negative": lambda p: change(p.folder, "low_drf012", some_below_zero),
    "geometry.differs": lambda p: put(p.folder, "low_drf004", get(p.folder, "low_drf004"), SHIFTED),
    "labels.grid": lambda p: put(p.folder, "lesions", get(p.folder, "lesions"), SHIFTED),
    "labels.values": scale(0.5, "organs"),
    "dose.factor": lambda p: p.facts(DoseReductionFactors=[4, 20]),
    "dose.identical": lambda p: put(p.folder, "low_drf004", get(p.folder, "full")),
    "dose.noise": lambda p: p.swap("full", "low_drf004"),
    "dose.order": lambda p: p.swap("low_drf012", "low_drf004"),
    "dose.activity": scale(0.25, "low_drf004"),
    "truth.activity": scale(2.0, "truth"),
    "body.differs": another_body_uncorrected,
    "body.unlike": another_patient,
    "duplicate.id": lambda p: p.entry.update(id=SPARE),
    "duplicate.image": lambda p: p.copy_from_spare(*IMAGES),
    "duplicate.near": near_copy,
    "duplicate.patient": lambda p: p.entry.update(patient="B-0"),
    "duplicate.seed": lambda p: (p.facts(Seed=[7, 0, 0, 1]), p.facts(SPARE, Seed=[7, 0, 0, 1])),
}
NAMES_TWO = {code for code in CODES if code.startswith("duplicate.")}
WARNINGS = {"manifest.split", "manifest.unlisted", "facts.weight", "facts.activity", "units.unstated"}
WARNINGS |= {"voxels.negative", "truth.activity", "body.unlike"}


def assert_found(findings: list, code: str, name: str) -> None:
    mine = [f for f in findings if f.code == code and (f.case == name or name in f.message)]
    assert mine, f"{code} of {name} is not among {[f.line() for f in findings]}"
    assert min(f.severity for f in mine) == ("warning" if code in WARNINGS else "error")
    assert all("\n" not in f.line() for f in findings)


def test_a_clean_dataset_has_no_findings(clean):
    assert [f.line() for f in examine(clean)[0]] == []


def test_every_kind_of_finding_is_planted_below():
    assert FAULTS.keys() == CODES.keys()


@pytest.mark.parametrize("code", FAULTS)
def test_a_planted_fault_is_found_by_name_and_blames_no_other_case(clean, tmp_path, code):
    planter = Planter(clean, tmp_path / "data")
    planter.plant(code, "B-2")
    findings = planter.found()
    # a case that took another's name is named by that
    assert_found(findings, code, SPARE if code == "duplicate.id" else "B-2")
    allowed = {"", "B-2", SPARE} if code in NAMES_TWO else {"", "B-2"}
    assert {f.case for f in findings} <= allowed


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(sorted(FAULTS.keys() - NAMES_TWO)), min_size=2, max_size=len(CASES) - 1, unique=True
    )
)
def test_faults_do_not_hide_one_another(clean, tmp_path_factory, codes):
    planter = Planter(clean, tmp_path_factory.mktemp("mixed") / "data")
    names = [name for name in CASES if name != SPARE]
    for code, name in zip(codes, names, strict=False):
        planter.plant(code, name)
    findings = planter.found()
    for code, name in zip(codes, names, strict=False):
        assert_found(findings, code, name)
    assert {f.case for f in findings} <= {"", *names[: len(codes)]}


def test_a_near_copy_within_a_split_is_a_warning_and_across_splits_an_error(clean, tmp_path):
    for split, severity in (("train", "error"), ("test", "warning")):  # the spare case is a test case
        planter = Planter(clean, tmp_path / split)
        planter.plant("duplicate.near", "B-2")
        planter.entry["split"] = split
        assert [(f.severity, f.code) for f in planter.found()] == [(severity, "duplicate.near")]


def test_bq_per_ml_that_its_sidecar_turns_into_suv_is_no_fault(clean, tmp_path):
    planter = Planter(clean, tmp_path / "data")
    before = examine(planter.dataset)[1]
    planter.plant("units.implausible", "B-2")
    planter.facts(Units="Bq/mL", SUVFactor=1 / 5000)
    assert planter.found() == []
    after = examine(planter.dataset)[1]
    assert after[6].percentiles == pytest.approx(before[6].percentiles, rel=1e-5)
    pair = read_manifest(planter.dataset)[6]
    assert pair.case_id == "B-2" and pair.read(pair.full).units == "BQML"
    # SUV that say they are Bq/ml
    planter.plant("units.implausible", "B-3")
    planter.facts(Units="Bq/mL", SUVFactor=1e-8)
    assert_found(planter.found(), "units.implausible", "B-3")


def test_the_noise_measure_is_the_noise_of_white_noise_and_blind_to_slopes():
    rng = np.random.default_rng(3)
    z, y, x = np.ogrid[:30, :30, :30]
    body = np.ones((30, 30, 30), bool)
    for sigma in (0.1, 2.0):
        image = 3.0 * z - 2.0 * y + x + sigma * rng.standard_normal(body.shape)
        assert noise(image, body) == pytest.approx(sigma, rel=0.03)
    assert noise(np.zeros((30, 30, 30)), body) == 0.0
    assert noise(np.zeros((2, 30, 30)), np.ones((2, 30, 30), bool)) is None


# ---- simulated data


def test_simulated_datasets_have_no_findings_and_one_without_truth_neither(tmp_path):
    write_cohort(tmp_path, [HEAD, BODY], 1, seed=7)
    findings, measured = examine(tmp_path)
    # voxels of 9 mm show the folds of a brain rather than noise
    assert [f.line() for f in findings if (f.severity, f.code) != ("warning", "dose.noise")] == []
    assert not [f for f in findings if f.case.startswith("C1")]
    found = fingerprint(measured)
    assert len(found["sha256"]) == 64
    head, body = found["centers"]["C5"], found["centers"]["C1"]
    assert head["cases"] == body["cases"] == {"train": 1, "validation": 0, "test": 0}
    assert head["dose_reduction_factors"] == [4.0] and body["dose_reduction_factors"] == [3.0, 12.0]
    assert head["voxel_mm_zyx"] == [(9.0, 8.0, 8.0)] and body["matrix"] == [(46, 46)]
    (weight,) = set(body["weight_kg"])
    assert body["injected_mbq"] == pytest.approx([BODY.injected(weight)] * 3)
    assert head["scanners"] == ["PoleStar m660 (simulated)"]
    assert 1.1 < body["noise_ratio"]["3"] < body["noise_ratio"]["12"] < 12**0.5
    for truth in tmp_path.rglob("truth.nii.gz"):  # as older versions wrote it
        truth.unlink()
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    for entry in manifest["cases"]:
        del entry["truth"]
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    assert examine(tmp_path)[0] == findings and len(read_manifest(tmp_path)) == 2


# ---- the fingerprint


def test_the_fingerprint_is_that_of_the_content(clean, tmp_path):
    found = fingerprint(examine(clean)[1])
    planter = Planter(clean, tmp_path / "data")
    planter.manifest["cases"].reverse()
    # the same images in another format, without compression, under another name
    entry = planter.manifest["cases"][0]
    array, geometry = get(planter.dataset / "B" / "B-3", "full"), GRID
    write_image(planter.dataset / "B" / "B-3" / "dose.nrrd", array, geometry)
    entry["full"] = "B/B-3/dose.nrrd"
    planter.found()
    assert fingerprint(examine(planter.dataset)[1]) == found
    array[9, 9, 9] += 0.001
    write_image(planter.dataset / "B" / "B-3" / "dose.nrrd", array, geometry)
    assert fingerprint(examine(planter.dataset)[1])["sha256"] not in (None, found["sha256"])
    planter.manifest["cases"][1]["split"] = "validation"
    planter.found()
    assert fingerprint(examine(planter.dataset)[1])["centers"]["B"]["cases"]["validation"] == 1


def test_a_dataset_that_cannot_be_read_whole_has_no_hash(clean, tmp_path):
    planter = Planter(clean, tmp_path / "data")
    planter.plant("file.unreadable", "A-1")
    planter.found()
    assert fingerprint(examine(planter.dataset)[1])["sha256"] is None


# ---- the command


def test_the_command_prints_a_table_the_findings_and_its_exit_code(clean, tmp_path, capsys):
    assert main(["validate", str(clean)]) == 0
    printed = capsys.readouterr()
    assert "no findings" in printed.out and "0 errors, 0 warnings in 8 cases" in printed.out
    assert "100 %, 8 of 8 cases" in printed.err
    planter = Planter(clean, tmp_path / "data")
    planter.plant("facts.weight", "A-1")
    assert not any(f.severity == "error" for f in planter.found())
    assert main(["validate", str(planter.dataset)]) == 0
    planter.plant("file.missing", "A-2")
    planter.found()
    capsys.readouterr()
    assert main(["validate", str(planter.dataset)]) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("error", "warning"))]
    assert [line.split(":")[0] for line in lines] == [
        "error [file.missing] A-2",
        "warning [facts.weight] A-1",
    ]


def test_the_command_says_the_same_as_json_and_as_progress(clean, tmp_path, capsys):
    planter = Planter(clean, tmp_path / "data")
    planter.plant("dose.noise", "A-2")
    planter.found()
    assert main(["validate", str(planter.dataset), "--json"]) == 2
    printed = json.loads(capsys.readouterr().out)
    assert printed["exit_code"] == 2 and printed["errors"] >= 1 and set(printed["centers"]) == {"A", "B"}
    assert printed["findings"][0]["code"] == "dose.noise" and printed["findings"][0]["case"] == "A-2"
    assert main(["validate", str(planter.dataset), "--progress", "json"]) == 2
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["done"] for e in events if e["event"] == "progress"] == list(range(9))
    assert events[-1] == {"event": "result", **printed}


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such dataset"), ("[]", "JSON object"), ('{"cases": 3}', "not a list")]
)
def test_what_is_no_dataset_is_refused_in_one_line(tmp_path, capsys, content, said):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    assert main(["validate", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert main(["validate"]) == 2


def test_the_sheet_shows_every_case(clean, tmp_path, capsys):
    assert main(["validate", str(clean), "--sheet", str(tmp_path / "sheet")]) == 0
    page = (tmp_path / "sheet" / "sheet.html").read_text()
    assert all(name in page for name in CASES) and "axial 1/12" in page and "MIP truth" in page
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "sheet" / "A.png")))
    # 4 rows and 3 views of truth, full and two doses; the third row is that of the third patient
    assert image.min() == 0 and image.max() == 255
    assert image.shape[1] / image.shape[0] == pytest.approx(12 / 4, rel=0.5)
    quarter = image.shape[0] // 4
    assert not np.array_equal(image[:quarter], image[quarter : 2 * quarter])


# ---- the index


def strip(clean: Path, folder: Path) -> Path:
    """The clean images as a user has them: without a manifest."""
    dataset = Path(shutil.copytree(clean, folder))
    (dataset / "dataset.json").unlink()
    return dataset


def test_an_index_makes_a_dataset_whose_splits_stay(clean, tmp_path, capsys):
    dataset = strip(clean, tmp_path / "mine")
    for number in range(10):
        shutil.copytree(clean / "B" / "B-1", dataset / "B" / f"P{number:02d}")
    assert main(["validate", "--index", str(dataset)]) == 2  # copies of one patient
    assert "duplicate.image" in capsys.readouterr().out
    splits = {case.case_id: case.split for case in read_manifest(dataset)}
    assert len(splits) == 18 and set(splits.values()) >= {"train", "test"}
    with pytest.raises(InputError, match="is there already"):
        write_index(dataset)
    (dataset / "dataset.json").unlink()
    shutil.rmtree(dataset / "A" / "A-0")
    shutil.copytree(clean / "B" / "B-1", dataset / "B" / "P99")
    write_index(dataset)
    again = {case.case_id: case.split for case in read_manifest(dataset)}
    assert all(again[name] == splits[name] for name in again.keys() & splits.keys())
    shares = [list(splits.values()).count(name) / len(splits) for name in ("test", "train")]
    assert 0.02 < shares[0] < 0.45 < shares[1]


def test_scans_of_one_patient_stay_in_one_split(clean, tmp_path):
    dataset = strip(clean, tmp_path / "mine")
    for name in ("A-0", "A-1", "A-2", "A-3"):
        path = dataset / "A" / name / "pet.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "PatientID": "P1"}))
    write_index(dataset, test_share=0.5, validation_share=0.25)
    cases = [case for case in read_manifest(dataset) if case.center == "A"]
    assert {case.patient for case in cases} == {"P1"} and len({case.split for case in cases}) == 1
    assert not [f for f in examine(dataset)[0] if f.code == "duplicate.patient"]


def test_two_centers_may_have_a_patient_and_a_case_of_one_name(clean, tmp_path):
    dataset = strip(clean, tmp_path / "mine")
    for center in ("A", "B"):
        (dataset / center / f"{center}-1").rename(dataset / center / "P000")
    write_index(dataset, test_share=0.4)
    found, measured = examine(dataset)
    assert not found
    cases = {one.case.case_id: one.case for one in measured}
    assert cases["A/P000"].patient == cases["B/P000"].patient == "P000"
    path = dataset / "dataset.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["cases"]:
        entry["id"] = entry["id"].replace("/P000", "-P000").replace("B-P000", "A-P000")
    path.write_text(json.dumps(manifest))
    (twice,) = examine(dataset)[0]
    assert twice.code == "duplicate.id" and "2 cases are called A-P000 (center A, B)" in twice.message


def test_one_person_simulated_at_two_centers_stays_in_one_split(clean, tmp_path):
    planter = Planter(clean, tmp_path / "data")
    for name, split in (("A-1", "train"), ("B-1", "test")):
        planter.facts(name, Simulated=True, PatientID="semi-real-1")
        entry = next(entry for entry in planter.manifest["cases"] if entry["id"] == name)
        entry.update(patient="semi-real-1", split=split)
    (found,) = planter.found()
    assert found.code == "duplicate.patient" and "A-1, B-1" in found.message


def test_an_index_of_half_a_case_is_refused_and_writes_nothing(clean, tmp_path):
    dataset = strip(clean, tmp_path / "mine")
    for path in (dataset / "A" / "A-1").glob("low_*"):
        path.unlink()
    with pytest.raises(InputError, match="A-1 has no image low_drfNNN"):
        write_index(dataset)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no CENTER/CASE"):
        write_index(empty)
    for shares in ((0.9, 0.2), (float("nan"), 0.1), (-0.1, 0.1)):
        with pytest.raises(InputError, match="share"):
            write_index(dataset, test_share=shares[0], validation_share=shares[1])
    assert not list(tmp_path.rglob("dataset.json"))


def test_the_result_is_json_whatever_was_found(clean):
    stream = io.StringIO()
    JsonProgress(stream).result(**json.loads(json.dumps(fingerprint(examine(clean)[1]))))
    assert json.loads(stream.getvalue())["cases"] == len(CASES)
