"""The modules' self tests of make test-slicer, in the stand-in with its main window."""

from __future__ import annotations

import pytest

TESTS = {
    "DRMCDenoise": (
        *("test_batch", "test_candidates", "test_comparison", "test_reading", "test_refusal"),
        *("test_sample_by_click", "test_sample_patient"),
    ),
    "DRMCSegment": ("test_organs_of_a_segmentation", "test_refusal"),
    "DRMCTraining": ("test_command", "test_training"),
}


@pytest.fixture
def mainWindow(qtSlicer):
    from host.mainwindow import MainWindow

    window = MainWindow()
    yield window
    window.close()


@pytest.mark.parametrize("name", ["DRMCDenoise", "DRMCSegment", "DRMCTraining"])
def test_a_modules_own_tests_pass_and_say_what_ran(qtSlicer, mainWindow, capsys, monkeypatch, name):
    pytest.importorskip("torch")
    import importlib

    # The stand-in cannot execute a module's file again, and has neither a printer nor a DICOM database.
    monkeypatch.delattr("DRMCDenoiseLib.selftest.DRMCDenoiseTest.test_dicom_database")
    monkeypatch.setattr("DRMCDenoiseLib.selftest.DRMCDenoiseTest.checkPDF", lambda self, report: None)
    monkeypatch.setattr("DRMCDenoiseLib.selftest.DRMCDenoiseTest.reloaded", lambda self, panel: panel)
    getattr(importlib.import_module(name), f"{name}Test")().runTest(msec=100)
    said = capsys.readouterr().out
    for one in TESTS[name]:
        assert f"DRMC self test {name}Test.{one}: passed" in said
    assert said.count(": started") == said.count(": passed") == len(TESTS[name])


@pytest.mark.parametrize("name", ["DRMCDenoise", "DRMCSegment", "DRMCTraining"])
def test_they_fail_where_a_panel_does_not_open(qtSlicer, mainWindow, monkeypatch, name):
    """Slicer prints what a panel's set-up raises and goes on; the tests must see it."""
    import importlib

    test = getattr(importlib.import_module(name), f"{name}Test")()
    monkeypatch.setattr("DRMCCoreLib.panel.panel.Panel.observeScene", lambda self: None)
    test.setUp()
    with pytest.raises(AssertionError, match=f"the panel of {name} did not open"):
        test.openPanel(name)
    test.tearDown()


GOOD = [
    f"DRMC self test {name}Test.{one}: {what}"
    for name, tests in TESTS.items()
    for one in tests
    for what in ("started", "passed")
]


@pytest.mark.parametrize(
    ("lines", "exitCode", "reason"),
    [
        (GOOD, 0, None),
        (GOOD, 1, "exit code 1"),
        (GOOD, None, "did not end"),
        ([], 0, "no test of DRMCDenoise ran"),
        ([line for line in GOOD if "Training" not in line], 0, "no test of DRMCTraining ran"),
        (GOOD[:-1], 0, "DRMCTrainingTest.test_training did not come to its end"),
        # what Slicer 5.12.3 printed of a panel that did not open, and went on
        ([*GOOD[:2], "Traceback (most recent call last):", *GOOD[2:]], 0, "Python error"),
        ([*GOOD, "AttributeError: '' object has no attribute 'headerFormLayout'"], 0, "headerFormLayout"),
    ],
)
def test_a_slicer_that_prints_an_error_and_goes_on_has_failed(lines, exitCode, reason):
    from run_in_slicer import judged

    passed, reasons = judged(lines, exitCode)
    assert (reasons == []) if reason is None else any(reason in one for one in reasons)
    assert len(passed) == sum(line.endswith("passed") for line in lines)


def test_the_modules_that_are_tested_there_are_those_of_the_extension():
    import cmake_lists
    import run_in_slicer

    assert run_in_slicer.MODULES == tuple(cmake_lists.MODULES)
    assert f"TESTED = {run_in_slicer.TESTED!r}".replace("'", '"') in (
        (run_in_slicer.REPOSITORY / "Testing" / "slicer" / "in_slicer.py").read_text(encoding="utf-8")
    )
