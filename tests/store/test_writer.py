# SPDX-License-Identifier: Apache-2.0
"""The same bytes whatever the order, cuts and processes; bad batches are refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxalign.store.chunks import gaps, list_chunks
from tests.store.writing import Data, empty, tree


@st.composite
def plans(draw):
    """Data, cuts into appends, their order, and the process that makes each."""
    examples = draw(st.integers(1, 12))
    part_examples = draw(st.integers(1, 13))
    skipped = draw(st.frozensets(st.integers(0, examples - 1)))
    modalities = draw(st.sampled_from([("image", "text"), ("text",)]))
    dtype = draw(st.sampled_from(["float32", "float16"]))
    data = Data(examples, part_examples, skipped, dtype, modalities)
    starts = sorted(
        {*range(0, examples, part_examples)}
        | draw(st.frozensets(st.integers(0, examples - 1)))
    )
    pieces = [range(a, b) for a, b in zip(starts, [*starts[1:], examples], strict=True)]
    order = draw(st.permutations(pieces))
    processes = draw(st.integers(1, 3))
    owners = draw(
        st.lists(
            st.integers(0, processes - 1),
            min_size=len(pieces),
            max_size=len(pieces),
        )
    )
    return data, list(zip(order, owners, strict=True)), processes


@pytest.fixture(scope="module")
def module_path(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


@settings(max_examples=25, deadline=None)
@given(plan=plans())
def test_cuts_orders_and_processes_give_the_same_bytes(module_path, plan):
    data, pieces, processes = plan
    whole = empty(module_path / "whole")
    data.write(whole, batch=data.examples)
    other = empty(module_path / "other")
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(data.create(other, process_index=index))
            for index in range(processes)
        ]
        done = []
        for piece, owner in pieces:
            assert not writers[owner].is_complete()
            data.append(writers[owner], piece)
            done.append(piece)
            left = sum(map(len, writers[-1].missing()))
            assert left == data.examples - sum(map(len, done))
        assert all(writer.is_complete() for writer in writers)
        stores = [writer.finish() for writer in writers]
        assert all(writer.is_finished and not writer.missing() for writer in writers)
    assert tree(other) == tree(whole)
    for store in stores:
        assert len(store) == len(data.ids)
        assert store.ids().tolist() == data.ids
        for modality in data.modalities:
            np.testing.assert_array_equal(store.rows(modality), data.rows(modality))


def test_missing_lists_ranges_within_parts_and_within_the_question(tmp_path):
    data = Data(examples=10, part_examples=4)
    with data.create(tmp_path) as writer:
        assert writer.parts == 3
        assert writer.part_of(7) == 1
        assert writer.part_range(2) == range(8, 10)
        data.append(writer, range(1, 3))
        assert writer.missing() == [
            range(0, 1),
            range(3, 4),
            range(4, 8),
            range(8, 10),
        ]
        assert writer.missing(2, 6) == [range(3, 4), range(4, 6)]
        assert writer.missing(6) == [range(6, 8), range(8, 10)]
        assert writer.missing(3, 3) == []
        with pytest.raises(ValueError, match="8 missing: 0-0, 3-3, 4-7, 8-9"):
            writer.finish()


def test_a_run_goes_on_where_another_stopped(tmp_path):
    data = Data()
    with data.create(tmp_path / "cut") as writer:
        data.append(writer, range(0, 4))
        data.append(writer, range(6, 8))
    with data.create(tmp_path / "cut") as writer:
        assert writer.missing() == [range(4, 6), range(8, 11)]
    data.write(tmp_path / "cut")
    data.write(tmp_path / "whole", batch=3)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_a_finished_store_has_nothing_left_to_do(tmp_path):
    data = Data()
    data.write(tmp_path)
    before = tree(tmp_path)
    (tmp_path / ".unfinished").mkdir()  # of a kill between the last two steps
    with data.create(tmp_path) as writer:
        assert writer.is_finished
        assert writer.is_complete()
        assert writer.missing() == []
        with pytest.raises(ValueError, match="whose store is finished"):
            data.append(writer, range(2))
        assert len(writer.finish()) == 10
    assert tree(tmp_path) == before


def test_a_part_without_rows_has_no_files(tmp_path):
    data = Data(examples=12, skipped=frozenset(range(4, 8)))
    store = data.write(tmp_path)
    assert sorted(path.name for path in (tmp_path / "img_emb").iterdir()) == [
        "img_emb_0.npy",
        "img_emb_2.npy",
    ]
    assert [name for name, _ in store.skipped] == [f"id {i}" for i in range(4, 8)]
    assert store.ids().tolist() == data.ids
    assert store.rows("image", 2, 6).shape == (4, 3)


def test_a_store_may_have_no_rows_at_all(tmp_path):
    data = Data(skipped=frozenset(range(11)))
    store = data.write(tmp_path)
    assert len(store) == 0
    assert len(store.skipped) == 11
    assert store.rows("text").shape == (0, 3)
    assert store.ids().shape == (0,)
    assert list(store.batches(4)) == []


def test_damaged_chunks_are_missing_again(tmp_path):
    data = Data()
    data.write(tmp_path / "whole")
    with data.create(tmp_path / "cut") as writer:
        for first in (0, 1, 2):
            data.append(writer, range(first, first + 1))
        data.append(writer, range(4, 6))
    torn, flipped, _ = sorted((tmp_path / "cut/.unfinished/chunks/0").iterdir())
    torn.write_bytes(torn.read_bytes()[:-7])
    data_bytes = bytearray(flipped.read_bytes())
    data_bytes[len(data_bytes) // 2] ^= 1
    flipped.write_bytes(data_bytes)
    with data.create(tmp_path / "cut") as writer:
        assert writer.missing() == [range(0, 2), range(3, 4), range(6, 8), range(8, 11)]
        data.fill(writer)
        writer.finish()
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_a_chunk_damaged_after_it_was_read_is_seen_when_its_part_is_sealed(tmp_path):
    data = Data()
    with data.create(tmp_path) as writer:
        data.append(writer, range(0, 2))
        (chunk,) = (tmp_path / ".unfinished/chunks/0").iterdir()
        chunk.write_bytes(chunk.read_bytes()[:-1])
        data.append(writer, range(2, 4))
        assert writer.missing(0, 4) == [range(0, 2)]
        data.fill(writer)
        assert writer.finish().ids().tolist() == data.ids


@pytest.mark.parametrize("name", ["img_emb/img_emb_0.npy", ".unfinished/part-0.json"])
def test_a_sealed_part_that_lost_a_file_is_missing_again(tmp_path, name):
    data = Data()
    data.write(tmp_path / "whole")
    with data.create(tmp_path / "cut") as writer:
        data.append(writer, range(0, 4))
    path = tmp_path / "cut" / name
    path.write_bytes(path.read_bytes()[:-9])
    with data.create(tmp_path / "cut") as writer:
        assert writer.missing(0, 4) == [range(0, 4)]
    data.write(tmp_path / "cut")
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_a_file_lost_before_the_end_is_noticed_there(tmp_path):
    data = Data()
    with data.create(tmp_path) as writer:
        data.fill(writer)
        (tmp_path / "text_emb/text_emb_1.npy").unlink()
        with pytest.raises(ValueError, match="4 missing: 4-7"):
            writer.finish()


ROWS = np.ones((2, 3), np.float32)
BOTH = {"image": ROWS, "text": ROWS}
HUGE = np.full((2, 3), 1e39)
BAD = np.array([[1, 2, 3], [1, np.nan, 3]])


@pytest.mark.parametrize(
    ("rows", "changes", "match"),
    [
        ({"image": ROWS}, {}, "append all modalities"),
        ({**BOTH, "text": ROWS[:, :2]}, {}, "one row an example"),
        ({**BOTH, "text": ROWS[:1]}, {}, "one row an example"),
        ({**BOTH, "text": ROWS.astype(int)}, {}, "convert them with .rows.astype"),
        ({**BOTH, "text": BAD}, {}, "1 with NaN or infinity, of 'b'; .* as skipped"),
        (
            {**BOTH, "text": HUGE},
            {},
            "beyond it, of 'a', 'b'; normalise",
        ),
        (BOTH, {"ids": ["a", "a"]}, "'a' twice; make them unique"),
        (BOTH, {"ids": ["a", "b\0"]}, "convert them with `str`"),
        (BOTH, {"ids": ["a", "b", "c"]}, "one row an example"),
        (BOTH, {"ids": ["a", "\udcff"]}, "convert or leave out"),
        (BOTH, {"columns": {"id": ["a", "b"]}}, "leave it out"),
        (BOTH, {"columns": {"label": [1]}}, "leave out those of skipped"),
        (BOTH, {"columns": {"label": [1, "b"]}}, "convert them with"),
        (BOTH, {"columns": {"label": [True, False]}}, "convert them with"),
        (BOTH, {"columns": {"label": [None, "b"]}}, "convert them with"),
        (BOTH, {"columns": {"label": [2**63, 1]}}, "convert or leave out"),
        (BOTH, {"examples": 3}, "leave padding out"),
        (BOTH, {"skipped": [("c", "torn")], "examples": 2}, "leave padding out"),
        (BOTH, {"first": -1}, "number them as the data does"),
        (BOTH, {"first": 10}, "number them as the data does"),
        (BOTH, {"first": 3}, "choose part_examples as a multiple"),
        ({}, {"ids": []}, "leave padding out"),
    ],
)
@pytest.mark.usefixtures("no_shape_hook")
def test_bad_batches_are_refused_and_leave_nothing(tmp_path, rows, changes, match):
    with Data().create(tmp_path) as writer:
        before = tree(tmp_path)
        with pytest.raises(ValueError, match=match):
            writer.append(rows, **{"first": 0, "ids": ["a", "b"], **changes})
        assert tree(tmp_path) == before


def test_rows_beyond_half_precision_are_refused(tmp_path):
    rows = np.full((1, 3), 7e4, np.float32)
    with Data(dtype="float16", modalities=("text",)).create(tmp_path) as writer:
        with pytest.raises(ValueError, match="create the store with dtype='float32'"):
            writer.append({"text": rows}, first=0, ids=["a"])


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_rows_are_converted_and_may_be_of_jax(tmp_path, dtype):
    import jax
    import jax.numpy as jnp

    data = Data(modalities=("text",), skipped=frozenset(), examples=2)
    rows = data.rows("text")
    given = jnp.asarray(rows, dtype) if dtype != "float64" else rows.astype(dtype)
    with data.create(tmp_path) as writer:
        ids = np.array(["a", "b"])
        # Not contiguous, as a slice of an accelerator's batch may come.
        writer.append({"text": given[::-1]}, first=0, ids=ids)
        store = writer.finish()
    expected = np.asarray(jax.device_get(given))[::-1].astype(np.float32)
    np.testing.assert_array_equal(store.rows("text"), expected)


@pytest.mark.parametrize("first", [0, 2], ids=["open part", "other append"])
def test_examples_are_written_once(tmp_path, first):
    data = Data()
    with data.create(tmp_path) as writer:
        data.append(writer, range(0, 1))
        data.append(writer, range(2, 4))
        with pytest.raises(ValueError, match="append only what `missing` lists"):
            data.append(writer, range(first, first + 1), ids=["new"])
        data.append(writer, range(1, 2))
        with pytest.raises(ValueError, match="0 to 3 are there"):
            data.append(writer, range(first, first + 1), ids=["new"])
        assert [chunk.path for chunk in list_chunks(tmp_path, range(4))] == []


def test_columns_stay_the_same(tmp_path):
    data = Data()
    with data.create(tmp_path) as writer, data.create(tmp_path, process_index=1) as two:
        data.append(writer, range(0, 2))
        with pytest.raises(ValueError, match="pass the same columns"):
            data.append(two, range(4, 5), columns={"label": ["a"]})


def test_repeated_ids_within_a_part_are_refused_at_once(tmp_path):
    data = Data(skipped=frozenset())
    with data.create(tmp_path) as writer:
        data.append(writer, range(0, 2))
    with data.create(tmp_path, process_index=1) as writer:
        with pytest.raises(ValueError, match="'id 1', which is among examples 0 to 1"):
            data.append(writer, range(2, 4), ids=["new", "id 1"])
        data.append(writer, range(2, 3))
        with pytest.raises(ValueError, match="'id 2', which is among examples 2 to 2"):
            data.append(writer, range(3, 4), ids=["id 2"])


def test_repeated_ids_in_two_parts_are_refused_at_the_end(tmp_path):
    data = Data(skipped=frozenset())
    with data.create(tmp_path) as writer:
        data.append(writer, range(4, 6), ids=["id 2", "id 3"])
        data.fill(writer)
        before = tree(tmp_path)
        with pytest.raises(ValueError, match="'id 2' in rows 2 and 4.* all rows are k"):
            writer.finish()
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_closed_writer_writes_nothing(tmp_path):
    data = Data()
    with data.create(tmp_path) as writer:
        data.fill(writer)
    for call in (writer.missing, writer.finish, lambda: data.append(writer, range(1))):
        with pytest.raises(ValueError, match="call it within `with"):
            call()


@settings(deadline=None)
@given(
    pieces=st.lists(st.integers(0, 30), max_size=8, unique=True),
    whole=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_gaps_and_pieces_make_the_whole(pieces, whole):
    cuts = sorted(pieces)
    taken = [range(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    wanted = range(min(whole), max(whole))
    left = gaps(wanted, taken)
    covered = {i for piece in taken for i in piece}
    assert [i for gap in left for i in gap] == [i for i in wanted if i not in covered]
    assert all(left)
