"""The extension's files: the installation is complete, the catalog entries keep Slicer's rules."""

from __future__ import annotations

import ast
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import cmake_lists
import pytest
from support import REPOSITORY
from support.slicer.modules import SLICER_FACING

API = json.loads((REPOSITORY / "Testing" / "host" / "pythonqt_api.json").read_text(encoding="utf-8"))
CMAKE = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
CATALOG = json.loads((REPOSITORY / "DRMC.json").read_text(encoding="utf-8"))
# The catalog's categories that are near; the reference names these among the accepted ones.
CATEGORIES = {
    "Nuclear Medicine",
    "Filtering",
    "Quantification",
    "Image Synthesis",
    "Training",
    "Segmentation",
}


def metadata(key: str) -> str:
    """A quoted single-line set(EXTENSION_...), the only form that the index' checks read."""
    found = re.findall(rf'^set\(EXTENSION_{key} "([^"\n]+)"\)', CMAKE, re.M)
    assert len(found) == 1, f"EXTENSION_{key} is not set once on a line of its own"
    return found[0]


def s4ext() -> dict[str, str]:
    """The legacy description: a keyword and its value on each line."""
    entries = {}
    for line in (REPOSITORY / "DRMC.s4ext").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition(" ")
            assert key not in entries, f"{key} twice"
            entries[key] = value
    return entries


@pytest.mark.parametrize(("cmake", "name"), list(cmake_lists.expectedLists([])))
def test_every_file_is_listed(cmake, name):
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("no git checkout to compare with")
    expected = cmake_lists.expectedLists(cmake_lists.projectFiles())[cmake, name]
    written = cmake_lists.writtenList(cmake, name)
    assert set(written) == set(expected), "run: python Testing/slicer/cmake_lists.py"
    assert len(written) == len(set(written))


@pytest.mark.parametrize("module", cmake_lists.MODULES)
def test_installed_names_collide_with_nobody(module):
    """All extensions' scripts share one folder: packages and files there must be unmistakably ours."""
    names = cmake_lists.writtenList(f"{module}/CMakeLists.txt", "MODULE_PYTHON_SCRIPTS")
    tops = {Path(name.replace("${MODULE_NAME}", module)).parts[0] for name in names}
    assert tops <= {
        "DRMCCore.py",
        "DRMCCoreLib",
        "DRMCDenoise.py",
        "DRMCDenoiseLib",
        "DRMCSegment.py",
        "DRMCSegmentLib",
        "DRMCTraining.py",
        "DRMCTrainingLib",
        "drmc",
        "Scripts",
    }
    assert {Path(name).name for name in names if name.startswith("Scripts/")} <= {
        "DRMCBatch.py",
        "DRMCSegmentBatch.py",
        "DRMCTrain.py",
    }


STAND_IN_FOR_SLICER = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR lib/qt-scripted-modules)
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${MY_UNPARSED_ARGUMENTS}")
  endif()
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${file} does not exist")
    endif()
    get_filename_component(folder ${file} DIRECTORY)
    install(FILES ${file} DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder})
  endforeach()
endmacro()
macro(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${MY_SCRIPT})
    message(FATAL_ERROR "${MY_SCRIPT} does not exist")
  endif()
endmacro()
"""


def test_an_installed_engine_finds_itself(tmp_path):
    """What CMake installs, with stand-ins for Slicer's macros, runs from there."""
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{shutil.os.environ['PATH']}")
    version = (
        subprocess.run([cmake, "--version"], capture_output=True, text=True, check=True).stdout
        if cmake
        else "0.0"
    )
    if tuple(map(int, re.search(r"(\d+)\.(\d+)", version).groups())) < (3, 28):
        pytest.skip("CMake 3.28 or later is not installed: pip install cmake")
    slicer = tmp_path / "slicer"
    slicer.mkdir()
    (slicer / "SlicerConfig.cmake").write_text(STAND_IN_FOR_SLICER)
    (slicer / "nothing.cmake").write_text("")
    prefix = tmp_path / "installed"
    configure = [
        cmake,
        "-S",
        str(REPOSITORY),
        "-B",
        str(tmp_path / "build"),
        f"-DSlicer_DIR={slicer}",
        "-DBUILD_TESTING=ON",
    ]
    # No compiler is needed: languages that the project enables by default are not used.
    done = subprocess.run(
        [*configure, f"-DCMAKE_INSTALL_PREFIX={prefix}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    subprocess.run([cmake, "--install", str(tmp_path / "build")], check=True, capture_output=True)
    modules = prefix / "lib" / "qt-scripted-modules"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import drmc.cli.main, drmc.models.registry, DRMCCoreLib.process.runner as runner\n"
        "models = drmc.models.registry.list_models(); "
        "print(runner.ENGINE_FOLDER, *[entry.path for entry in models], sep='\\n')"
    )
    environment = {**shutil.os.environ, "DRMC_MODELS": "", "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(modules)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    folder, *models = done.stdout.splitlines()
    assert Path(folder) == modules
    shipped = [
        modules / "drmc" / "models" / "data" / path.name
        for path in sorted((REPOSITORY / "DRMCCore/drmc/models/data").glob("*.pt"))
    ]
    assert sorted(map(Path, models)) == shipped


def test_the_catalog_entry_keeps_the_schema():
    """slicer-extension-catalog-entry-schema-v1.0.2, and the checks of the index on top of it."""
    text = (REPOSITORY / "DRMC.json").read_bytes()
    assert b"\r" not in text and text.endswith(b"}\n")
    assert CATALOG["$schema"].endswith("/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert set(CATALOG) <= {
        *("$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies"),
        *("dicom_support_rule", "build_subdirectory", "enabled", "tier"),
    }
    assert CATALOG["category"] in CATEGORIES
    assert CATALOG["scm_url"].startswith("https://") and CATALOG["scm_type"] in ("git", "local")
    repository = CATALOG["scm_url"].removesuffix(".git").rpartition("/")[2]
    assert re.match(r"Slicer([-_]|(?=[A-Z]))|SlicerExtension[-_]", repository)
    assert not re.fullmatch(r"[0-9a-f]{7,40}", CATALOG["scm_revision"])
    assert isinstance(CATALOG["build_dependencies"], list) and CATALOG["tier"] in range(1, 6)
    assert CATALOG["dicom_support_rule"] == "Modality == 'PT'"
    assert list(CATALOG) == ["$schema", *sorted(key for key in CATALOG if key != "$schema")]


def test_the_extension_says_who_it_is():
    assert re.search(r"^project\(DRMC\)$", CMAKE, re.M)
    assert "cmake_minimum_required(VERSION 3.28.0...3.28.0 FATAL_ERROR)" in CMAKE
    for key in ("HOMEPAGE", "ICONURL", "SCREENSHOTURLS"):
        assert metadata(key).startswith("https://")
    assert metadata("HOMEPAGE") == CATALOG["scm_url"].removesuffix(".git")
    assert metadata("CONTRIBUTORS") and len(metadata("DESCRIPTION")) < 250
    assert re.search(r'^set\(EXTENSION_DEPENDS "PyTorch"\)', CMAKE, re.M) and CATALOG[
        "build_dependencies"
    ] == ["PyTorch"]
    raw = metadata("HOMEPAGE").replace("https://github.com/", "https://raw.githubusercontent.com/")
    icon = metadata("ICONURL").removeprefix(f"{raw}/{CATALOG['scm_revision']}/")
    assert pngSize(REPOSITORY / icon) == (128, 128)
    screenshot = metadata("SCREENSHOTURLS").removeprefix(f"{raw}/{CATALOG['scm_revision']}/")
    assert min(pngSize(REPOSITORY / screenshot)) >= 480


def test_screenshots_are_small_enough_for_a_repository():
    pictures = sorted((REPOSITORY / "Resources" / "Screenshots").iterdir())
    assert {"empty.png", "ready.png", "running.png", "done.png"} <= {path.name for path in pictures}
    for path in pictures:
        assert min(pngSize(path)) > 100 and path.stat().st_size <= 300_000, path.name


def test_the_legacy_description_says_the_same():
    legacy = s4ext()
    assert set(legacy) <= {
        *(
            "scm",
            "scmurl",
            "scmrevision",
            "depends",
            "recommends",
            "build_subdirectory",
            "homepage",
            "contributors",
        ),
        *(
            "category",
            "iconurl",
            "status",
            "tier",
            "description",
            "screenshoturls",
            "enabled",
            "dicom_support_rule",
            "keywords",
        ),
    }
    for ours, theirs in (
        ("scm", "scm_type"),
        ("scmurl", "scm_url"),
        ("scmrevision", "scm_revision"),
        ("category", "category"),
        ("build_subdirectory", "build_subdirectory"),
        ("dicom_support_rule", "dicom_support_rule"),
    ):
        assert legacy[ours] == CATALOG[theirs]
    assert legacy["depends"].split() == CATALOG["build_dependencies"] and legacy["tier"] == str(
        CATALOG["tier"]
    )
    for key in ("homepage", "contributors", "iconurl", "description", "screenshoturls"):
        assert legacy[key] == metadata(key.upper())


@pytest.mark.parametrize("module", cmake_lists.MODULES)
def test_each_module_says_what_slicers_generic_test_asks(application, module):
    """WITH_GENERIC_TESTS: qSlicerModuleGenericTest fails where a text is empty, also of a hidden module."""
    registered = getattr(application.modules, module.lower())
    for name in ("title", "categories", "contributors", "helpText", "acknowledgementText"):
        assert getattr(registered, name), name


@pytest.mark.parametrize("module", cmake_lists.MODULES)
def test_each_module_has_its_icon(module):
    assert pngSize(REPOSITORY / module / "Resources" / "Icons" / f"{module}.png") == (128, 128)


def pngSize(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_requirements_are_what_the_engine_imports():
    imported = set()
    for path in (REPOSITORY / "DRMCCore" / "drmc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    of_extras = {"skimage", "onnxruntime", "openvino", "nvflare", "psutil"}  # none is needed to denoise
    outside = imported - set(sys.stdlib_module_names) - {"drmc"} - of_extras
    lines = (
        (REPOSITORY / "DRMCCore" / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    )
    required = [line for line in lines if line and not line.startswith("#")]
    assert {re.match(r"[\w-]+", line)[0] for line in required} == outside
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = ast.literal_eval(re.search(r"^dependencies = (\[.*?\])$", project, re.M | re.S)[1])
    assert sorted(required) == sorted(dependencies)
    extra = ast.literal_eval(re.search(r"^evaluation = (\[.*?\])$", project, re.M | re.S)[1])
    assert [line.startswith("scikit-image") for line in extra] == [True]
    extra = ast.literal_eval(re.search(r"^benchmark = (\[.*?\])$", project, re.M | re.S)[1])
    assert {re.match(r"[\w-]+", line)[0] for line in extra} == {"onnx", "onnxruntime", "openvino"}
    extra = ast.literal_eval(re.search(r"^federation = (\[.*?\])$", project, re.M | re.S)[1])
    assert {re.match(r"[\w-]+", line)[0] for line in extra} == {"nvflare", "psutil"}


@pytest.mark.parametrize("path", SLICER_FACING, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_only_functions_that_a_slicer_5_12_has(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("slicer.util", "slicer.packaging"):
            assert node.attr in {*API[ast.unparse(node.value)], "VTKObservationMixin", "NodeModify"}, (
                ast.unparse(node)
            )


@pytest.mark.parametrize("path", SLICER_FACING, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_heavy_at_file_scope(path):
    """Slicer imports every module at its start: no torch, and SimpleITK only inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level}
    tops = {name.partition(".")[0] for name in names}
    assert not tops & {"torch", "pydicom"}
    if path.parent.name in cmake_lists.MODULES:
        assert "SimpleITK" not in tops and len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_module_files_load_neither_torch_nor_simpleitk():
    """What Slicer's start costs: the module files, imported in a fresh stand-in without Qt."""
    code = (
        f"import sys; sys.path[:0] = [{str(REPOSITORY / 'Testing')!r}]\n"
        "import host; from pathlib import Path; host.start(withQt=False); before = set(sys.modules)\n"
        f"[host.loadModule(Path({str(REPOSITORY)!r}) / name / f'{{name}}.py') "
        "for name in ('DRMCDenoise', 'DRMCSegment', 'DRMCTraining')]\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "DRMCDenoise" in done.stdout.split()
    assert not set(done.stdout.split()) & {"torch", "SimpleITK", "pydicom"}
