"""make test-slicer: starts a Slicer with the modules, runs their self tests in it, and says what ran.

    python Testing/slicer/run_in_slicer.py /path/to/Slicer

Exit code 0 only if Slicer ended with 0, every module's tests ran to their end and no Python error is in the
log: an exception in a slot or in a panel's set-up is printed by Slicer, which then goes on. Needs a display.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TESTED = ("DRMCDenoise", "DRMCSegment", "DRMCTraining")
MODULES = ("DRMCCore", *TESTED)
PATIENCE_SECONDS = 3600
ERROR = re.compile(
    r"Traceback \(most recent call last\)|^\s*(\w+Error|AttributeError|SyntaxError): |: FAILED$"
)
PASSED = re.compile(r"DRMC self test (\S+): passed")
STARTED = re.compile(r"DRMC self test (\S+): started")


def judged(lines: list[str], exitCode: int | None) -> tuple[list[str], list[str]]:
    """What passed, and every reason why the whole did not, from Slicer's output."""
    passed = [found[1] for line in lines if (found := PASSED.search(line))]
    reasons = [f"Python error in the log: {line.strip()}" for line in lines if ERROR.search(line)]
    started = [found[1] for line in lines if (found := STARTED.search(line))]
    reasons += [f"{name} did not come to its end" for name in started if name not in passed]
    reasons += [
        f"no test of {module} ran" for module in TESTED if not any(name.startswith(module) for name in passed)
    ]
    if exitCode is None:
        reasons.append(f"Slicer did not end within {PATIENCE_SECONDS / 60:.0f} minutes")
    elif exitCode:
        reasons.append(f"Slicer ended with exit code {exitCode}")
    return passed, reasons


def main(slicer: str) -> int:
    # Slicer may leave an empty DICOM database where it is started.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return run(slicer, folder)


def run(slicer: str, folder: str) -> int:
    program = os.path.abspath(slicer) if os.path.exists(slicer) else slicer
    command = [program, "--no-splash", "--testing", "--disable-settings"]
    command += ["--additional-module-paths", *(str(REPOSITORY / name) for name in MODULES)]
    command += ["--python-script", str(REPOSITORY / "Testing" / "slicer" / "in_slicer.py")]
    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=folder,
        )
    except OSError as error:
        print(f"{slicer}: cannot be started ({error.strerror}): say where Slicer is", file=sys.stderr)
        return 2
    late = threading.Timer(PATIENCE_SECONDS, process.kill)
    late.start()
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line.rstrip("\n"))
    exitCode = process.wait()
    isLate = not late.is_alive()
    late.cancel()
    passed, reasons = judged(lines, None if isLate else exitCode)
    print("\n== ran in Slicer:", *(passed or ["nothing"]), sep="\n   ")
    for reason in reasons:
        print(f"== {reason}", file=sys.stderr)
    print(f"{len(passed)} passed, {len(reasons)} failed")
    return 1 if reasons else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say where Slicer is: run_in_slicer.py /path/to/Slicer")
    sys.exit(main(sys.argv[1]))
