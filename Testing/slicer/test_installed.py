"""In Slicer (ctest) and in the stand-in (pytest): both modules load, the batch script refuses in a line."""

from __future__ import annotations

import subprocess
import tempfile
import unittest
from pathlib import Path

try:
    import host
except ImportError:  # in Slicer
    host = None


class InstalledTest(unittest.TestCase):
    """What the installation must hold."""

    @classmethod
    def setUpClass(cls):
        if host is not None:
            reason = host.missingCore()
            if reason is not None:
                raise unittest.SkipTest(reason)
            slicer = host.start()
            for name in ("DRMCCore", "DRMCDenoise", "DRMCSegment", "DRMCTraining"):
                if not hasattr(slicer.modules, name.lower()):
                    host.loadModule(Path(__file__).resolve().parents[2] / name / f"{name}.py")

    def test_both_modules_are_registered(self):
        import slicer

        for name in ("DRMCCore", "DRMCDenoise", "DRMCSegment", "DRMCTraining"):
            self.assertTrue(Path(slicer.util.modulePath(name)).is_file())

    def test_the_batch_script_refuses_with_exit_code_2(self):
        import slicer
        from DRMCCoreLib.process.runner import pythonExecutable

        script = Path(slicer.util.modulePath("DRMCDenoise")).parent / "Scripts" / "DRMCBatch.py"
        with tempfile.TemporaryDirectory() as folder:
            arguments = [str(Path(folder) / "nothing"), "-o", str(Path(folder) / "out")]
            done = subprocess.run(
                [pythonExecutable(), str(script), *arguments], capture_output=True, text=True, check=False
            )
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("nothing", done.stderr)
            self.assertFalse((Path(folder) / "out").exists())
