# SPDX-License-Identifier: Apache-2.0
"""Pairs straight from two encoders: the moments of the rows that a store would hold."""

import numpy as np
import pytest

import jaxalign as ja
from tests import tiny_encoders
from tests.cases import assert_moments_close, reference_moments
from tests.embedding.processes_source import COUNT, Examples
from tests.tolerances import ROWS, eps


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    names = list(tiny_encoders.FAMILIES)[:2]
    for name in names:
        tiny_encoders.write_folder(folder / name, name)
    return [ja.load_encoders(folder / name) for name in names]


@pytest.mark.parametrize("modality", ["text"])
def test_as_from_stored_rows_and_from_any_place(models, modality):
    examples = Examples()
    batches = ja.embedding.embedding_batches(examples, models)
    source, target = ja.embedding.gather(ja.embed(models, batches))
    rows = [getattr(side, modality) for side in (source, target)]

    pairs = ja.pairing.encoded_pairs(*models, examples, modality, batch_size=4)
    moments = ja.accumulate_moments(pairs)
    assert int(moments.rows) == COUNT
    expected = reference_moments(*rows)
    assert_moments_close(moments, expected, ROWS * eps(np.float32))

    pairs = ja.pairing.encoded_pairs(*models, examples, modality, batch_size=4)
    next(pairs)
    place = pairs.get_state()
    assert place == {"next_example": 4}
    again = ja.pairing.encoded_pairs(*models, examples, modality, batch_size=4)
    again.set_state(place)
    rest = ja.accumulate_moments(again)
    expected = reference_moments(rows[0][4:], rows[1][4:])
    assert_moments_close(rest, expected, ROWS * eps(np.float32))


def test_classes_are_groups(models):
    examples = Examples()
    labels = [examples[number]["label"] for number in range(COUNT)]
    pairs = ja.pairing.encoded_pairs(
        *models,
        examples,
        "image",
        batch_size=8,
        by_label=True,
        mesh=ja.sharding.data_mesh(),
    )
    moments = ja.accumulate_moments(
        pairs, mesh=ja.sharding.data_mesh(), groups=max(labels) + 1
    )
    assert moments.rows.tolist() == np.bincount(labels).tolist()


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do(models):
    with pytest.raises(ValueError, match="expected 'image' or 'text'"):
        ja.pairing.encoded_pairs(*models, Examples(), "audio")
    pairs = ja.pairing.encoded_pairs(*models, Examples(), "image")
    with pytest.raises(ValueError, match="place in other data"):
        pairs.set_state({"next_example": COUNT + 1})
