# SPDX-License-Identifier: Apache-2.0
"""A whole pass: the same on any number of devices, and one all-reduce at its end."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.moments.finish import reduce_devices
from jaxalign.moments.passes import _step, init_local
from jaxalign.moments.statistics import MAX_ROWS
from tests.cases import assert_moments_close, reference_moments, rows_pair
from tests.tolerances import SUMS, eps

F32 = eps(np.float32)
# Five batches, of which the last is short; most tests share its two programs.
N, D_SOURCE, D_TARGET, GROUPS, BATCH = 230, 6, 4, 3, 48
COLLECTIVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


def rows(seed=0, n=N):
    return rows_pair(np.random.default_rng(seed), n, D_SOURCE, D_TARGET, mean=0.93)


def three_devices():
    return ja.sharding.data_mesh(jax.devices()[:3])


def collectives(text):
    """Names of the collectives that a compiled program runs."""
    return re.findall(rf" ({COLLECTIVES})(?:-start)?\(", text)


@pytest.mark.parametrize(("devices", "grouped"), [(3, False), (8, True)])
def test_any_number_of_devices_and_a_ragged_tail(devices, grouped):
    source, target = rows()
    group = np.arange(N) % GROUPS if grouped else None
    batches = ja.anchors.array_pairs(source, target, group=group, batch_size=BATCH)
    moments = ja.accumulate_moments(
        batches,
        mesh=ja.sharding.data_mesh(jax.devices()[:devices]),
        groups=GROUPS if grouped else None,
        grams=True,
    )
    if not grouped:
        assert_moments_close(moments, reference_moments(source, target), SUMS * F32)
        return
    for index in range(GROUPS):
        own = np.arange(N) % GROUPS == index
        found = jax.tree.map(lambda leaf, i=index: leaf[i], moments)
        expected = reference_moments(source[own], target[own])
        assert int(found.rows) == own.sum()
        assert_moments_close(found, expected, SUMS * F32)


def test_weights_and_device_arrays():
    source, target = rows(1)
    weights = np.random.default_rng(1).integers(0, 3, N).astype(np.float32)
    batches = []
    for start in range(0, N, BATCH):
        part = slice(start, start + BATCH)
        batches.append(
            ja.moments.PairBatch(
                jax.device_put(source[part]),
                jax.device_put(target[part]),
                weights[part],
            )
        )
    moments = ja.accumulate_moments(iter(batches), mesh=three_devices(), grams=True)
    expected = reference_moments(source, target, weights)
    assert_moments_close(moments, expected, SUMS * F32)


def test_a_buffer_that_is_filled_again_and_again_is_read_in_time():
    # Aligned, so that JAX would use it where it lies; large, so that a step takes long.
    n, d, batches = 2048, 64, 6
    whole = np.random.default_rng(9).standard_normal((batches * n, d), np.float32)
    memory = np.empty(4 * n * d + 64, np.uint8)
    start = -memory.ctypes.data % 64
    buffer = memory[start : start + 4 * n * d].view(np.float32).reshape(n, d)

    def filled():
        for first in range(0, len(whole), n):
            buffer[:] = whole[first : first + n]
            yield buffer, buffer

    moments = ja.accumulate_moments(filled())
    expected = reference_moments(whole, whole)
    assert_moments_close(moments, expected, SUMS * F32)


def test_the_result_is_at_rest_on_one_device_and_goes_on():
    source, target = rows(2)
    half = 2 * BATCH

    def batches(rows):
        return ja.anchors.array_pairs(source, target, rows=rows, batch_size=BATCH)

    options = {"mesh": three_devices(), "grams": True}
    first = ja.accumulate_moments(batches(range(half)), **options)
    assert len(first.count.sharding.device_set) == 1
    whole = ja.accumulate_moments(batches(range(half, N)), state=first, **options)
    assert_moments_close(whole, reference_moments(source, target), SUMS * F32)


def test_empty_batches_change_nothing():
    source, target = rows(10)
    options = {"mesh": three_devices(), "grams": True}
    edges = (0, BATCH, BATCH, 2 * BATCH, 2 * BATCH, 2 * BATCH + 30)
    parts = [slice(*ends) for ends in itertools.pairwise(edges)]
    batches = [(source[part], target[part]) for part in parts]
    found = ja.accumulate_moments(batches, **options)
    expected = ja.accumulate_moments(batches[::2], **options)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))
    first = ja.accumulate_moments([(source[:0], target[:0]), *batches[:1]])
    assert int(first.rows) == BATCH


def test_same_bits_every_time():
    source, target = rows(3)

    def fit():
        return ja.accumulate_moments(
            ja.anchors.array_pairs(source, target, batch_size=BATCH),
            mesh=three_devices(),
            grams=True,
        )

    assert jax.tree.all(jax.tree.map(np.array_equal, fit(), fit()))


def test_decay_counts_batches():
    source, target = rows(4, 2 * BATCH)
    moments = ja.accumulate_moments(
        ja.anchors.array_pairs(source, target, batch_size=BATCH),
        mesh=three_devices(),
        grams=True,
        decay=0.5,
    )
    weights = np.repeat([0.5, 1.0], BATCH)
    expected = reference_moments(source, target, weights)
    assert_moments_close(moments, expected, SUMS * F32)


def test_progress_counts_the_rows():
    source, target = rows(5)
    seen = []
    ja.accumulate_moments(
        ja.anchors.array_pairs(source, target, batch_size=BATCH),
        mesh=three_devices(),
        grams=True,
        report=seen.append,
    )
    assert seen == [48, 96, 144, 192, 230]


@pytest.mark.compiled_text
def test_one_all_reduce_at_the_end_and_none_before():
    groups = GROUPS
    mesh = ja.sharding.data_mesh()
    local = init_local(D_SOURCE, D_TARGET, mesh, groups=groups, grams=True)
    points = [np.zeros((groups, d), np.float32) for d in (D_SOURCE, D_TARGET)]
    finish = reduce_devices(mesh).lower(local, *points).compile().as_text()
    assert collectives(finish) == ["all-reduce"]
    # d_source d_target + d_source + d_target + 6 numbers a group, and the Grams.
    reduced = re.search(r"= \((.*?)\) all-reduce\(", finish)
    numbers = sum(
        int(np.prod([int(size) for size in shape.split(",")]))
        for shape in re.findall(r"f32\[([\d,]+)\]", reduced.group(1))
    )
    each = D_SOURCE * D_TARGET + D_SOURCE + D_TARGET + 6 + D_SOURCE**2 + D_TARGET**2
    assert numbers == each * groups

    n = 64
    spread = ja.sharding.row_sharding(mesh)
    batch = ja.moments.PairBatch(
        *(jax.device_put(side, spread) for side in rows(6, n)),
        jax.device_put(np.ones(n, bool), spread),
        jax.device_put(np.arange(n) % groups, spread),
    )
    step = _step(mesh, None).lower(local, batch).compile().as_text()
    assert collectives(step) == []


def test_rows_cross_exactly_and_stop_at_the_largest_number():
    mesh = ja.sharding.data_mesh()
    local = init_local(2, 2, mesh, groups=None, grams=False)
    counts = np.array([2**24 + 1, 3, 0, 2**26 + 7, 1, 1, 1, 1], np.int32)
    points = [np.zeros(2, np.float32)] * 2
    merged = reduce_devices(mesh)(local.replace(rows=counts), *points)
    assert int(merged.rows) == counts.sum()
    full = local.replace(rows=np.full(8, 2**30, np.int32))
    assert int(reduce_devices(mesh)(full, *points).rows) == MAX_ROWS


def test_a_second_pass_compiles_nothing(caplog):
    source, target = rows(7)
    mesh = three_devices()
    source, target = source[:BATCH], target[:BATCH]

    def run():
        return ja.accumulate_moments([(source, target)], mesh=mesh, grams=True)

    run()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        run()
    assert not [one for one in caplog.messages if "Compiling" in one]


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    source, target = rows(8, 100)
    whole = source, target
    long = [(source[:BATCH], target[:BATCH]), (source[BATCH:], target[BATCH:])]
    for batches in (
        [],
        long,
        [(source, target[:5])],
        whole,
        [(source.tolist(), target)],
        [(source[0], target[0])],
        [(*whole, [1.0] * 100)],
    ):
        with pytest.raises(ValueError, match=r"accumulate_moments\(batches="):
            ja.accumulate_moments(batches, mesh=three_devices(), grams=True)
    group = np.arange(100) % GROUPS
    for numbers, groups, argument in (
        (group, None, "groups=None"),
        (None, 2, "groups=2"),
        (group, 2, "group="),
        (group - 1, GROUPS, "group="),
    ):
        batches = ja.anchors.array_pairs(*whole, group=numbers)
        with pytest.raises(ValueError, match=argument):
            ja.accumulate_moments(batches, groups=groups)


@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_a_group_that_does_not_exist_is_found_on_a_device_too(batch, kept):
    source, target = rows(12, 48)
    group = np.arange(48) % GROUPS
    group[16 * batch + 3] = GROUPS
    parts = [slice(start, start + 16) for start in (0, 16, 32)]
    saved = []

    class Checkpoints:
        def restore(self, batches, settings):
            return None

        def save(self, seen, local, batches, *, size):
            saved.append(seen)

    with pytest.raises(ValueError, match="group.*1 rows"):
        ja.accumulate_moments(
            (
                ja.moments.PairBatch(source[p], target[p], None, jnp.asarray(group[p]))
                for p in parts
            ),
            groups=GROUPS,
            checkpoints=Checkpoints() if kept else None,
        )
    # Nothing is kept that lacks the row.
    assert saved == list(range(1, batch + 1)) * kept


@pytest.mark.slow
def test_float32_keeps_five_digits_over_ten_million_rows():
    d, block, blocks = 8, 100_000, 100
    rng = np.random.default_rng(9)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    means = 0.93 * turn[:2]

    sums, products = np.zeros((2, d)), np.zeros((d, d))

    def batches():
        for _ in range(blocks):
            # Spread and mean of real unit rows: norm 0.93, energy 1 - 0.93^2 about it.
            latent = rng.standard_normal((block, d)) * np.sqrt((1 - 0.93**2) / d)
            noise = 0.1 * rng.standard_normal((block, d)) / d
            source = (latent + means[0]).astype(np.float32)
            target = (latent @ turn.T + noise + means[1]).astype(np.float32)
            yield source, target
            exact = [
                side.astype(np.float64) - mean
                for side, mean in zip((source, target), means, strict=True)
            ]
            sums[:] += np.sum(exact, axis=1)
            products[:] += exact[1].T @ exact[0]

    moments = ja.accumulate_moments(batches(), mesh=ja.sharding.data_mesh())
    exact = products - np.outer(sums[1], sums[0]) / (block * blocks)
    error = np.linalg.norm(np.asarray(moments.cross_covariance, np.float64) - exact)
    assert int(moments.rows) == block * blocks == 10_000_000
    assert error < 1e-5 * np.linalg.norm(exact)
