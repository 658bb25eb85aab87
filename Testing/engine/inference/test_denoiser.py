"""Whole-volume inference: what the tiler, the blending and the resampling may and may not do to a scan."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drmc.errors import CanceledError, DRMCError, InputError
from drmc.imaging.geometry import Geometry
from drmc.inference import device as device_module
from drmc.inference import tile_run
from drmc.inference.denoiser import Denoiser
from drmc.inference.tile_run import TileRun, _OutOfMemoryError
from drmc.inference.tiles import halo_width, tile_at
from drmc.networks.drmc import DRMC, NetworkConfig
from drmc.runtime import threads
from drmc.segments.segment import Segment
from hypothesis import given, settings
from hypothesis import strategies as st

ROUGH = (0.36, 0.48, -0.8, -0.8, 0.6, 0.0, 0.48, 0.64, 0.6)
"""A rotation about no axis of the scan."""


class Double(torch.nn.Module):
    """A network whose residual is a given function of its input; its one gate is the tile's mean."""

    def __init__(self, residual):
        super().__init__()
        self.config = SimpleNamespace(gates_shape=(2, 1), features_per_voxel=1)
        self.residual = residual
        self.batches: list[int] = []
        self.dtypes: set = set()
        self.inner = torch.nn.Identity()

    def forward(self, x_BCDHW, compute_dtype=None):
        self.batches.append(len(x_BCDHW))
        self.dtypes.add(compute_dtype)
        gates_BLM = x_BCDHW.double().mean((1, 2, 3, 4)).float()[:, None, None].expand(-1, 2, 1)
        return self.inner(self.residual(x_BCDHW)), gates_BLM


def denoise(residual, suv, geometry, *, tile=16, progress=None, cancel=None, **options):
    network = residual if isinstance(residual, torch.nn.Module) else Double(residual)
    # What the tiler does is seen in residuals that have a mean.
    options = {"precision": "fp32", "keep_means": False, **options}
    denoiser = Denoiser(network, tile, device="cpu", **options)
    return denoiser.denoise(suv, geometry, progress=progress, cancel=cancel)


def scan(shape, seed=0):
    """A body of SUV 0.5 with noise, negative voxels and some above 20, in air of SUV 0."""
    rng = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    inside = (
        sum(((axis - (size - 1) / 2) / (0.4 * size)) ** 2 for axis, size in zip(axes, shape, strict=True)) < 1
    )
    suv = np.where(inside, rng.normal(0.5, 0.3, shape), 0.0).astype(np.float32)
    suv[inside & (rng.random(shape) < 0.001)] = 45.0
    return suv


def points(geometry: Geometry, indices_zyx: np.ndarray) -> np.ndarray:
    """LPS points of indices (..., 3) in (z, y, x) order, by SimpleITK's own rule."""
    scaled = np.asarray(indices_zyx)[..., ::-1] * np.asarray(geometry.spacing)
    return np.asarray(geometry.origin) + scaled @ np.reshape(geometry.direction, (3, 3)).T


# ------------------------------------------------------------------------------------------------ invariance
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((1, 40, 40), (2.0, 2.0, 2.0)),
        ((65, 64, 130), (2.0, 2.0, 2.0)),
        ((96, 150, 96), (1.6, 2.3, 3.1)),
        ((250, 214, 214), (2.0, 2.0, 2.0)),
        ((1, 40, 40), (3.0, 1.1, 5.0)),
    ],
)
def test_a_network_that_adds_nothing_changes_no_bit(shape, spacing):
    suv, geometry = scan(shape), Geometry(shape, spacing)
    before = suv.tobytes()
    result = denoise(torch.zeros_like, suv, geometry, tile=64)
    assert len(result.gates_TLM) > 0
    assert result.residual.shape == shape and result.residual.dtype == np.float32
    assert not result.residual.any()
    assert suv.tobytes() == before and (suv + result.residual).tobytes() == before


@pytest.mark.parametrize("tile", [16, 32, 64])
@pytest.mark.parametrize("shape", [(70, 64, 81), (5, 30, 100)])
def test_what_a_network_says_at_the_faces_of_a_tile_is_not_used(tile, shape):
    """There it sees its zero padding: at the scan's own faces too, where no other tile could cover it."""
    halo = halo_width(tile)
    assert halo > 0

    def only_at_faces(x_BCDHW):
        residual = torch.ones_like(x_BCDHW)
        residual[..., halo:-halo, halo:-halo, halo:-halo] = 0
        return residual

    body = np.ones(shape, np.float32)
    assert not denoise(only_at_faces, body, Geometry(shape, (2.0,) * 3), tile=tile).residual.any()
    everywhere = denoise(lambda x: torch.ones_like(x) / 20, body, Geometry(shape, (2.0,) * 3), tile=tile)
    np.testing.assert_allclose(everywhere.residual, 1.0, rtol=1e-5)


def test_a_trained_size_network_with_a_zero_tail_changes_no_bit():
    torch.manual_seed(1)
    network = DRMC(NetworkConfig(channels=8, blocks=2, experts=2, heads=2, hidden=4))
    torch.nn.init.zeros_(network.tail.weight)
    torch.nn.init.zeros_(network.tail.bias)
    suv = scan((30, 35, 20))
    result = denoise(network, suv, Geometry(suv.shape, (2.5, 1.7, 2.0)))
    assert result.gates_TLM.shape[1:] == (4, 2)
    assert (suv + result.residual).tobytes() == suv.tobytes()


def test_a_constant_is_given_back_by_tiles_and_blending():
    suv = scan((60, 70, 50))
    result = denoise(lambda x: torch.full_like(x, 0.25 / 20), suv, Geometry(suv.shape, (2.0, 2.0, 2.0)))
    there = result.residual != 0
    assert there[suv != 0].all(), "the whole body is covered"
    assert not there.all(), "some of the air is not"
    np.testing.assert_allclose(result.residual[there], 0.25, rtol=5e-7)


def test_nothing_is_clipped_on_the_way():
    suv = scan((40, 50, 45))
    assert suv.min() < -0.3 and suv.max() > 20
    result = denoise(lambda x: -x, suv, Geometry(suv.shape, (2.0, 2.0, 2.0)))
    np.testing.assert_allclose(result.residual, -suv, rtol=1e-6, atol=0)


def test_air_without_a_tile_stays_exactly_zero_on_an_anisotropic_grid():
    suv = np.zeros((40, 60, 60), np.float32)
    suv[12:20, 12:20, 12:20] = 2.0
    result = denoise(torch.ones_like, suv, Geometry(suv.shape, (3.1, 1.3, 2.6)))
    assert not result.residual[35:].any() and not result.residual[:, :, 45:].any()
    assert (result.residual[12:20, 12:20, 12:20] > 19.99).all()


def test_a_scan_without_a_body_comes_back_unchanged_and_says_so():
    suv = np.full((20, 20, 20), 0.01, np.float32)
    result = denoise(torch.ones_like, suv, Geometry(suv.shape, (2.0, 2.0, 2.0)))
    assert not result.residual.any()
    assert result.gates_TLM.shape == (0, 2, 1) and result.tile_centers_mm.shape == (0, 3)
    assert any("no body" in notice for notice in result.notices)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    spacing=st.tuples(*[st.floats(0.7, 6.0)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_uptake_above_one_is_always_denoised_wherever_it_lies(shape, spacing, seed):
    rng = np.random.default_rng(seed)
    suv = rng.normal(0.0, 0.02, shape).astype(np.float32)
    spots = tuple(rng.integers(0, shape, (4, 3)).T)
    suv[spots] = 1.2
    result = denoise(torch.ones_like, suv, Geometry(shape, spacing, direction=ROUGH), tile=8)
    assert result.residual.shape == shape and np.isfinite(result.residual).all()
    # Where the tiles end beside a voxel, what comes back of a constant 20 is not exactly that: 15 to 32 here.
    assert (result.residual[spots] > 10).all()


# ------------------------------------------------------------------------------------------------ geometry
@pytest.mark.parametrize("spacing", [(1.2, 2.0, 3.3), (4.7, 4.7, 3.27), (1.65, 1.65, 1.65), (0.8, 6.0, 2.5)])
def test_a_point_source_s_residual_lands_where_the_source_is(spacing):
    shape = (23, 27, 25)
    geometry = Geometry(shape, spacing, (-31.0, 17.5, 204.0), ROUGH)
    suv = np.zeros(shape, np.float32)
    source = (9, 15, 11)
    suv[source] = 100.0
    result = denoise(lambda x: 0.5 * x, suv, geometry)
    peak = np.unravel_index(result.residual.argmax(), shape)
    assert peak == source
    indices = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), -1)
    weights = result.residual[..., None] / result.residual.sum()
    centroid = (points(geometry, indices) * weights).sum((0, 1, 2))
    miss = np.reshape(geometry.direction, (3, 3)).T @ (centroid - points(geometry, source))
    assert np.all(np.abs(miss) < 0.5 * np.minimum(spacing, 2.0))


def test_a_smooth_scan_is_cancelled_on_coarse_and_fine_grids():
    for spacing in ((4.7, 4.7, 3.27), (1.3, 1.3, 1.9)):
        shape = tuple(int(100 / step) for step in reversed(spacing))
        indices = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), -1)
        distance = points(Geometry(shape, spacing), indices) - 50.0
        suv = (3 * np.exp(-0.5 * (distance**2).sum(-1) / 15.0**2)).astype(np.float32)
        result = denoise(lambda x: -x, suv, Geometry(shape, spacing), tile=32)
        inside = suv > 1
        # Linear interpolation there and back loses this much of a Gaussian of 35 mm FWHM.
        assert np.abs(suv + result.residual)[inside].max() < 0.03 * 3


def test_gates_come_in_order_with_the_physical_centers_of_their_tiles():
    shape, spacing = (50, 64, 57), (2.0, 2.6, 1.7)
    geometry = Geometry(shape, spacing, (12.0, -40.0, 7.0), ROUGH)
    indices = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), -1)
    slope = np.array([0.03, -0.05, 0.02])
    # Linear in physical space, so that a tile's mean is the value at its center.
    suv = (40 + points(geometry, indices) @ slope).astype(np.float32)
    result = denoise(torch.zeros_like, suv, geometry, tile=16, tile_batch=3)
    assert result.gates_TLM.shape == (len(result.tile_centers_mm), 2, 1)
    assert len(result.gates_TLM) > 10
    expected = 40 + result.tile_centers_mm @ slope
    # A tile that reaches beyond the scan is mirrored there: its mean differs by a little, neighbors' by 0.3
    # or more.
    np.testing.assert_allclose(20 * result.gates_TLM[:, 0, 0], expected, atol=0.05)
    np.testing.assert_allclose(result.tile_body_fraction, 1.0)


# ------------------------------------------------------------------------------------------------ resampling
def test_the_last_digits_of_a_grid_change_no_bit():
    """Programs that keep a matrix write 3.1500000953674316 mm as 3.150000095367432 or 3.1500000954."""
    suv = scan((18, 22, 20))
    exact = Geometry(
        suv.shape, (3.1500000953674316, 3.27, 1.8700000047683716), (-266.1750111579895, 0.1, 7 / 3), ROUGH
    )
    once = denoise(torch.sin, suv, exact).residual
    for shift in (1, -1):
        moved = lambda values, shift=shift: tuple(float(np.nextafter(one, shift * np.inf)) for one in values)
        other = Geometry(suv.shape, moved(exact.spacing), moved(exact.origin), moved(exact.direction))
        assert other != exact and np.array_equal(denoise(torch.sin, suv, other).residual, once)
    assert np.array_equal(denoise(torch.sin, suv, exact.rounded()).residual, once)


# ------------------------------------------------------------------------------------------------ running
@pytest.fixture
def in_batches(monkeypatch):
    """Tiles are computed as on a GPU, several in one batch."""
    monkeypatch.setattr(TileRun, "_in_threads", TileRun._in_batches)


def small_network():
    torch.manual_seed(2)
    return DRMC(NetworkConfig(channels=8, blocks=1, experts=2, heads=2, hidden=4))


@pytest.mark.parametrize("network", [small_network(), lambda x: torch.sin(9 * x)], ids=["drmc", "sine"])
def test_the_number_of_tiles_at_once_and_a_second_run_change_no_bit_on_a_processor(network):
    suv = scan((45, 50, 40))
    geometry = Geometry(suv.shape, (2.2, 2.0, 1.5))
    first, *others = (denoise(network, suv, geometry, tile_batch=number) for number in (1, 1, 2, 3, 8))
    for other in others:
        assert other.residual.tobytes() == first.residual.tobytes()
        assert other.gates_TLM.tobytes() == first.gates_TLM.tobytes()


def test_the_batch_of_a_gpu_changes_a_result_by_rounding_only(in_batches):
    suv = scan((45, 50, 40))
    geometry = Geometry(suv.shape, (2.2, 2.0, 1.5))
    one, *others = (denoise(small_network(), suv, geometry, tile_batch=batch) for batch in (1, 2, 5))
    scale = np.abs(one.residual).max()
    for other in others:
        np.testing.assert_allclose(other.residual, one.residual, atol=1e-6 * scale)
        np.testing.assert_allclose(other.gates_TLM, one.gates_TLM, atol=1e-6)


class Together(Double):
    """Waits up to 0.2 s until `together` threads are in a forward; short of memory above `room`."""

    def __init__(self, room=99):
        super().__init__(torch.zeros_like)
        self.room, self.inside, self.most, self.threads = room, 0, 0, set()
        self.together = 2
        self.changed = threading.Condition()

    def forward(self, x_BCDHW, compute_dtype=None):
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(torch.get_num_threads())
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.inside >= self.together, timeout=0.2)
            try:
                if self.inside > self.room:
                    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
                return super().forward(x_BCDHW, compute_dtype)
            finally:
                self.inside -= 1


def test_a_processor_computes_tiles_side_by_side_in_one_thread_each():
    suv, network = scan((45, 50, 40)), Together()
    denoise(network, suv, Geometry(suv.shape), tile_batch=3)
    assert network.most in (2, 3) and network.threads == {1} and set(network.batches) == {1}


@pytest.mark.parametrize("share, most", [(1.0, 2), (0.5, 4)])
def test_beside_other_programs_more_tiles_are_computed_at_once(monkeypatch, share, most):
    suv, network = scan((45, 50, 40)), Together()
    clock = itertools.count(step=10.0)
    monkeypatch.setattr(tile_run.time, "perf_counter", lambda: next(clock))
    busy = itertools.count(step=10.0 * 2 * share)
    monkeypatch.setattr(tile_run.time, "process_time", lambda: next(busy))
    monkeypatch.setattr(tile_run, "tiles_at_once", lambda *_: (2, 4))
    network.together = most
    result = denoise(network, suv, Geometry(suv.shape))
    assert network.most == most
    assert result.residual.tobytes() == denoise(torch.zeros_like, suv, Geometry(suv.shape)).residual.tobytes()


def test_cancel_is_asked_in_the_calling_thread_only():
    suv, network, asked = scan((45, 50, 40)), Together(), set()
    denoise(
        network,
        suv,
        Geometry(suv.shape),
        tile_batch=3,
        cancel=lambda: asked.add(threading.get_ident()),
    )
    assert asked == {threading.get_ident()}


def test_a_processor_short_of_memory_computes_fewer_tiles_side_by_side():
    suv, network = scan((45, 50, 40)), Together(room=1)
    result = denoise(network, suv, Geometry(suv.shape), tile_batch=4)
    assert any("1 tile(s) at a time" in notice for notice in result.notices)
    assert result.residual.tobytes() == denoise(torch.zeros_like, suv, Geometry(suv.shape)).residual.tobytes()


def test_progress_counts_tiles_and_every_stage_is_timed():
    suv, calls = scan((45, 50, 40)), []
    result = denoise(
        torch.zeros_like, suv, Geometry(suv.shape), tile_batch=2, progress=lambda *call: calls.append(call)
    )
    done, totals, left = zip(*calls, strict=True)
    assert set(totals) == {len(result.gates_TLM)}
    assert list(done) == sorted(set(done)) and done[-1] == totals[0]
    assert left[-1] == 0 and all(seconds >= 0 for seconds in left)
    assert set(result.seconds) == {"resample", "mask", "network", "blend", "resample_back"}
    assert all(seconds > 0 for seconds in result.seconds.values())


def test_cancel_between_tiles_stops_before_the_next_one():
    suv, network = scan((45, 50, 40)), Double(torch.zeros_like)
    asked = []
    with pytest.raises(CanceledError):
        denoise(
            network,
            suv,
            Geometry(suv.shape, (2.0, 2.0, 2.0)),
            progress=lambda *_: asked.append(True),
            cancel=lambda: bool(asked),
        )
    assert network.batches == [1]


def test_cancel_reaches_into_a_tile_and_leaves_the_network_usable():
    suv, network = scan((45, 50, 40)), Double(torch.zeros_like)
    with pytest.raises(CanceledError):  # asked for while the first tile is being computed
        denoise(network, suv, Geometry(suv.shape), cancel=lambda: bool(network.batches))
    assert network.batches == [1]
    assert not network.inner._forward_pre_hooks
    denoise(network, suv, Geometry(suv.shape))


class ShortOfMemory(Double):
    """Runs out of memory for more than `room` tiles at once, anywhere but on the CPU for any."""

    def __init__(self, room, error=None):
        super().__init__(lambda x: torch.full_like(x, 0.01))
        self.room = room
        self.error = error or _OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    def forward(self, x_BCDHW, compute_dtype=None):
        if len(x_BCDHW) > self.room or x_BCDHW.device.type != "cpu":
            raise self.error
        return super().forward(x_BCDHW, compute_dtype)


@pytest.mark.parametrize("error", [None, RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_short_of_memory_the_batch_is_halved_and_the_result_is_the_same(in_batches, error):
    suv, network = scan((45, 50, 40)), ShortOfMemory(2, error)
    geometry = Geometry(suv.shape, (2.0, 2.0, 2.0))
    result = denoise(network, suv, geometry, tile_batch=8)
    assert max(network.batches) == 2
    assert any("2 tile(s) at a time" in notice for notice in result.notices)
    whole = denoise(network.residual, suv, geometry)
    assert result.residual.tobytes() == whole.residual.tobytes()


def test_without_room_for_one_tile_the_cpu_takes_over_and_says_so():
    suv, network = scan((45, 50, 40)), ShortOfMemory(99)
    geometry = Geometry(suv.shape, (2.0, 2.0, 2.0))
    denoiser = Denoiser(network, 16, device="cpu", tile_batch=2, keep_means=False)
    denoiser._device = torch.device("meta")  # stands for a GPU without memory
    result = denoiser.denoise(suv, geometry)
    assert result.device == "cpu"
    assert any("CPU" in notice for notice in result.notices)
    assert result.residual.tobytes() == denoise(network.residual, suv, geometry).residual.tobytes()


def test_without_memory_on_the_cpu_it_fails_in_one_line_and_other_errors_pass():
    suv = scan((20, 20, 20))
    with pytest.raises(DRMCError, match="out of memory"):
        denoise(ShortOfMemory(0), suv, Geometry(suv.shape))
    with pytest.raises(RuntimeError, match="a real fault"):
        denoise(ShortOfMemory(0, RuntimeError("a real fault")), suv, Geometry(suv.shape))


@pytest.mark.parametrize(
    "options",
    [
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"device": "cpu", "precision": "fp8"},
        {"device": "cpu", "tile_batch": 0},
        pytest.param(
            {"device": "cuda"}, marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
        ),
    ],
)
def test_a_device_or_precision_that_is_not_there_is_refused(options):
    with pytest.raises(InputError):
        Denoiser(Double(torch.zeros_like), 16, **options)


@pytest.mark.parametrize("native", [True, False])
def test_a_processor_computes_in_float32_unless_bf16_is_asked_for(monkeypatch, native):
    """So that figures do not depend on which processor it is."""
    monkeypatch.setattr(device_module, "computes_in_bf16", lambda device: native)
    suv, network = scan((20, 20, 20)), Double(torch.zeros_like)
    result = denoise(network, suv, Geometry(suv.shape), precision="auto")
    assert result.precision == "fp32" and network.dtypes == {None}
    network.dtypes.clear()
    asked = denoise(network, suv, Geometry(suv.shape), precision="bf16")
    assert network.dtypes == {torch.bfloat16}
    assert bool(asked.notices) != native
    graphics = device_module.choose_precision("auto", torch.device("cuda"), [])
    assert graphics == ("bf16" if native else "fp32")


def test_the_threads_of_torch_are_left_as_they_were():
    before, suv = torch.get_num_threads(), scan((20, 20, 20))
    torch.set_num_threads(3)
    try:
        denoise(torch.zeros_like, suv, Geometry(suv.shape))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("wanted", "cores"), [("3", 3), ("2,1", 2), ("", 7), ("many", 7)])
def test_omp_num_threads_says_how_many_cores_are_used(monkeypatch, wanted, cores):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr(threads, "physical_cores", lambda: 7)
    assert threads.allowed_cores() == cores


def test_tiles_at_once_follow_cores_and_free_memory(monkeypatch):
    network, cpu = small_network(), torch.device("cpu")
    of_a_tile = 16 * 64**3 * 8 * 4
    monkeypatch.setattr(device_module, "allowed_cores", lambda: 6)
    for free, numbers in (
        (None, (6, 12)),
        (1 << 50, (6, 12)),
        (16 * of_a_tile, (6, 8)),
        (8 * of_a_tile, (4, 4)),
        (of_a_tile // 2, (1, 1)),
    ):
        monkeypatch.setattr(device_module, "free_memory_bytes", lambda free=free: free)
        assert device_module.tiles_at_once(network, 64, cpu, "fp32") == numbers
    assert device_module.tiles_at_once(network, 64, torch.device("mps"), "fp32") == (1, 1)


@pytest.mark.parametrize("size", [1, 3, 16, 20])
def test_small_images_are_mirrored_at_their_faces(size):
    line = np.arange(size, dtype=np.float32)
    image = np.broadcast_to(line, (size, size, size))
    start = -((16 - size) // 2) if size < 16 else 2
    start = min(start, size - 16) if size >= 16 else start
    tile = tile_at(image, np.array([start] * 3), 16)
    assert tile.shape == (16, 16, 16)
    before = max(0, -start)
    after = max(0, 16 - size - before)
    expected = np.pad(line, (before, after), mode="symmetric")[max(0, start) :][:16]
    np.testing.assert_array_equal(tile[0, 0], expected)


def test_a_lesion_is_counted_in_the_tiles_whose_used_part_holds_it():
    geometry = Geometry((30, 44, 41), (2.63, 1.31, 3.07), (12.0, -30.0, 7.0), ROUGH)
    result = denoise(torch.zeros_like, scan(geometry.shape) + 1, geometry)
    layout = result.layout
    assert len(layout.starts_zyx) == len(result.gates_TLM) > 10
    assert layout.edge == 16 - 2 * halo_width(16)
    np.testing.assert_allclose(
        points(layout.grid, layout.starts_zyx + (layout.edge - 1) / 2), result.tile_centers_mm
    )
    mask = np.zeros(geometry.shape, bool)
    mask[3:9, 20:33, 5:30] = True
    mask[4, 25] = False
    voxels = points(geometry, np.argwhere(mask))
    direction = np.reshape(ROUGH, (3, 3))
    counted = layout.voxels_of(Segment("lesion", mask))
    for center, count in zip(result.tile_centers_mm, counted, strict=True):
        away = np.abs((voxels - center) @ direction) / layout.grid.spacing
        assert count == (away <= layout.edge / 2).all(axis=1).sum()
    assert counted.max() > 100 and 0 < (counted > 0).sum() < len(counted)
    one = np.zeros(geometry.shape, bool)
    one[7, 30, 11] = True
    assert layout.voxels_of(Segment("one voxel", one)).max() == 1
