"""Fixtures shared by the test rings."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported, here and in every child: OpenMP's threads wait for each other by spinning, which
# costs a loaded machine several times the work of these small tensors, and one thread adds in one order.
# Where a test lets the engine choose its threads, they sleep while they wait.
for _name, _value in (("OMP_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "passive")):
    os.environ.setdefault(_name, _value)

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

pytest.register_assert_rewrite("support")
# No test is timed: on a loaded machine a drawn example takes as long as it takes.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

from support import REPOSITORY  # noqa: E402


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real PET data, never committed: DRMC_TEST_DATA or shared/data beside the checkout; else skips."""
    folder = Path(os.environ.get("DRMC_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip("no test data: set DRMC_TEST_DATA to its folder")
    return folder


# Files that simulate, train, denoise real scans or start many processes: seconds a test, and begun first, so
# that no process is left with one of them at the end.
SLOW = (
    "test_organ_training",
    "test_organ_patches",
    "test_segmenter",
    "test_segment_command",
    "test_organ_evaluation",
    "test_real_scan",
    "test_segment_options",
    "test_segment_module",
    "test_segment_trust",
    "test_trust",
    "test_audit",
    "test_acquisition_transform",
    "test_self_tests",
    "test_resume",
    "test_training_module",
    "test_training_choices",
    "test_validate",
    "test_import",
    "test_tiny",
    "test_train_dataset",
    "test_evaluation_defaults",
    "test_kinds",
    "test_cohort",
    "test_simulate_command",
    "test_cohort_images",
    "test_batch",
    "test_random_centers",
    "test_launch",
    "test_processes",
    "test_process",
    "test_dicom_nodes",
    "test_sequences",
    "test_panel",
    "test_anatomy",
    "test_anatomy_variation",
    "test_strategies",
    "test_calibration",
    "test_uncorrected",
    "test_noise_free",
    "test_semireal",
    "test_evaluation",
    "test_evaluation_spots",
    "test_training",
    "test_lesions",
    "test_wheel",
    "test_spots",
    "test_virtual_spots",
    "test_staging",
    "test_texts",
    "test_benchmark",
    "test_file_openings",
    "test_public_api",
    "test_structured_report",
    "test_segmentation_object",
    "test_input_section",
    "test_panel_page",
    "test_comparison_networks",
    "test_troubleshooting",
    "test_full_dose_intervals",
    "test_interval_command",
    "test_flmrcm",
    "test_loopback",
    "test_stopped_run",
    "test_federated_strategy",
    "test_adversarial",
    "test_strength",
    "test_strength_section",
    "test_reproduce_tiny",
    "test_reproduce",
    "test_interference",
    "test_database_section",
    "test_batch_section",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of slow files and puts them first, in the order of SLOW."""
    place = {name: number for number, name in enumerate(SLOW)}
    for item in items:
        if item.path.stem in place:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: place.get(item.path.stem, len(SLOW)))
