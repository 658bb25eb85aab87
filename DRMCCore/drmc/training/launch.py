"""How a training is started: the torchrun command for one machine or several.

    launch = Launch(Path("training.json"), processes=4)
    print(launch.shell_line())          what a user copies
    subprocess.run(launch.command())    what the module in Slicer runs

Imports no torch.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import write_json
from drmc.training.choices import NETWORKS, STRATEGIES
from drmc.training.choices import PRESETS as PRESET_SENTENCES

MAX_RESTARTS = 3
STOP_FILE = "stop"
SAVE_SECONDS = 300
PRESETS = tuple(PRESET_SENTENCES)
CONFIGURATION = "training.json"
_TORCHRUN = "torch.distributed.run"  # what the script torchrun calls; Slicer has no such script on its path


@dataclass(frozen=True)
class Launch:
    """One training as torchrun starts it on this machine.

    Several machines meet at `endpoint`. From its host name torchrun derives which of them opens the port,
    unless `node_rank` determines it (0 opens it, the others do not).

    Attributes:
        config: the configuration file, or the dataset.
        processes: processes on each machine.
        nodes: machines.
        node_rank: number of this machine.
        endpoint: HOST:PORT of one of the machines.
        max_restarts: how often torchrun starts the processes again after a failure.
        options: further arguments of `drmc train`.

    Raises:
        InputError: these contradict each other.
    """

    config: Path
    processes: int = 1
    nodes: int = 1
    node_rank: int | None = None
    endpoint: str = ""
    max_restarts: int = MAX_RESTARTS
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("processes", 1), ("nodes", 1), ("max_restarts", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)}: must be at least {least}")
        if self.nodes > 1 and not self.endpoint:
            raise InputError(
                f"{self.nodes} nodes: name the machine and port where they meet, --rendezvous HOST:PORT"
            )
        if self.node_rank is not None and not 0 <= self.node_rank < self.nodes:
            raise InputError(f"node rank {self.node_rank}: must lie between 0 and {self.nodes - 1}")
        if self.endpoint:
            self.meeting_point()

    def meeting_point(self) -> tuple[str, int]:
        """Host and port of the endpoint.

        Raises:
            InputError: it is not HOST:PORT.
        """
        host, _, port = self.endpoint.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise InputError(f"rendezvous '{self.endpoint}': write HOST:PORT with a port from 1 to 65535")
        return host.strip("[]"), int(port)

    @property
    def world(self) -> int:
        """Processes on all machines."""
        return self.processes * self.nodes

    def command(self, python: str | None = None, *, progress: str = "text") -> list[str]:
        """The command line to start the training.

        Args:
            python: the Python that runs `-m torch.distributed.run`; None: `torchrun` from the path.
            progress: `text`, or `json` for programs.
        """
        return [
            *(["torchrun"] if python is None else [python, "-m", _TORCHRUN]),
            *self._where(),
            f"--nproc-per-node={self.processes}",
            f"--max-restarts={self.max_restarts}",
            "-m",
            "drmc.training",
            os.fspath(self.config),
            *self.options,
            *([] if progress == "text" else ["--progress", progress]),
        ]

    def _where(self) -> list[str]:
        if not self.endpoint:
            return ["--standalone"]
        meeting = [f"--nnodes={self.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={self.endpoint}"]
        if self.node_rank is not None:  # c10d assigns the ranks itself; it only needs to know the host
            meeting.append(f"--rdzv-conf=is_host={int(self.node_rank == 0)}")
        return [*meeting, "--rdzv-id=drmc"]

    def environment(self, python: str | None = None) -> dict[str, str]:
        """Variables that torchrun needs in addition to the environment."""
        needed = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVE_SECONDS)}
        if python is not None:
            needed["PYTHON_EXEC"] = python  # with it torchrun starts its workers
        if sys.platform == "win32":
            needed["USE_LIBUV"] = "0"  # PyTorch's wheels for Windows are built without
        return needed

    def shell_line(self, python: str | None = None, more: dict[str, str] | None = None) -> str:
        """Command and environment as one line to paste into this system's shell.

        Args:
            python: as in `command`.
            more: further variables of the environment.
        """
        return shell_line(self.command(python), {**self.environment(python), **(more or {})})


def shell_line(command: list[str], environment: dict[str, str], *, windows: bool | None = None) -> str:
    """One line for cmd.exe or a POSIX shell (`windows` None: this system's), quoted where necessary."""
    if sys.platform == "win32" if windows is None else windows:
        settings = [f'set "{name}={value}"' for name, value in environment.items()]
        return " && ".join([*settings, subprocess.list2cmdline(command)])
    settings = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*settings, shlex.join(command)])


def new_configuration(
    dataset: Path,
    preset: str = PRESETS[0],
    run: Path | None = None,
    network: str | None = None,
    strategy: str | None = None,
) -> Path:
    """Writes a configuration for a dataset into the folder of the run, which is its output folder too.

    A configuration that exists already is not changed. The centers are those of the dataset that have
    patients for both training and validation.

    Args:
        dataset: folder of the dataset.
        preset: name of a preset.
        run: folder of the run; None: DATASET-PRESET beside the dataset, or DATASET-PRESET-NETWORK-STRATEGY
            with what is chosen.
        network: name of a network of `drmc.training.choices`; None: the preset's.
        strategy: name of a strategy; None: the preset's.

    Returns:
        The configuration file.

    Raises:
        InputError: the dataset does not exist or has no such center, a name is unknown, the choices
            contradict each other, or the folder cannot be written.
    """
    for what, name, names in (
        ("preset", preset, PRESETS),
        ("network", network, NETWORKS),
        ("strategy", strategy, STRATEGIES),
    ):
        if name is not None and name not in names:
            raise InputError(f"{what} '{name}': must be one of {', '.join(names)}")
    target, values, _ = dataset_configuration(dataset, preset, run, network, strategy)
    if not target.exists():
        if network or strategy:
            _check_choices(values)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_json(target, values)
        except OSError as error:
            raise InputError(f"{target} cannot be written ({error.strerror}): name another folder") from None
    return target


def _check_choices(values: dict[str, Any]) -> None:
    """Refuses what contradicts itself; without PyTorch, which settings of networks need, at the start."""
    if importlib.util.find_spec("torch") is not None:
        from drmc.training.config import TrainingConfig

        chosen = ", ".join(values[key] for key in ("preset", "network", "strategy") if key in values)
        TrainingConfig.from_dict(values, chosen)


def dataset_configuration(
    dataset: Path,
    preset: str,
    run: Path | None = None,
    network: str | None = None,
    strategy: str | None = None,
) -> tuple[Path, dict[str, Any], tuple[str, ...]]:
    """The configuration of a training of all centers of a dataset; nothing is written.

    Args:
        dataset: folder of the dataset.
        preset: name of a preset.
        run: folder of the run; None: one beside the dataset, as for `new_configuration`.
        network: name of a network; None: the preset's.
        strategy: name of a strategy; None: the preset's.

    Returns:
        Its file, which may exist, its content for a new one, with paths relative to the file, and the centers
        that are left out since they lack patients for training or validation.

    Raises:
        InputError: the dataset does not exist, or no center has such patients.
    """
    from drmc.datasets.manifest import load_manifest  # SimpleITK is not needed before

    path, manifest = load_manifest(dataset)
    dataset = Path(dataset).resolve()
    named = (("network", network), ("strategy", strategy))
    chosen = {key: name for key, name in named if name is not None}
    name = "-".join([dataset.name, preset, *chosen.values()])
    run = dataset.with_name(name) if run is None else Path(run).resolve()
    splits: dict[str, set[str]] = {}
    for entry in manifest.get("cases", []):
        if isinstance(entry, dict) and isinstance(entry.get("center"), str):
            splits.setdefault(entry["center"], set()).add(str(entry.get("split")))
    centers = sorted(center for center, found in splits.items() if {"train", "validation"} <= found)
    if not centers:
        raise InputError(
            f"{path}: no center has patients for both training and validation: simulate or add some"
        )
    values = {"preset": preset, "dataset": _relative(dataset, run), "output": ".", "centers": centers}
    return run / CONFIGURATION, {**values, **chosen}, tuple(sorted(splits.keys() - set(centers)))


def _relative(path: Path, start: Path) -> str:
    """Relative, so that both can be moved together; absolute if they are on different drives."""
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:
        return str(path)
