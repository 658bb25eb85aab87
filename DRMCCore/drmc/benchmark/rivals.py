"""Other libraries that compute the oracle's graph on a CPU: ONNX Runtime and OpenVINO, where installed.

Both get the same ONNX graph, traced from the literal oracle; the engine's fused form cannot be traced. They
are not dependencies of the engine: `pip install drmc[benchmark]`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmc.benchmark.measure import relative_error
from drmc.benchmark.workload import Workload, inputs, prepare

EXTRA = "drmc[benchmark]"
NOT_INSTALLED = "not installed"
LARGEST_ERROR = 1e-3  # of the residual, in float32: beyond it another function was computed
OPSET = 17

Run = Callable[[], Any]


@dataclass(frozen=True)
class Rival:
    """A library that can compute an ONNX graph.

    Attributes:
        name: as in the table.
        packages: modules that must be importable, the library itself last.
        load: makes from an ONNX graph, its input (B, C, D, H, W) and a number of threads the function that
            computes the residual once.
    """

    name: str
    packages: tuple[str, ...]
    load: Callable[[bytes, np.ndarray, int], Run]


@dataclass(frozen=True)
class LoadedRival:
    """A rival that is ready, or the reason why not.

    Attributes:
        name, version: of the library; version None: not installed.
        run: computes the residual once; None where there is a `problem`.
        relative_error: of its residual, against the oracle in float64.
        problem: why it is not measured.
    """

    name: str
    version: str | None
    run: Run | None = None
    relative_error: float | None = None
    problem: str | None = None


def load_rivals(oracle: Workload, expected: Tensor) -> list[LoadedRival]:
    """Makes every rival ready for the oracle's tile, and computes it once with each: check and warm-up.

    Args:
        oracle: a tile of the side "oracle" in fp32 on a CPU.
        expected: its residual in float64.
    """
    graph: bytes | None = None
    loaded = []
    with _silent():
        for rival in RIVALS:
            version = _version(rival)
            if version is None:
                loaded.append(LoadedRival(rival.name, None, problem=NOT_INSTALLED))
                continue
            try:
                graph = graph or oracle_graph(oracle)
                run = rival.load(graph, inputs(oracle)[0].numpy(), torch.get_num_threads())
                error = relative_error(torch.from_numpy(run()), expected)
            except Exception as failure:  # of a foreign library, which may raise anything
                text = (str(failure).strip() or type(failure).__name__).splitlines()[0]
                loaded.append(LoadedRival(rival.name, version, problem=text))
                continue
            if error > LARGEST_ERROR:
                problem = f"its residual is another one, relative error {error:.1e}"
                loaded.append(LoadedRival(rival.name, version, relative_error=error, problem=problem))
            else:
                loaded.append(LoadedRival(rival.name, version, run, error))
    return loaded


def oracle_graph(oracle: Workload) -> bytes:
    """The oracle's network as an ONNX graph for a tile of the workload's size."""
    network, _ = prepare(oracle)
    graph = io.BytesIO()
    export: Any = torch.onnx.export  # a stream is what only the exporter of TorchScript takes
    with torch.no_grad():  # or the trace keeps what a backward pass needs
        example = (inputs(oracle)[0],)
        export(network, example, graph, dynamo=False, opset_version=OPSET, input_names=["x"])
    return graph.getvalue()


def _onnx_runtime(graph: bytes, x_BCDHW: np.ndarray, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its waiting threads must not spin: the engine's do not, and CPU seconds are compared.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x_BCDHW})[0]


def _openvino(graph: bytes, x_BCDHW: np.ndarray, threads: int) -> Run:
    # Not `openvino.convert_model`: unless told otherwise that sends usage data to its makers.
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = core.compile_model(core.read_model(io.BytesIO(graph)), "CPU", settings)
    return lambda: model(x_BCDHW)[0]


RIVALS = (
    Rival("ONNX Runtime", ("onnx", "onnxruntime"), _onnx_runtime),
    Rival("OpenVINO", ("onnx", "openvino"), _openvino),
)


def _version(rival: Rival) -> str | None:
    """The library's version; None where one of the packages is not installed."""
    try:
        modules = [importlib.import_module(package) for package in rival.packages]
    except ImportError:
        return None
    return str(getattr(modules[-1], "__version__", "?")).partition("-")[0]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the warnings and log lines of exporters and converters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
