"""The file lists of the CMakeLists.txt files; `python Testing/slicer/cmake_lists.py` writes them.

Slicer's macros install exactly what is listed: a file that is not listed is silently left out, a listed one
that is missing stops the build. The lists are the files that git tracks or would add.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = ("DRMCCore", "DRMCDenoise", "DRMCSegment", "DRMCTraining")
SHARED_FOLDERS = ("Resources/SampleData/",)


def projectFiles() -> list[str]:
    """All files of the project, tracked or new but not ignored, that exist, by their paths with `/`."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({line for line in done.stdout.splitlines() if (REPOSITORY / line).is_file()})


def expectedLists(files: list[str]) -> dict[tuple[str, str], list[str]]:
    """(CMakeLists.txt, name of the list) -> what it should hold."""
    lists = {
        ("CMakeLists.txt", "DRMC_SHARED_RESOURCES"): [one for one in files if one.startswith(SHARED_FOLDERS)]
    }
    for module in MODULES:
        own = [one.removeprefix(f"{module}/") for one in files if one.startswith(f"{module}/")]
        scripts = [one for one in own if one.endswith(".py")]
        # the engine's tables lie beside the code that reads them
        resources = [one for one in own if one.startswith(("Resources/", "drmc/")) and one not in scripts]
        lists[f"{module}/CMakeLists.txt", "MODULE_PYTHON_SCRIPTS"] = _named(scripts, module)
        lists[f"{module}/CMakeLists.txt", "MODULE_PYTHON_RESOURCES"] = _named(resources, module)
    return lists


def writtenList(cmake: str, name: str) -> list[str]:
    """What a list in a CMakeLists.txt holds now."""
    found = re.search(
        rf"^set\({name}\n(.*?)^  \)", (REPOSITORY / cmake).read_text(encoding="utf-8"), re.S | re.M
    )
    if found is None:
        raise ValueError(f"{cmake} has no list {name}")
    return found.group(1).split()


def writeList(cmake: str, name: str, entries: list[str]) -> None:
    """Puts the entries into a list of a CMakeLists.txt."""
    path = REPOSITORY / cmake
    body = "".join(f"  {entry}\n" for entry in entries)
    pattern = re.compile(rf"(^set\({name}\n).*?(^  \))", re.S | re.M)
    text = pattern.sub(lambda match: match[1] + body + match[2], path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8", newline="\n")


def _named(entries: list[str], module: str) -> list[str]:
    """The module's own files by ${MODULE_NAME}, as in Slicer's template, and first."""
    own = [one for one in entries if Path(one).stem == module]
    return [one.replace(module, "${MODULE_NAME}") for one in own] + [one for one in entries if one not in own]


if __name__ == "__main__":
    for (cmakeFile, listName), content in expectedLists(projectFiles()).items():
        writeList(cmakeFile, listName, content)
