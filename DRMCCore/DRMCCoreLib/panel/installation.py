"""The Python packages that the engine needs in Slicer: which are missing, and their installation on request.

PyTorch comes through the extension PyTorch, which knows the version for the graphics card; the others through
slicer.packaging. SimpleITK and numpy are Slicer's own and are never replaced. Without a main window nothing
is ever installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import slicer
from drmc.errors import DRMCError, InputError
from slicer.i18n import tr as _

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
SLICERS_OWN = ("SimpleITK", "numpy")
TORCH = "torch"


@dataclass(frozen=True)
class Missing:
    """Missing requirements such as `torch>=2.4`; `sentence` is for the user and has the remedy."""

    requirements: tuple[str, ...]
    sentence: str
    canInstall: bool

    @property
    def names(self) -> str:
        """The names of the packages, as the user knows them."""
        return ", ".join("PyTorch" if name == TORCH else name for name in map(_nameOf, self.requirements))


def whatIsMissing(requirementsFile: str) -> Missing | None:
    """The requirements of the file that are not installed, None if all are; imports none of them."""
    requirements = tuple(one for one in _read(requirementsFile) if not _isInstalled(one))
    if not requirements:
        return None
    own = [one for one in requirements if _nameOf(one) in SLICERS_OWN]
    names = Missing(requirements, "", False).names
    if own:
        text = _("{names}: Slicer's own, but missing or too old. Install Slicer again.").format(
            names=", ".join(own)
        )
        return Missing(requirements, text, False)
    if not _isInteractive():
        return Missing(requirements, _howToInstall(names, requirements), False)
    if any(_nameOf(one) == TORCH for one in requirements) and not _hasExtension():
        return Missing(requirements, _withoutExtension(), False)
    return Missing(
        requirements, _("{names} is missing, without it nothing can be denoised.").format(names=names), True
    )


def install(requirementsFile: str) -> Missing | None:
    """Asks the user, installs what is missing, and returns what is still missing; blocks meanwhile.

    Raises DRMCError where an installation fails, InputError where it cannot be started.
    """
    missing = whatIsMissing(requirementsFile)
    if missing is None:
        return None
    if not missing.canInstall:
        raise InputError(missing.sentence)
    others = [one for one in missing.requirements if _nameOf(one) != TORCH]
    try:
        for one in missing.requirements:
            if _nameOf(one) == TORCH:
                utilities = importlib.import_module("PyTorchUtils").PyTorchUtilsLogic()
                wanted = one.removeprefix(TORCH)
                if utilities.installTorch(askConfirmation=True, torchVersionRequirement=wanted) is None:
                    return missing  # the user has declined
        if others:
            importlib.import_module("slicer.packaging").pip_ensure(others, requester="DRMC")
    except subprocess.CalledProcessError as error:
        raise DRMCError(
            _("The installation has failed (exit code {code}); the Python console says why.").format(
                code=error.returncode
            )
        ) from error
    except Exception as error:
        if "declined" not in str(error):
            raise DRMCError(_("The installation has failed: {reason}").format(reason=error)) from error
    importlib.invalidate_caches()
    return whatIsMissing(requirementsFile)


def _read(requirementsFile: str) -> list[str]:
    lines = Path(requirementsFile).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith(("#", "-"))]


def _nameOf(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0]


def _isInstalled(requirement: str) -> bool:
    if _nameOf(requirement) in SLICERS_OWN:  # Slicer's build of it may have no metadata that pip_check reads
        return importlib.util.find_spec(_nameOf(requirement)) is not None
    try:
        packaging = importlib.import_module("slicer.packaging")
    except ImportError:  # before Slicer 5.12
        return importlib.util.find_spec(_nameOf(requirement)) is not None
    return bool(packaging.pip_check(requirement))


def _hasExtension() -> bool:
    return importlib.util.find_spec("PyTorchUtils") is not None


def _isInteractive() -> bool:
    return not slicer.app.testingEnabled() and slicer.util.mainWindow() is not None


def _howToInstall(names: str, requirements: tuple[str, ...]) -> str:
    listed = " ".join(f'"{one}"' for one in requirements)
    return _("{names} is missing. Run: PythonSlicer -m pip install {listed}").format(
        names=names, listed=listed
    )


def _withoutExtension() -> str:
    return _(
        "PyTorch is missing, and so is the extension that installs it: open View > Extensions Manager, "
        "install "
        "'PyTorch', restart Slicer and come back here. Without a network: on another computer download the "
        "extension's package from extensions.slicer.org (here: Extensions Manager > Install from file), and "
        "with 'pip download torch' for the same system and Python {version} the wheel files; put these into "
        "a folder here and run: PythonSlicer -m pip install --no-index --find-links FOLDER torch"
    ).format(version=_pythonVersion())


def _pythonVersion() -> str:
    import sys

    return f"{sys.version_info[0]}.{sys.version_info[1]}"
