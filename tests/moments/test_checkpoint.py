# SPDX-License-Identifier: Apache-2.0
"""A pass that is killed and started again ends with the same bits."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from tests.cases import rows_pair

N, BATCH = 200, 16


class Killed(Exception):
    pass


class Mortal:
    """Pairs that end a run after some batches, as a kill would."""

    def __init__(self, pairs, batches):
        self._pairs, self._left = pairs, batches

    def __iter__(self):
        return self

    def __next__(self):
        if self._left == 0:
            raise Killed
        self._left -= 1
        return next(self._pairs)

    def get_state(self):
        return self._pairs.get_state()

    def set_state(self, state):
        self._pairs.set_state(state)


def pairs(group=None):
    source, target = rows_pair(np.random.default_rng(0), N, 6, 4, mean=0.93)
    return ja.anchors.array_pairs(source, target, group=group, batch_size=BATCH)


def run(folder, *, dies_after=None, every=2, details=None, **options):
    group = np.arange(N) % 3 if options.get("groups") else None
    batches = pairs(group)
    if dies_after is not None:
        batches = Mortal(batches, dies_after)
    with ja.moments.PassCheckpoints(
        folder, every=every, details=details or {}
    ) as checkpoints:
        return ja.accumulate_moments(
            batches, mesh=ja.sharding.data_mesh(), checkpoints=checkpoints, **options
        )


def test_killed_twice_and_resumed_gives_the_same_bits(tmp_path):
    options = {"groups": 3, "grams": True, "decay": 0.9}
    undisturbed = run(tmp_path / "whole", **options)
    for dies_after in (5, 4):
        with pytest.raises(Killed):
            run(tmp_path / "killed", dies_after=dies_after, **options)
    seen = []
    resumed = run(tmp_path / "killed", report=seen.append, **options)
    # 5 batches, of which 4 were kept, then 4 more: 8 batches of 16 rows are behind.
    assert seen[-1] == N - 8 * BATCH
    assert jax.tree.all(jax.tree.map(np.array_equal, resumed, undisturbed))


def test_resumed_at_the_short_last_batch_gives_the_same_bits(tmp_path):
    # Its 8 rows belong to 4 of the 8 devices, as in a batch of 16: not one to each.
    undisturbed = run(tmp_path / "whole", every=12)
    with pytest.raises(Killed):
        run(tmp_path / "killed", every=12, dies_after=12)
    resumed = run(tmp_path / "killed", every=12)
    assert jax.tree.all(jax.tree.map(np.array_equal, resumed, undisturbed))


def test_a_finished_pass_is_not_done_again(tmp_path):
    first = run(tmp_path, every=13)
    seen = []
    again = run(tmp_path, every=13, report=seen.append)
    assert seen == []
    assert jax.tree.all(jax.tree.map(np.array_equal, again, first))


def test_another_pass_is_refused(tmp_path):
    run(tmp_path, details={"data": "pets"})
    with pytest.raises(ValueError, match="data = 'pets' .now 'cars'"):
        run(tmp_path, details={"data": "cars"})
    with pytest.raises(ValueError, match="grams = False"):
        run(tmp_path, details={"data": "pets"}, grams=True)


@pytest.mark.usefixtures("no_shape_hook")
def test_batches_without_a_place_are_refused(tmp_path):
    rows = np.ones((4, 3), np.float32)
    with ja.moments.PassCheckpoints(tmp_path) as checkpoints:
        with pytest.raises(ValueError, match="batches="):
            ja.accumulate_moments([(rows, rows)], checkpoints=checkpoints)
    with pytest.raises(ValueError, match="every=0"):
        ja.moments.PassCheckpoints(tmp_path, every=0)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="PassCheckpoints"):
        ja.moments.PassCheckpoints(tmp_path / "file" / "folder")


def test_a_grain_iterator_keeps_its_place(tmp_path):
    grain = pytest.importorskip("grain")
    source, target = rows_pair(np.random.default_rng(1), N, 6, 4)

    class Rows:
        def __len__(self):
            return N

        def __getitem__(self, index):
            return source[index], target[index]

    def batches():
        dataset = grain.MapDataset.source(Rows()).shuffle(seed=0).batch(BATCH)
        return iter(dataset.to_iter_dataset())

    def accumulate(name, batches):
        with ja.moments.PassCheckpoints(tmp_path / name, every=3) as checkpoints:
            return ja.accumulate_moments(batches, checkpoints=checkpoints)

    whole = accumulate("whole", batches())
    with pytest.raises(Killed):
        accumulate("killed", Mortal(batches(), 7))
    resumed = accumulate("killed", batches())
    assert jax.tree.all(jax.tree.map(np.array_equal, resumed, whole))


def _cut(data):
    return data[: len(data) // 2]


def _flip(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(tmp_path, damage):
    undisturbed = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", dies_after=7)
    (last,) = (tmp_path / "killed").glob("*/6.safetensors")
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(ValueError, match="6.safetensors"):
        run(tmp_path / "killed")
    last.unlink()
    resumed = run(tmp_path / "killed")
    assert jax.tree.all(jax.tree.map(np.array_equal, resumed, undisturbed))


def test_the_last_two_checkpoints_stay_and_leftovers_go(tmp_path):
    run(tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / ".12.safetensors.0123.tmp").touch()
    assert sorted(path.stem for path in folder.glob("*.safetensors")) == ["10", "12"]
    run(tmp_path)
    assert not list(folder.glob(".*"))


def test_checkpoints_of_another_version_are_refused(tmp_path):
    run(tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "12").mkdir()  # as version 1 had them
    with pytest.raises(ValueError, match="version 2, got 1"):
        run(tmp_path)
