"""The rules of the house: where the arrows go, what an import costs, that everything public is explained."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drmc.models.weights import save_model
from support import REPOSITORY
from support.engine.denoising_cases import tiny_network, write_case

ENGINE = REPOSITORY / "DRMCCore" / "drmc"
SOURCES = sorted(ENGINE.rglob("*.py"))
SHIPPED = [path for folder in ENGINE.parents[1].glob("DRMC*") for path in sorted(folder.rglob("*.py"))]
NAMES = [str(path.relative_to(ENGINE)) for path in SOURCES]
HOSTS = {"slicer", "qt", "ctk", "vtk", "PythonQt", "PySide6"}
TRAINING_ROOMS = (
    "simulation",
    "training",
    "federation",
    "evaluation",
    "segmentation",
    "datasets",
    "benchmark",
)
SAID_BY_THE_CLASS = {"forward", "to_dict", "from_dict"}
MAY_HOLD_TORCH = (
    "runtime/precision.py",
    "imaging/smoothing.py",
    "measures/spots.py",
    "networks",
    "organs/inputs.py",
    "organs/scores.py",
    "inference",
    "simulation",
    "training",
    "federation",
    "evaluation",
    "segmentation",
    "benchmark",
)


def _module(path: Path) -> str:
    parts = ("drmc", *path.relative_to(ENGINE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, *, at_import: bool = False) -> set[str]:
    """Absolute names of the modules that a file imports; `at_import`: only those its own import costs."""
    found: set[str] = set()
    package = _module(path).split(".")[: None if path.name == "__init__.py" else -1]

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                prefix = ".".join([*base, *([child.module] if child.module else [])])
                found.add(prefix)
                found.update(f"{prefix}.{alias.name}" for alias in child.names)
            elif at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            elif at_import and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_torch_is_imported_where_it_is_first_needed(path: Path):
    if not path.relative_to(ENGINE).as_posix().startswith(MAY_HOLD_TORCH):
        assert "torch" not in {name.split(".")[0] for name in _imports(path, at_import=True)}


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_everything_public_has_a_docstring(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) or not tree.body else ["the module"]

    def public(owner: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.AST]]:
        for node in owner.body:
            if "overload" in map(ast.unparse, getattr(node, "decorator_list", ())):
                continue
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    yield from public(node, f"{prefix}{node.name}.")

    for name, node in public(tree, ""):
        if not ast.get_docstring(node) and name.rpartition(".")[2] not in SAID_BY_THE_CLASS:
            missing.append(name)
    assert not missing, f"{path.name}: no docstring on {', '.join(missing)}"


def test_files_and_functions_are_short():
    """A file is read in one sitting, a function on one screen: 500 and 70 lines."""
    long = []
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8")
        long += [path.name] if text.count("\n") > 500 else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 70:
                long.append(f"{path.name}: {node.name}")
    assert len(SHIPPED) > 300 and not long


def test_no_test_module_imports_another():
    """What several test modules use lies in Testing/support: each can then be run, moved and read alone."""
    found, tests = [], sorted((REPOSITORY / "Testing").rglob("*.py"))
    names = {path.stem for path in tests if path.name.startswith(("test_", "conftest"))}
    for path in tests:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += (
                [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            found += [f"{path.name}: {name}" for name in modules if names & set(name.split("."))]
    assert len(names) > 90 and not found


@pytest.mark.parametrize(
    "module", ["drmc", "drmc.cli.main", "drmc.denoising.pipeline", "drmc.models.registry"]
)
def test_importing_costs_no_torch(module: str):
    assert "torch" not in _loaded_after(f"import {module}")


def test_help_costs_neither_torch_nor_simpleitk():
    code = "from drmc.cli.main import main; assert main(['--help']) == 0"
    assert not _loaded_after(code) & {"torch", "SimpleITK", "pydicom", "numpy"}


def test_denoising_loads_no_room_of_training(tmp_path: Path):
    save_model(tmp_path / "tiny.pt", tiny_network(), 16)
    paths = write_case(tmp_path / "case")
    fields = {"input": paths["low"], "output": tmp_path / "out", "model": tmp_path / "tiny.pt"}
    fields |= {"lesions": paths["lesions"], "reference": paths["full"], "device": "cpu"}
    texts = {key: str(value) for key, value in fields.items()}
    loaded = _loaded_after(
        "from drmc.denoising.request import DenoiseRequest; from drmc.denoising.pipeline import run; "
        f"run(DenoiseRequest(**{texts!r}))"
    )
    assert (tmp_path / "out" / "summary.json").is_file() and "torch" in loaded
    assert not [name for name in loaded if name.startswith(tuple(f"drmc.{room}" for room in TRAINING_ROOMS))]
    assert not {name.split(".")[0] for name in loaded} & {*HOSTS, "matplotlib", "scipy", "tqdm"}


def _loaded_after(code: str) -> set[str]:
    """Names in sys.modules of a fresh interpreter that ran `code`."""
    report = "import sys; print('\\n', *sys.modules, sep='\\n', file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())
