"""Files and folders in the program that the system has for them."""

from __future__ import annotations

from pathlib import Path


def openInDesktop(path: Path) -> None:
    """Opens a page in the browser, a folder in the file manager."""
    import qt  # the module files are imported where there is no Qt, too

    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
