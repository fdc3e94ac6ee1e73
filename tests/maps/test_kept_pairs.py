# SPDX-License-Identifier: Apache-2.0
"""What is kept of pairs adds up to what all pairs would give."""

import dataclasses

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.maps import kept_pairs
from jaxalign.maps.kept_pairs import (
    KeptPairs,
    Sample,
    draw_sample,
    label_rows,
    pairs_path,
)


def _kept(rows, names, origin, **more):
    source, target = rows
    ids = label_rows(names)
    moments = ja.Anchors({"text": (source, target)}).moments(grams=True)
    samples = {"text": Sample(source, target, ids)}
    return KeptPairs(moments, samples, True, (origin,), **more)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(60, d)).astype(np.float32) for d in (4, 6)]


def _parts(rows, **more):
    names = [f"id {n}" for n in range(60)]
    first = _kept([side[:40] for side in rows], names[:40], "a", **more)
    second = _kept([side[40:] for side in rows], names[40:], "b")
    return first, second, _kept(rows, names, "c")


def test_a_file_gives_back_what_was_kept(rows, tmp_path):
    kept = _parts(rows, source_space="f00d")[0]
    kept.save(tmp_path / "map.moments.safetensors")
    found = KeptPairs.load(pairs_path(tmp_path / "map.safetensors"))
    assert found.origins == ("a",)
    assert (found.source_space, found.target_space) == ("f00d", None)
    for field, value in vars(kept.moments["text"]).items():
        np.testing.assert_array_equal(getattr(found.moments["text"], field), value)
    np.testing.assert_array_equal(found.samples["text"].ids, kept.samples["text"].ids)
    assert found.complete


def test_parts_merge_to_the_whole(rows):
    first, second, whole = _parts(rows)
    merged = first.merge(second)
    for field, value in vars(whole.moments["text"]).items():
        np.testing.assert_allclose(
            getattr(merged.moments["text"], field), value, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_array_equal(merged.samples["text"].source, rows[0])
    assert merged.complete
    anchors = merged.anchors()
    np.testing.assert_array_equal(anchors.rows["text"].ids, whole.samples["text"].ids)


def test_a_sample_of_samples_is_even(rows, monkeypatch):
    monkeypatch.setattr(kept_pairs, "SAMPLE", 30)
    first, second, _ = _parts(rows)
    first = dataclasses.replace(
        first, samples={"text": first.samples["text"].take(np.arange(30))}
    )
    merged = first.merge(second)
    ids = merged.samples["text"].ids
    assert not merged.complete
    # 40 pairs before, 20 now.
    assert len(ids) == 30
    assert np.isin(ids, first.samples["text"].ids).sum() == 20


@pytest.mark.parametrize("change", ["origins", "source_space", "normalized", "widths"])
def test_other_pairs_are_refused(rows, change):
    first, second, _ = _parts(rows, source_space="f00d")
    values = {"origins": ("a",), "source_space": "beef", "normalized": False}
    if change == "widths":
        second = _kept(rows[::-1], range(60), "b")
    else:
        second = dataclasses.replace(second, **{change: values[change]})
    with pytest.raises(ValueError, match="merge"):
        first.merge(second)


def test_damage_is_refused(rows, tmp_path):
    path = tmp_path / "map.moments.safetensors"
    with pytest.raises(FileNotFoundError):
        KeptPairs.load(path)
    _parts(rows)[0].save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="written"):
        KeptPairs.load(path)
    path.write_bytes(content[:50])
    with pytest.raises(ValueError, match=r"KeptPairs\.load"):
        KeptPairs.load(path)


def test_labels_and_draws():
    assert len(set(label_rows(range(1000)).tolist())) == 1000
    assert label_rows(["a"]) == label_rows(["a"])
    assert label_rows([3], "one file") != label_rows([3], "another")
    assert draw_sample(10, 10) is None
    assert draw_sample(10, None) is None
    drawn = draw_sample(1000, 10)
    assert len(set(drawn.tolist())) == 10
    assert (np.diff(drawn) > 0).all()
