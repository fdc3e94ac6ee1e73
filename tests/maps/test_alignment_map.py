# SPDX-License-Identifier: Apache-2.0
"""The map applies, inverts and composes as its formula says, and refuses strangers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.errors import OperandError
from tests.cases import orthonormal
from tests.compilations import compilations
from tests.tolerances import ROWS, eps

TOLERANCE = ROWS * eps(np.float32)


def make_map(seed, d_source, d_target, *, spaces=(None, None), structure="isometry"):
    """Build a map with random parts and two modalities."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(d_source)
    if structure == "isometry":
        matrix = orthonormal(rng, d_target, d_source)
    elif structure == "general":
        matrix = rng.standard_normal((d_target, d_source))

    def means(width):
        return {
            name: jnp.asarray(0.3 * rng.standard_normal(width), jnp.float32)
            for name in ("image", "text")
        }

    return ja.AlignmentMap(
        ja.maps.MapNumbers(
            matrix=jnp.asarray(matrix, jnp.float32),
            scales={"image": jnp.float32(0.8), "text": jnp.float32(1.3)},
            source_means=means(d_source),
            target_means=means(d_target),
            structure=structure,
        ),
        source_space=spaces[0],
        target_space=spaces[1],
        card={"note": 1},
    )


def only(amap, name):
    """The same map of one modality."""
    numbers = amap.numbers
    parts = {
        group: {name: getattr(numbers, group)[name]}
        for group in ("scales", "source_means", "target_means")
    }
    return dataclasses.replace(amap, numbers=numbers.replace(**parts))


def in_dtype(amap, dtype):
    """The same map in another precision."""
    numbers = jax.tree.map(lambda leaf: leaf.astype(dtype), amap.numbers)
    return dataclasses.replace(amap, numbers=numbers)


def rows_of(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize(
    ("modality", "subtract", "add", "normalize"),
    [
        ("image", True, True, False),
        ("text", True, False, True),
        ("image", False, False, False),
        ("text", False, True, True),
    ],
)
def test_apply_is_the_formula(modality, subtract, add, normalize):
    amap, rows = make_map(0, 5, 7), rows_of(1, 6, 5)
    expected = rows - subtract * np.asarray(amap.numbers.source_means[modality])
    expected = (
        float(amap.numbers.scales[modality]) * expected @ np.asarray(amap.rotation).T
    )
    expected = expected + add * np.asarray(amap.numbers.target_means[modality])
    if normalize:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    moved = amap(
        rows,
        modality,
        normalize=normalize,
        subtract_source_mean=subtract,
        add_target_mean=add,
    )
    np.testing.assert_allclose(moved, expected, atol=TOLERANCE)


def test_inner_products_of_centred_rows_keep_up_to_the_scale():
    amap, rows = make_map(0, 5, 7), rows_of(1, 6, 5)
    moved = amap(rows, "text", subtract_source_mean=False, add_target_mean=False)
    np.testing.assert_allclose(moved @ moved.T, 1.3**2 * rows @ rows.T, atol=1e-4)


def test_inverse_goes_back_and_its_inverse_is_the_map():
    amap = make_map(2, 6, 6, spaces=("a", "b"))
    rows = rows_of(3, 4, 6)
    back = amap.inverse()
    assert (back.source_space, back.target_space) == ("b", "a")
    assert back.card == {"inverse_of": {"note": 1}}
    for name in amap.modalities:
        moved = back(amap(rows, name), name)
        np.testing.assert_allclose(moved, rows, atol=TOLERANCE)
    again = back.inverse()
    assert again.card == amap.card
    assert jax.tree.structure(again.numbers) == jax.tree.structure(amap.numbers)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        again.numbers,
        amap.numbers,
    )


def test_inverse_of_unequal_widths_is_exact_from_the_narrow_side():
    wide = make_map(4, 5, 8)
    rows = rows_of(5, 4, 5)
    narrow = wide.inverse()
    assert (narrow.d_source, narrow.d_target) == (8, 5)
    back = narrow(wide(rows, "text"), "text")
    np.testing.assert_allclose(back, rows, atol=TOLERANCE)
    there = rows_of(6, 4, 8)
    once = wide(narrow(there, "text"), "text")
    again = wide(narrow(once, "text"), "text")
    np.testing.assert_allclose(again, once, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("widths", "structures", "structure"),
    [
        ((4, 5, 6), ("isometry", "isometry"), "isometry"),
        ((6, 5, 4), ("isometry", "isometry"), "isometry"),
        ((4, 6, 4), ("isometry", "isometry"), "general"),
        ((5, 5, 5), ("general", "isometry"), "general"),
    ],
)
def test_composition_is_one_after_the_other(widths, structures, structure):
    earlier = make_map(
        7, widths[0], widths[1], spaces=("a", "b"), structure=structures[0]
    )
    later = make_map(
        8, widths[1], widths[2], spaces=("b", "c"), structure=structures[1]
    )
    both = later @ earlier
    assert (both.source_space, both.target_space, both.structure) == (
        "a",
        "c",
        structure,
    )
    assert both.card == {"later": {"note": 1}, "earlier": {"note": 1}}
    rows = rows_of(9, 4, widths[0])
    for name in both.modalities:
        expected = later(earlier(rows, name), name)
        np.testing.assert_allclose(both(rows, name), expected, atol=4 * TOLERANCE)
    if structure == "isometry":
        error = ja.solve.polar_factor(both.rotation).factor - both.rotation
        assert float(jnp.max(jnp.abs(error))) <= TOLERANCE


def test_rows_of_every_precision_are_carried_in_float32():
    amap, rows = make_map(0, 4, 4), jnp.asarray([[1.0, -2.0, 0.5, 0.25]] * 2)
    expected = amap(rows, "image")
    for given in (rows.astype(jnp.bfloat16), np.asarray(rows).astype(">f8")):
        moved = amap(given, "image")
        assert moved.dtype == jnp.float32
        np.testing.assert_allclose(moved, expected, atol=TOLERANCE)


def test_a_half_precision_map_computes_in_float32():
    amap, rows = make_map(0, 5, 7), rows_of(1, 6, 5)
    half = in_dtype(amap, jnp.bfloat16)
    moved = half(rows, "text")
    assert moved.dtype == jnp.bfloat16
    wide = in_dtype(half, jnp.float32)
    # Only the result is rounded to half precision.
    np.testing.assert_allclose(
        moved.astype(jnp.float32),
        wide(rows, "text"),
        rtol=2 * float(jnp.finfo(jnp.bfloat16).eps),
    )


def test_other_cards_and_numbers_of_rows_share_programs():
    rows = rows_of(10, 300, 11)
    first, second = make_map(11, 11, 11), make_map(12, 11, 11).inverse()
    expected = np.asarray(first(rows, "image"))
    parts = [jnp.asarray(rows[:n]) for n in (1, 3, 16, 17, 200, 255, 299)]
    with compilations() as compiled:
        for part in parts:
            n = part.shape[0]
            moved = first(rows[:n], "image")
            assert moved.shape == (n, 11)
            np.testing.assert_allclose(moved, expected[:n], atol=TOLERANCE)
            second(part, "text")
    # For 16, 32 and 256 rows; that for 512 was there.
    assert len(compiled) <= 3


def test_the_only_modality_need_not_be_named():
    amap, rows = make_map(0, 5, 7), rows_of(1, 6, 5)
    with pytest.raises(ValueError, match=r"modality=None.*\['image', 'text'\]"):
        amap(rows)
    np.testing.assert_array_equal(only(amap, "text")(rows), amap(rows, "text"))


def test_it_prints_as_one_line():
    source, target = rows_of(1, 8, 4), rows_of(2, 8, 4)
    amap = ja.fit_map({"text": (source, target)}, source_space="0123456789abcdef")
    for text in (str(amap), repr(amap), repr(amap.inverse())):
        assert len(text) < 200
        assert "\n" not in text
    for part in ("isometry", "4 -> 4", "text: 8 anchors", "0123456789ab"):
        assert part in str(amap)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda amap, rows: amap(rows, "audio"), r"'audio'.*\['image', 'text'\]"),
        (lambda amap, rows: amap(rows_of(1, 6, 7), "text"), r"rows.*\(6, 7\)"),
        (lambda amap, rows: amap(rows.tolist(), "text"), r"rows=.*list"),
        (lambda amap, rows: amap(rows + 1j, "text"), r"rows=.*complex"),
        (lambda amap, rows: amap(rows.astype(np.int8), "text"), r"rows=.*int8"),
        (lambda amap, rows: amap(rows[0], "text"), r"rows=.*\(5,\)"),
        (lambda amap, rows: amap(rows, "text", space="cc"), "space='cc'.*'aa'"),
        (lambda amap, rows: amap(rows, "text", space="bb"), "inverse"),
        (
            lambda amap, rows: make_map(0, 4, 4, structure="general").inverse(),
            "exchanged",
        ),
    ],
    ids=str.split("modality width list complex int8 axis space target linear"),
)
def test_strangers_are_refused(call, match):
    amap, rows = make_map(0, 5, 7, spaces=("aa", "bb")), rows_of(1, 6, 5)
    with pytest.raises(ValueError, match=match):
        call(amap, rows)


@pytest.mark.usefixtures("no_shape_hook")
def test_maps_that_do_not_meet_are_refused():
    amap = make_map(0, 5, 5, spaces=("aa", "bb"))
    with pytest.raises(ValueError, match="widths.*4 after 5"):
        _ = make_map(1, 4, 5) @ amap
    with pytest.raises(ValueError, match="'aa' after 'bb'"):
        _ = amap @ amap
    _ = amap.inverse() @ amap
    with pytest.raises(ValueError, match="modalities"):
        _ = only(amap.inverse(), "image") @ amap
    for stranger in (3, np.ones((5, 5), np.float32)):
        with pytest.raises(OperandError, match=r"AlignmentMap on the right"):
            _ = amap @ stranger
