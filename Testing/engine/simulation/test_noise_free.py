"""The full dose without noise: the mean over its Poisson counts, beside images that do not change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.simulation.cohort import ScanOptions, patient_seed, write_cohort
from drmc.simulation.scan import simulate_patient
from support.engine.small_scanners import COARSE

pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")
FACTOR = 4.0


@pytest.fixture(scope="module")
def scans():
    """One window without and with the image."""
    seed = patient_seed(11, "C1", "train", 2)
    options = {"axial_mm": 200.0, "dose_reduction_factors": (FACTOR,)}
    return [simulate_patient(COARSE, seed, noise_free=one, **options) for one in (False, True)]


def test_the_other_images_are_the_same_bit_for_bit(scans):
    plain, both = scans
    assert plain.noise_free is None and both.noise_free.shape == both.full.shape
    assert np.array_equal(plain.full, both.full) and np.array_equal(plain.low[FACTOR], both.low[FACTOR])
    assert plain.facts == both.facts


def test_the_noise_of_both_doses_lies_around_it(scans):
    """Variance is as one over the dose; low dose has the noise of full dose, of which it is a part."""
    scan = scans[1]
    body = scan.noise_free > 0.3
    full, low = ((image - scan.noise_free)[body] for image in (scan.full, scan.low[FACTOR]))
    assert abs(full.mean()) < 0.01 * scan.noise_free[body].mean()
    assert low.var() / full.var() == pytest.approx(FACTOR, rel=0.2)
    assert (low * full).mean() / full.var() == pytest.approx(1.0, rel=0.2)


def test_it_is_a_file_of_the_case_that_manifest_and_validation_know(tmp_path):
    options = ScanOptions(dose_reduction_factors=(FACTOR,), axial_mm=60.0, noise_free=True)
    write_cohort(tmp_path, [COARSE], 1, seed=3, options=options)
    (case,) = read_manifest(tmp_path)
    assert case.noise_free.name == "noise_free.nii.gz"
    assert main(["validate", str(tmp_path)]) == 0
    with pytest.raises(InputError, match="made with noise_free True, not False"):
        write_cohort(tmp_path, [COARSE], 1, seed=3, options=replace(options, noise_free=False))
    case.noise_free.unlink()
    assert main(["validate", str(tmp_path)]) == 2
