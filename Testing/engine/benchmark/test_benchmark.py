"""`drmc benchmark`: what it compares is what it says it compares, and its figures follow from its parts."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from drmc.benchmark import (
    against_oracle,
    busy,
    measure,
    parallel,
    rivals,
    suite,
    tables,
    targets,
    whole_scan,
    workload,
)
from drmc.benchmark.rivals import Rival
from drmc.benchmark.workload import Workload, prepare
from drmc.cli import main as cli
from drmc.denoising.request import DenoiseRequest
from drmc.errors import DRMCError
from drmc.imaging.files import write_image
from drmc.imaging.resampling import GRID_MM
from drmc.inference.denoiser import Denoiser
from drmc.models.weights import save_model
from drmc.networks.drmc import DRMC, NetworkConfig
from drmc.networks.udrmc import UDRMC, UDRMCConfig
from support.engine.denoising_cases import tiny_network, tree, write_case

TINY = NetworkConfig(channels=8, blocks=2, experts=3, heads=2, hidden=4)
TILE = Workload("tile", "product", TINY, 10, "fp32", "cpu", 3)
ORACLE = dataclasses.replace(TILE, side="oracle")
STEP = dataclasses.replace(TILE, kind="training", open_gates=None)


def _load_stand_in(graph: bytes, x_BCDHW: np.ndarray, threads: int):
    """A library that looks its result up: the row's own network is not in what it gets."""
    residual = np.frombuffer(graph, np.float32).reshape(x_BCDHW.shape)
    return lambda: residual.copy()


def _stand_in_graph(oracle: Workload) -> bytes:
    return prepare(oracle)[1]()[0].numpy().tobytes()


STAND_IN = Rival("Stand-in", ("numpy",), _load_stand_in)
ABSENT = Rival("Absent", ("numpy", "no_such_package_of_drmc"), _load_stand_in)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[dict[str, Any], Path]:
    """One run of every part by the command line, on a tiny model: what it printed, and where it wrote."""
    folder = tmp_path_factory.mktemp("benchmark")
    save_model(folder / "tiny.pt", tiny_network(), 16)
    case = write_case(folder / "case")
    arguments = ["tile", "training", "scan", case["low"], "scan", case["full"], "scaling", "parallel"]
    options = ["--model", folder / "tiny.pt", "--device", "cpu", "--repeats", "1", "--note", "a note"]
    options += ["--json", "-o", folder / "out"]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text="", **_: printed.append(text))
        patch.setitem(measure.MATRIX_EDGE, "cpu", 64)
        patch.setattr(rivals, "RIVALS", (STAND_IN, ABSENT))
        patch.setattr(rivals, "oracle_graph", _stand_in_graph)
        patch.setattr(parallel, "physical_cores", lambda: 1)
        patch.setattr(parallel, "allowed_cores", lambda: 2)
        # in this process: a fresh one for each, which has a test of its own, takes seconds to start
        patch.setattr(against_oracle, "peak_memory", lambda work: measure._peak_of_process((work, 1), None))
        assert cli.main(["benchmark", *map(str, arguments), *map(str, options)]) == 0
    return json.loads(printed[0]), folder / "out"


# ---- the contract


def test_json_holds_the_contract(measured):
    result, output = measured
    assert {"hardware", "tile", "training_step", "scans", "scaling", "parallel"} <= set(result)
    assert {"processor", "physical_cores", "memory_bytes", "load_average"} <= set(result["hardware"])
    compared = {"precision", "seconds", "oracle_seconds", "ratio", "relative_error", "peak_memory_bytes"}
    assert result["tile"] and result["training_step"]
    for row in result["tile"]:
        assert compared | {"open_gates"} <= set(row)
    for row in result["training_step"]:
        assert compared | {"patch", "blocks"} <= set(row)
    assert result["settings"]["notes"] == ["a note"]
    assert json.loads((output / "benchmark.json").read_text()) == result
    assert sorted(path.name for path in output.iterdir()) == ["benchmark.json", "benchmark.md"]


def test_ratios_follow_from_their_parts(measured):
    result, _ = measured
    for row in [*result["tile"], *result["training_step"]]:
        assert row["ratio"] == pytest.approx(row["oracle_seconds"] / row["seconds"])
        assert row["cpu_ratio"] == pytest.approx(row["oracle_cpu_seconds"] / row["cpu_seconds"])
        if row["oracle_peak_memory_bytes"]:
            expected = row["peak_memory_bytes"] / row["oracle_peak_memory_bytes"]
            assert row["memory_ratio"] == pytest.approx(expected)
        assert 0 < sum(one["share"] for one in row["operations"]) <= 1 + 1e-9
    for row in result["tile"]:
        ceiling = result["settings"]["ceiling_gflop_per_second"][row["precision"]]
        assert row["ceiling_share"] == pytest.approx(row["gflop_per_second"] / ceiling)
    bodies = result["scaling"]["bodies"]
    seconds = [body["seconds"] for body in bodies]
    assert result["scaling"]["ratios"] == pytest.approx([seconds[1] / seconds[0], seconds[2] / seconds[1]])
    assert result["scaling"]["largest_ratio"] == max(result["scaling"]["ratios"])


def test_every_open_gates_is_compared_and_within_the_tolerance(measured):
    result, _ = measured
    assert [row["open_gates"] for row in result["tile"] if row["precision"] == "fp32"] == [2, 1]
    for row in result["tile"]:
        assert 0 < row["relative_error"] < {"fp32": 1e-4, "bf16": 3e-2}[row["precision"]]
    for row in result["training_step"]:
        assert 0 < row["relative_error"] < {"fp32": 1e-4, "bf16": 5e-2}[row["precision"]]


def test_the_stages_of_a_scan_are_all_of_its_time(measured):
    scan, other = measured[0]["scans"]
    assert (scan["scan"], other["scan"]) == ("low", "full")
    stages = {stage: taken for stage, taken in scan["seconds"].items() if stage != "total"}
    assert {"read", "load_model", "denoise_network", "denoise_blend", "write", "report", "other"} <= set(
        stages
    )
    assert "denoise" not in stages  # its own stages stand for it
    assert sum(stages.values()) == pytest.approx(scan["seconds"]["total"], abs=0.01)
    assert sum(scan["shares"].values()) == pytest.approx(1, abs=0.01)
    others = {stage: share for stage, share in scan["shares"].items() if stage != "denoise_network"}
    assert scan["largest_other_share"] == max(others.values()) == others[scan["largest_other_stage"]]
    assert 50e6 < scan["peak_memory_bytes"] < 50e9 and scan["tiles"]["edge"] == 16
    assert len(scan["model"]["sha256"]) == 64


# ---- that it measures what it says


@pytest.mark.parametrize("open_gates", [3, 1])
@pytest.mark.parametrize("side", ["product", "oracle"])
def test_just_so_many_gates_are_open(side, open_gates):
    work = dataclasses.replace(TILE, side=side, open_gates=open_gates)
    _, gates = prepare(work)[1]()
    assert gates.shape == (1, 4, 3) and ((gates > 0).sum(-1) == open_gates).all()


@pytest.mark.parametrize("gate, counts", [("relu", [3, 1]), ("softmax", [3]), ("top2", [2]), ("none", [3])])
def test_only_gates_that_a_router_can_close_are_closed(gate, counts):
    config = dataclasses.replace(TINY, gate=gate)
    assert workload.measurable_open_gates(config) == counts
    for count in counts:
        _, gates = prepare(dataclasses.replace(TILE, config=config, open_gates=count))[1]()
        assert ((gates > 0).sum(-1) == count).all()


def test_gates_that_are_not_as_asked_stop_the_benchmark(monkeypatch):
    monkeypatch.setattr(against_oracle, "measurable_open_gates", lambda config: [2])
    setting = against_oracle.Setting(
        dataclasses.replace(TINY, gate="none"), 8, "cpu", ("fp32",), 1, {"fp32": 1.0}
    )
    monkeypatch.setattr(against_oracle, "peak_memory", lambda work: 1)
    with pytest.raises(DRMCError, match="2 gates"):
        against_oracle.measure_tiles(setting, lambda text: None)


def test_product_and_oracle_compute_the_same_tile_and_take_the_same_step():
    for work in (TILE, STEP):
        found = {}
        for side in ("product", "oracle"):
            network, run = prepare(dataclasses.replace(work, side=side))
            before = [parameter.detach().clone() for parameter in network.parameters()]
            residual, _ = run()
            found[side] = residual
            moved = [bool((a != b).any()) for a, b in zip(before, network.parameters(), strict=True)]
            assert any(moved) is (work.kind == "training")
            if work.kind == "training":
                found[f"{side} gradient"] = workload.gradient(network)
        for name in ["", " gradient"] if work.kind == "training" else [""]:
            difference = found[f"product{name}"] - found[f"oracle{name}"]
            assert 0 < difference.norm() < 1e-4 * found[f"oracle{name}"].norm()


def test_bf16_is_that_precision_on_both_sides():
    exact = {side: prepare(dataclasses.replace(TILE, side=side))[1]()[0] for side in ("product", "oracle")}
    for side, residual in exact.items():
        coarse = prepare(dataclasses.replace(TILE, side=side, precision="bf16"))[1]()[0]
        error = (coarse.float() - residual).norm() / residual.norm()
        assert 1e-4 < error < 5e-2, side


def test_measuring_leaves_the_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    prepare(TILE)[1]()
    assert torch.equal(torch.rand(3), expected)


def test_multiply_adds_are_those_of_the_paper_s_network():
    # 418,496 a voxel, counted by hand: head and tail 27 C each; a block: Gram C^2, three experts of
    # map C^2, kernel 27 C, projection C^2, and of 2 x 2 C^2 in the FFN
    assert workload.multiply_adds(NetworkConfig(), 64, 3) == 418_496 * 64**3
    one, three = (workload.multiply_adds(NetworkConfig(), 1, count) for count in (1, 3))
    assert three - one == 2 * 5 * (64 * 64 * 2 + 27 * 64 + 4 * 64 * 64)


def test_peak_memory_is_that_of_the_workload_alone():
    wide = dataclasses.replace(TILE, config=dataclasses.replace(TINY, channels=32), edge=48, side="oracle")
    held = np.ones(100_000_000)  # 800 MB of this process are none of it
    tokens = 4 * 32 * 48**3
    peak = measure.peak_memory(wide)
    # q, k, v, the normalized q and k, and what the block keeps: several times the tokens, not hundreds
    assert 6 * tokens < peak < 40 * tokens < held.nbytes


def test_runs_take_turns_and_the_median_counts(monkeypatch):
    order: list[str] = []
    clock = iter(np.cumsum([0, 1, 0, 10, 0, 5, 0, 30, 0, 2, 0, 20]).tolist())
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(measure.time, "process_time", lambda: 0.0)
    taken = measure.alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, "cpu")
    assert order == ["a", "b"] * 3
    assert taken["a"].seconds == median([1, 5, 2]) and taken["b"].seconds == median([10, 30, 20])


def test_short_of_memory_the_oracle_gets_fewer_blocks(monkeypatch):
    measured_edges = []

    def peak(work: Workload) -> int:
        measured_edges.append((work.side, work.edge, work.config.blocks))
        return 1000 * work.config.blocks * (4 if work.side == "oracle" else 1)

    monkeypatch.setattr(against_oracle, "peak_memory", peak)
    # half the edge took 8000 bytes, the whole would take 64000: 40000 that may be used hold one of two blocks
    monkeypatch.setattr(against_oracle, "free_memory", lambda device: 50_000)
    setting = against_oracle.Setting(TINY, 8, "cpu", ("fp32",), 1, {})
    whole, part = against_oracle.measure_training(setting, lambda text: None)
    assert measured_edges[0] == ("oracle", 4, 2) and ("oracle", 8, 2) not in measured_edges
    assert whole["blocks"] == 2 and whole["ratio"] is None and whole["oracle_peak_memory_bytes"] is None
    assert whole["seconds"] > 0 and whole["peak_memory_bytes"] == 2000 and whole["memory_ratio"] is None
    assert part["blocks"] == 1 and part["ratio"] > 0 and part["memory_ratio"] == 0.25


@pytest.mark.parametrize("tile", [32, 64])
def test_the_synthetic_bodies_double_in_volume_and_in_tiles(tile):
    class Still(DRMC):
        """Changes nothing, at once."""

        def forward(self, x_BCDHW, compute_dtype=None):
            return torch.zeros_like(x_BCDHW), torch.zeros(len(x_BCDHW), 4, 3)

    found = whole_scan.measure_scaling(Denoiser(Still(TINY), tile, device="cpu"), 1, lambda text: None)
    first, second, third = found["bodies"]
    assert [body["tiles"] for body in found["bodies"]] == [8, 16, 32]
    assert first["body_ml"] == pytest.approx(second["body_ml"] / 2) == pytest.approx(third["body_ml"] / 4)


# ---- other libraries on the oracle's graph


def _rival_rows(monkeypatch, *contestants: Rival, precisions=("fp32",)) -> list[dict[str, Any]]:
    """The rows of the tile, all gates and one gate open, with these rivals."""
    monkeypatch.setattr(rivals, "RIVALS", contestants)
    monkeypatch.setattr(against_oracle, "peak_memory", lambda work: 1)
    setting = against_oracle.Setting(TINY, 10, "cpu", precisions, 2, dict.fromkeys(precisions, 1.0))
    return against_oracle.measure_tiles(setting, lambda text: None)


def test_rivals_are_timed_in_the_rounds_of_engine_and_oracle(monkeypatch):
    monkeypatch.setattr(rivals, "oracle_graph", _stand_in_graph)
    timed = []

    def alternate(runs, repeats, device):
        timed.append(list(runs))
        outputs = {name: run() for name, run in runs.items()}
        assert isinstance(outputs["Stand-in"], np.ndarray)
        seconds = {"oracle": 6.0, "fp32": 2.0, "Stand-in": 3.0}
        return {name: measure.Timing(seconds[name], 2 * seconds[name] - 1) for name in runs}

    monkeypatch.setattr(against_oracle, "alternate", alternate)
    rows = _rival_rows(monkeypatch, STAND_IN, ABSENT)
    assert timed == [["oracle", "fp32", "Stand-in"]] * 2
    for row in rows:
        found, absent = row["rivals"]
        assert (found["seconds"], found["cpu_seconds"]) == (3.0, 5.0)
        assert (found["ratio"], found["cpu_ratio"]) == (1.5, 5 / 3)
        assert found["version"] == np.__version__.partition("-")[0] and found["problem"] is None
        assert 0 < found["relative_error"] < 1e-4
        assert absent["version"] is None and absent["seconds"] is None and absent["cpu_ratio"] is None


def test_a_rival_that_computes_something_else_or_fails_is_left_out(monkeypatch):
    monkeypatch.setattr(rivals, "oracle_graph", _stand_in_graph)

    def load_wrong(graph: bytes, x_BCDHW: np.ndarray, threads: int):
        run = _load_stand_in(graph, x_BCDHW, threads)
        return lambda: 1.01 * run()

    def load_nothing(graph: bytes, x_BCDHW: np.ndarray, threads: int):
        raise RuntimeError("no kernel\nand a long trace")

    wrong, failing = Rival("Wrong", ("numpy",), load_wrong), Rival("Failing", ("numpy",), load_nothing)
    for row in _rival_rows(monkeypatch, wrong, failing):
        first, second = row["rivals"]
        assert "1.0e-02" in first["problem"] and first["seconds"] is first["ratio"] is None
        assert second["problem"] == "no kernel" and second["seconds"] is None


def test_rivals_in_float32_stand_beside_the_engine_in_float32_only(monkeypatch):
    monkeypatch.setattr(rivals, "oracle_graph", _stand_in_graph)
    rows = _rival_rows(monkeypatch, STAND_IN, precisions=("fp32", "bf16"))
    assert [(row["precision"], len(row["rivals"])) for row in rows] == [("fp32", 1), ("bf16", 0)] * 2


@pytest.mark.parametrize("open_gates", [3, 1])
@pytest.mark.parametrize("rival", rivals.RIVALS, ids=lambda rival: rival.name)
def test_the_libraries_compute_the_oracle_s_residual_silently(rival, open_gates, monkeypatch, capfd):
    for package in rival.packages:
        pytest.importorskip(package)
    monkeypatch.setattr(rivals, "RIVALS", (rival,))
    work = dataclasses.replace(ORACLE, open_gates=open_gates)
    expected = prepare(dataclasses.replace(work, precision="fp64"))[1]()[0]
    (loaded,) = rivals.load_rivals(work, expected)
    assert loaded.problem is None and loaded.version[0].isdigit()
    assert 0 < loaded.relative_error < 1e-4
    again = measure.relative_error(torch.from_numpy(loaded.run()), expected)
    assert again == loaded.relative_error
    assert capfd.readouterr() == ("", "")


# ---- tiles side by side, and busy processes


def _running(pid: int) -> bool:
    """Whether a process computes; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks into /proc")


def _until(condition) -> bool:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_tiles_at_once_give_the_same_bits(measured):
    found = measured[0]["parallel"]
    assert (found["tiles"], found["tile"], found["precision"]) == (16, 16, "fp32")
    ways = [(row["at_once"], row["threads"], row["busy_processes"]) for row in found["rows"]]
    one_load = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2)]
    assert ways == [(*way, processes) for processes in (0, 2) for way in one_load]
    assert all(row["same_bits"] for row in found["rows"] if row["threads"] == 1)
    for row in found["rows"]:
        assert row["seconds"] > 0 and row["cpu_seconds"] > 0
        assert row["seconds_per_tile"] == pytest.approx(row["seconds"] / 16)


def test_other_bits_stop_the_benchmark(monkeypatch):
    forward = parallel.TileRun._forward

    def disturbed(run, tiles_BDHW):
        residual, gates = forward(run, tiles_BDHW)
        return residual + np.float32(1e-6 * (run.at_once == 4)), gates

    monkeypatch.setattr(parallel.TileRun, "_forward", disturbed)
    monkeypatch.setattr(parallel, "allowed_cores", lambda: 1)
    with pytest.raises(DRMCError, match="4 tiles at once gave another residual"):
        parallel.measure_parallel(parallel.Body(TINY, 16, 4), lambda text: None)


def test_tiles_that_memory_does_not_hold_at_once_stop_the_benchmark(monkeypatch):
    forward, failed = parallel.TileRun._forward, []

    def short(run, tiles_BDHW):
        if run.at_once == 2 and not failed:
            failed.append(True)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(run, tiles_BDHW)

    monkeypatch.setattr(parallel.TileRun, "_forward", short)
    with pytest.raises(DRMCError, match="2 tiles at once: memory of cpu was short"):
        parallel.measure_parallel(parallel.Body(TINY, 16, 4), lambda text: None)


@needs_proc
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_busy_processes_are_gone_afterwards(error):
    try:
        with busy.busy_processes(2) as pids:
            assert len(set(pids)) == 2 and all(map(_running, pids))
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt) as raised:
        assert type(raised) is error
    assert not any(map(_running, pids))


@needs_proc
def test_busy_processes_end_with_a_parent_that_is_killed():
    code = (
        "import time\nfrom drmc.benchmark.busy import busy_processes\n"
        "if __name__ == '__main__':\n"
        "    with busy_processes(1) as pids:\n"
        "        print(*pids, flush=True)\n        time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert pids and all(map(_running, pids))
        os.kill(parent.pid, signal.SIGKILL)
    assert _until(lambda: not any(map(_running, pids)))


def test_old_threads_wait_as_openmp_does_by_itself(monkeypatch):
    monkeypatch.setenv(parallel.WAIT_POLICY, "PASSIVE")
    with parallel._spinning_threads():
        assert parallel.WAIT_POLICY not in os.environ
    assert os.environ[parallel.WAIT_POLICY] == "PASSIVE"


def test_tiles_are_not_computed_side_by_side_on_a_gpu(monkeypatch):
    monkeypatch.setattr(suite, "cpu_or_cuda", lambda device: ["cuda"])
    with pytest.raises(DRMCError, match="use --device cpu"):
        suite.measure(["parallel"])


# ---- whole scans


def test_computed_voxels_are_counted_against_the_body(measured):
    for scan in measured[0]["scans"]:
        computed = scan["tiles"]["count"] * 16**3
        assert scan["computed_per_body_voxel"] == pytest.approx(computed / scan["body_voxels"])
        assert scan["computed_per_body_voxel"] > 1 and scan["cpu_seconds"] > 0


def test_the_voxels_of_the_body_are_its_volume(tmp_path):
    suv_zyx, geometry, body_ml = whole_scan.synthetic_body(64, 2)
    write_image(tmp_path / "body.nii.gz", suv_zyx, geometry)
    (tmp_path / "body.json").write_text('{"Units": "SUV"}')
    request = DenoiseRequest(input=tmp_path / "body.nii.gz", output=tmp_path / "out")
    found_ml = whole_scan._body_voxels(request) * GRID_MM**3 / 1000
    # A cylinder of 36 mm from end to end of the image; the mask is larger, by at most 8 mm.
    assert 1 <= found_ml / body_ml < ((36 + 8) / 36) ** 2


# ---- what is asked


def _result(**parts: Any) -> dict[str, Any]:
    settings = {"device": "cpu", "model": None, "network": NetworkConfig().to_dict()}
    empty = {"tile": [], "training_step": [], "scans": [], "scaling": None, "parallel": None}
    return {"settings": settings, **empty, **parts}


def _tile_row(**fields: Any) -> dict[str, Any]:
    row = {"precision": "fp32", "open_gates": 3, "experts": 3, "tile": 64, "ratio": 6.5, "memory_ratio": 0.4}
    return row | {"rivals": []} | fields


def test_verdicts_say_what_is_reached():
    rows = [_tile_row(), _tile_row(open_gates=1, ratio=12.9), _tile_row(precision="bf16", ratio=11.0)]
    step = {"precision": "fp32", "patch": 64, "blocks": 5, "ratio": None, "memory_ratio": 0.5}
    found = targets.verdicts(_result(tile=rows, training_step=[step], scaling={"largest_ratio": 2.2}))
    reached = {one["what"]: (one["asked"], one["reached"]) for one in found}
    assert reached["tile, fp32, 3 of 3 gates open: speed"] == (6.0, True)
    assert reached["tile, fp32, 1 of 3 gates open: speed"] == (13.0, False)
    assert reached["tile, bf16, 3 of 3 gates open: speed"] == (11.0, True)
    assert reached["tile, fp32, 3 of 3 gates open: memory"] == (pytest.approx(1 / 3), False)
    assert reached["training step, fp32, 5 blocks: memory"] == (0.5, True)
    assert "training step, fp32, 5 blocks: speed" not in reached  # not measured, not judged
    assert reached["seconds for twice the body"] == (2.1, False)


def test_rivals_are_compared_by_cpu_seconds_on_any_network():
    rival = {"name": "OpenVINO", "ratio": 0.5, "cpu_ratio": 1.2}
    absent = {"name": "ONNX Runtime", "ratio": None, "cpu_ratio": None}
    row = _tile_row(ratio=None, memory_ratio=None, rivals=[rival, absent])
    (found,) = targets.verdicts(_result(tile=[row]))
    assert found["what"] == "tile, fp32, 3 of 3 gates open: faster than OpenVINO, CPU seconds"
    assert (found["asked"], found["measured"], found["reached"]) == (1.0, 1.2, True)
    settings = {"device": "cpu", "model": "small", "network": TINY.to_dict()}
    slower = _tile_row(rivals=[{**rival, "cpu_ratio": 0.9}])
    (found,) = targets.verdicts(_result(tile=[slower]) | {"settings": settings})
    assert found["what"].startswith("tile of small, fp32") and not found["reached"]
    assert targets.verdicts(_result(tile=[slower | {"tile": 32}]) | {"settings": settings}) == []


def test_every_scan_is_judged_by_itself():
    def scan(name: str, seconds: float, memory: float, body_voxels: int) -> dict[str, Any]:
        stage = {"largest_other_stage": "denoise_mask", "largest_other_share": 0.1}
        taken = {"seconds": {"total": seconds}, "peak_memory_bytes": memory}
        return {"scan": name, "device": "cpu", "body_voxels": body_voxels, **taken, **stage}

    scans = [scan("ge", 25.0, 1.6e9, 7_600_000), scan("c3", 26.0, 1.5e9, 7_600_000), scan("air", 1.0, 1e9, 0)]
    found = targets.verdicts(_result(scans=scans))
    reached = {one["what"]: one["reached"] for one in found}
    whole = "end to end, a million voxels of body"
    assert reached[f"scan ge: {whole}"] and not reached["scan ge: peak memory"]
    assert not reached[f"scan c3: {whole}"] and reached["scan c3: peak memory"]
    assert f"scan air: {whole}" not in reached
    assert reached["scan c3: largest stage but the network (mask)"]


def test_other_networks_and_tiles_are_not_judged_by_the_ratios_asked_of_the_paper_s():
    assert targets.verdicts(_result(tile=[_tile_row(tile=32)])) == []
    other = {"device": "cpu", "model": "tiny", "network": TINY.to_dict()}
    assert targets.verdicts(_result(tile=[_tile_row()]) | {"settings": other}) == []


# ---- what people read


def test_the_page_is_made_of_the_figures(measured):
    result, output = measured
    page = (output / "benchmark.md").read_text()
    assert page == tables.page([result])
    row = result["tile"][0]
    assert f"{row['relative_error']:.1e}" in page and "a note" in page
    assert result["hardware"]["processor"] in page and "2 of 2" in page and "1 of 2" in page
    tables_of_page = re.findall(r"(?:^\|.*\n)+", page, re.M)
    assert len(tables_of_page) == 7  # one of each part and scan, and what was asked
    for table in tables_of_page:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    text = tables.terminal(result)
    for part in ("One tile of 16^3", "Scan low", "Scan full", "side by side", "seconds for twice the body"):
        assert part in text


def test_the_page_begins_with_what_was_asked_and_ends_with_the_profiles(measured):
    result = measured[0]
    page = tables.page([result, result])
    headings = re.findall(r"^### (.*)", page, re.M)
    assert headings[0] == "Asked and reached" and headings[-1] == "Where the time goes"
    assert len(headings) == 2 + 2 * 6  # of each result a table of each part and scan
    assert page.startswith(tables.PREAMBLE) and page.count("Network of tiny") == 2
    profiles = page[page.index("### Where the time goes") :]
    assert profiles.count("GFLOP/s") == 2 * len(result["tile"])


def test_rivals_are_rows_of_the_table_and_those_not_installed_one_remark(measured):
    result = copy.deepcopy(measured[0])
    page, rival = tables.page([result]), result["tile"][0]["rivals"][0]
    row = next(line for line in page.splitlines() if line.startswith("| Stand-in"))
    name, opened, _, _, ratio, cpu_ratio, error, _ = (cell.strip() for cell in row.strip("|").split("|"))
    assert name == f"Stand-in {rival['version']}, fp32" and opened == "2 of 2"
    assert ratio == f"{rival['ratio']:.1f} x" and cpu_ratio == f"{rival['cpu_ratio']:.1f} x"
    assert error == f"{rival['relative_error']:.1e}"
    assert page.count("Not installed: Absent; pip install drmc[benchmark].") == 1
    for one in result["tile"]:
        one["rivals"][0]["problem"] = "no kernel"
    page = tables.page([result])
    assert "| Stand-in" not in page and page.count("is left out: no kernel.") == 1


def test_the_page_of_the_documentation_has_this_preamble():
    page = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text()
    assert page.startswith(tables.PREAMBLE + "\n## ")


def test_threads_that_computed_in_a_part_of_the_time_are_told(measured):
    result = copy.deepcopy(measured[0])
    row = result["tile"][0]
    row["cpu_seconds"], row["seconds"] = 0.3, 1.0
    result["settings"]["threads"] = 1
    for other in [*result["tile"][1:], *result["training_step"]]:
        other["cpu_seconds"] = other["seconds"]
    assert "computed in 30 % of its threads' time" in tables.terminal(result)
    row["cpu_seconds"] = 1.0
    assert "of its threads' time" not in tables.terminal(result)


def test_a_page_has_a_section_for_each_machine(measured, tmp_path, capsys):
    result, output = measured
    other = copy.deepcopy(result)
    other["hardware"]["processor"] = "another processor"
    (tmp_path / "other.json").write_text(json.dumps(other))
    path = str(output / "benchmark.json")
    assert cli.main(["benchmark", "--page", path, path, str(tmp_path / "other.json")]) == 0
    page = capsys.readouterr().out
    assert page.count("### One tile of 16^3") == 3
    assert page.count("\n## ") == page.count("### Asked and reached") == 2  # what was asked: once a machine
    assert page.count("seconds for twice the body") == 3


@pytest.mark.parametrize("computes", [False, True])
def test_a_page_without_bf16_says_why(computes, measured):
    result = copy.deepcopy(measured[0])
    for row in result["tile"] + result["training_step"]:
        row["precision"] = "fp32"
    if computes:
        result["tile"][0]["precision"] = "bf16"
    assert ("only emulates" in tables.page([result])) is not computes


# ---- a network of a kind without an oracle

LOW = "a/low.nii.gz"


@pytest.fixture(scope="module")
def multi_scale(tmp_path_factory) -> Path:
    """The weight file of a tiny network of routing blocks on three levels."""
    path = tmp_path_factory.mktemp("model") / "levels.pt"
    save_model(path, UDRMC(UDRMCConfig(widths=(8, 8, 12), blocks=(1, 1, 1, 1, 1), experts=2, hidden=4)), 16)
    return path


def test_a_scan_needs_no_oracle(multi_scale, tmp_path, capsys):
    case = write_case(tmp_path / "case")
    arguments = ["scan", case["low"], "--model", multi_scale, "--device", "cpu", "--repeats", "1", "--json"]
    assert cli.main(["benchmark", *map(str, arguments)]) == 0
    result = json.loads(capsys.readouterr().out)
    (scan,) = result["scans"]
    assert scan["model"]["name"] == "levels" and scan["body_voxels"] > 0 and not result["tile"]


@pytest.mark.parametrize("parts", [["tile"], ["training"], ["scan", LOW, "scaling"], []], ids=" ".join)
def test_what_needs_an_oracle_refuses_it(parts, multi_scale, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_case(tmp_path / "a")
    assert cli.main(["benchmark", *parts, "--model", str(multi_scale), "--device", "cpu"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "kind udrmc" in err


# ---- refusals


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["frobnicate"], "'frobnicate'"),
        (["scan"], "PET_FOLDER"),
        (["scan", "a", "scan"], "PET_FOLDER"),
        (["scan", "nowhere.nii.gz", "b"], "'b'"),
        (["scan", "nowhere.nii.gz"], "nowhere.nii.gz"),
        (["--repeats", "0"], "--repeats 0"),
        (["--model", "nowhere.pt"], "nowhere.pt"),
        (["--device", "abacus"], "abacus"),
        (["-o", "file"], "file"),
        (["--page", "nowhere.json"], "nowhere.json"),
        (["--page", "other.json"], "other.json"),
        (["tile", "--page", "other.json"], "measures nothing"),
        pytest.param(
            ["--device", "cuda"],
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals_are_one_line(arguments, word, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("other.json").write_text('{"tile": []}')
    before = tree(tmp_path)
    assert cli.main(["benchmark", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("drmc: ") and err.count("\n") == 1 and word in err
    assert tree(tmp_path) == before
