"""Runs the modules' self tests (make test-slicer): Slicer --testing --python-script in_slicer.py."""

import traceback
import unittest

import slicer

TESTED = ("DRMCDenoise", "DRMCSegment", "DRMCTraining")


def main() -> int:
    failed = 0
    for name in TESTED:
        try:
            slicer.selfTests[name]()
        except unittest.SkipTest as reason:
            print(f"DRMC self test {name}: skipped, {reason}", flush=True)
            failed += 1  # what was skipped did not show that it works
        except Exception:
            traceback.print_exc()
            print(f"DRMC self test {name}: FAILED", flush=True)
            failed += 1
    return 1 if failed else 0


slicer.util.exit(main())
