"""Denoises a scan or a folder of scans from Slicer without a window, or from any Python.

    Slicer --no-splash --no-main-window --python-script DRMCBatch.py -- SCANS -o OUT --lesions MASKS --resume
    python DRMCBatch.py SCANS -o OUT

The arguments are those of `drmc denoise`, and `--pdf`: in Slicer, each report becomes report.pdf, too. Shows
no dialog. The exit code is the engine's: 0 done, 1 failed, 2 refused, 130 canceled.
"""

from __future__ import annotations

import sys
from pathlib import Path

PDF, REFUSED = "--pdf", 2


def findModules() -> None:
    """Makes DRMCCoreLib importable: beside this module where installed, in its own folder in the sources."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here.parent / "DRMCCore", here):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def writePDFs(arguments: list[str]) -> None:
    """Prints every report of the output folder that has no PDF of its own time beside it."""
    from DRMCCoreLib.panel.printing import writePDF

    folder = Path(outputOf(arguments))
    for report in sorted(folder.rglob("report.html")):
        path = report.with_name("report.pdf")
        if not path.exists() or path.stat().st_mtime < report.stat().st_mtime:
            writePDF(report.read_text(encoding="utf-8"), path)
            print(path, flush=True)


def outputOf(arguments: list[str]) -> str:
    """The folder that the arguments name by -o or --output; here if they name none."""
    for place, one in enumerate(arguments):
        if one in ("-o", "--output") and place + 1 < len(arguments):
            return arguments[place + 1]
        if one.startswith("--output="):
            return one.partition("=")[2]
    return "."


def main(argv: list[str]) -> int:
    """Runs `drmc denoise` in a child process, prints its output, and returns its exit code."""
    findModules()
    from DRMCCoreLib.process.scripted import runEngine, scriptArguments

    arguments = scriptArguments(argv)
    isPDF = PDF in arguments
    arguments = [one for one in arguments if one != PDF]
    if isPDF and not hasattr(sys.modules.get("slicer"), "app"):
        print(f"{PDF}: needs Slicer, whose printer makes the PDF: leave it out", file=sys.stderr)
        return REFUSED
    exitCode = runEngine("denoise", arguments)
    if isPDF and exitCode in (0, 1):  # of a batch, some may have failed
        try:
            writePDFs(arguments)
        except OSError as error:
            print(f"{error.filename or 'report.pdf'}: cannot be written ({error.strerror})", file=sys.stderr)
            return 1
    return exitCode


if __name__ == "__main__":
    exitCode = main(sys.argv)
    from DRMCCoreLib.process.scripted import leave  # main has made it importable

    leave(exitCode)
