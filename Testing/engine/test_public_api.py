"""`from drmc import ...`: the public names, what importing them costs, and the pipeline's bits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import drmc
import numpy as np
import pytest
import SimpleITK as sitk
from drmc.denoising.api import denoise
from drmc.denoising.pipeline import denoise_volume, run
from drmc.denoising.request import DenoiseRequest
from drmc.errors import CanceledError, InputError
from drmc.imaging.files import read_image
from drmc.inference.denoiser import Denoiser
from drmc.models.registry import find_model
from drmc.models.weights import load_network, save_model
from drmc.pet.reading import read_volume
from support import REPOSITORY
from support.engine.denoising_cases import tiny_network, write_case

HEAVY = {"torch", "numpy", "SimpleITK", "pydicom"}
PUBLIC = {"denoise": denoise, "Denoiser": Denoiser, "find_model": find_model, "read_volume": read_volume}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weight file of the only model that can be found by name."""
    path = tmp_path / "models" / "tiny.pt"
    path.parent.mkdir()
    save_model(path, tiny_network(), 16, {"default": True})
    monkeypatch.setenv("DRMC_MODELS", str(path.parent))
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A small scan in Bq/ml."""
    return write_case(tmp_path / "case", factor=0.00025)["low"]


def loaded_after(code: str) -> set[str]:
    """Names in sys.modules of a fresh interpreter that ran `code`."""
    report = f"import sys\n{code}\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_public_names():
    assert {name: getattr(drmc, name) for name in PUBLIC} == PUBLIC
    assert set(drmc.__all__) == {*PUBLIC, "__version__"} and set(drmc.__all__) <= set(dir(drmc))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = drmc.nothing
    with pytest.raises(ImportError, match="nothing"):
        from drmc import nothing  # noqa: F401


def test_importing_the_package_costs_nothing():
    assert not loaded_after("import drmc; dir(drmc); drmc.__version__") & HEAVY


@pytest.mark.parametrize(
    ("name", "free_of"), [("find_model", HEAVY), *((n, {"torch"}) for n in ("read_volume", "denoise"))]
)
def test_a_name_costs_only_what_it_needs(name: str, free_of: set[str]):
    assert not loaded_after(f"from drmc import {name}") & free_of


def test_public_names_come_by_a_star_too():
    assert "torch" in loaded_after(
        "from drmc import *; assert denoise and Denoiser and find_model and read_volume"
    )


def test_same_bits_as_the_pipeline(tmp_path: Path, weights: Path, scan: Path):
    volume = drmc.read_volume(scan)
    before = volume.array.copy()
    calls: list[tuple[int, int]] = []
    denoised, result = drmc.denoise(volume, progress=lambda done, total, left: calls.append((done, total)))

    network, tile = load_network(find_model("tiny"))
    expected, _ = denoise_volume(volume, Denoiser(network, tile))
    assert denoised.array.tobytes() == expected.array.tobytes()
    run(DenoiseRequest(scan, tmp_path / "out", format="nrrd"))
    written = read_image(tmp_path / "out" / "denoised.nrrd")
    assert denoised.array.tobytes() == sitk.GetArrayFromImage(written).tobytes()
    assert not np.array_equal(denoised.array, before) and np.array_equal(volume.array, before)
    assert denoised.suv == volume.suv and denoised.units == volume.units
    assert result.residual.shape == before.shape and calls[-1] == (len(result.gates_TLM),) * 2


def test_a_model_may_be_given_in_any_form(weights: Path, scan: Path):
    volume = read_volume(scan)
    forms = (
        None,
        "tiny",
        weights,
        find_model("tiny"),
        Denoiser.from_model(weights, device="cpu", precision="fp32"),
    )
    bits = {denoise(volume, form)[0].array.tobytes() for form in forms}
    assert len(bits) == 1


def test_refusals(weights: Path, scan: Path):
    volume = read_volume(scan)
    with pytest.raises(InputError, match="'none': no such file and no model of that name"):
        denoise(volume, "none")
    with pytest.raises(InputError, match="precision 'fp64'"):
        denoise(volume, precision="fp64")
    with pytest.raises(InputError, match="a ready Denoiser has its own"):
        denoise(volume, Denoiser.from_model(), device="cpu")
    with pytest.raises(CanceledError):
        denoise(volume, cancel=lambda: True)


def test_the_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """On the shipped sample, with a tiny model; the shipped one is tested elsewhere."""
    text = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    save_model(tmp_path / "drmc-small-2.pt", tiny_network(), 32, {"default": True})
    monkeypatch.setenv("DRMC_MODELS", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    exec(compile(example, "python.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2
