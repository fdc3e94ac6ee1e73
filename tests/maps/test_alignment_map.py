# SPDX-License-Identifier: Apache-2.0
"""The map applies, inverts and composes as its formula says, and refuses strangers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from tests.cases import orthonormal
from tests.tolerances import ROWS, eps

TOLERANCE = ROWS * eps(np.float32)


def make_map(seed, d_source, d_target, *, spaces=(None, None), kind="orthogonal"):
    """Build a map with random parts and two modalities."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(d_source)
    if kind == "orthogonal":
        matrix = orthonormal(rng, d_target, d_source)
    elif kind == "linear":
        matrix = rng.standard_normal((d_target, d_source))

    def means(width):
        return {
            name: jnp.asarray(0.3 * rng.standard_normal(width), jnp.float32)
            for name in ("image", "text")
        }

    return ja.AlignmentMap(
        matrix=jnp.asarray(matrix, jnp.float32),
        scales={"image": jnp.float32(0.8), "text": jnp.float32(1.3)},
        source_means=means(d_source),
        target_means=means(d_target),
        source_space=spaces[0],
        target_space=spaces[1],
        kind=kind,
        card_json='{"note": 1}',
    )


def rows_of(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_apply_is_the_formula(modality, subtract, add, normalize):
    amap, rows = make_map(0, 5, 7), rows_of(1, 6, 5)
    expected = rows - subtract * np.asarray(amap.source_means[modality])
    expected = float(amap.scales[modality]) * expected @ np.asarray(amap.rotation).T
    expected = expected + add * np.asarray(amap.target_means[modality])
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


@pytest.mark.parametrize("kind", ["orthogonal", "mean_only"])
def test_inverse_goes_back_and_its_inverse_is_the_map(kind):
    amap = make_map(2, 6, 6, spaces=("a", "b"), kind=kind)
    rows = rows_of(3, 4, 6)
    back = amap.inverse()
    assert (back.source_space, back.target_space, back.kind) == ("b", "a", kind)
    assert back.card == {"inverse_of": {"note": 1}}
    for name in amap.modalities:
        moved = back(amap(rows, name), name)
        np.testing.assert_allclose(moved, rows, atol=TOLERANCE)
    again = back.inverse()
    assert again.card == amap.card
    assert jax.tree.structure(again) == jax.tree.structure(amap)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), again, amap)


def test_inverse_of_unequal_widths_is_exact_from_the_narrow_side():
    wide = make_map(4, 5, 8)
    rows = rows_of(5, 4, 5)
    np.testing.assert_allclose(wide.inverse()(wide(rows)), rows, atol=TOLERANCE)
    narrow = wide.inverse()
    assert (narrow.d_source, narrow.d_target) == (8, 5)
    np.testing.assert_allclose(narrow(narrow.inverse()(rows)), rows, atol=TOLERANCE)
    there = rows_of(6, 4, 8)
    once = wide(narrow(there))
    np.testing.assert_allclose(wide(narrow(once)), once, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("widths", "kinds", "kind"),
    [
        ((5, 5, 5), ("orthogonal", "orthogonal"), "orthogonal"),
        ((4, 5, 6), ("orthogonal", "orthogonal"), "orthogonal"),
        ((6, 5, 4), ("orthogonal", "orthogonal"), "orthogonal"),
        ((4, 6, 4), ("orthogonal", "orthogonal"), "linear"),
        ((6, 4, 6), ("orthogonal", "orthogonal"), "linear"),
        ((5, 5, 5), ("mean_only", "orthogonal"), "orthogonal"),
        ((5, 5, 5), ("mean_only", "mean_only"), "mean_only"),
        ((5, 5, 5), ("linear", "orthogonal"), "linear"),
    ],
)
def test_composition_is_one_after_the_other(widths, kinds, kind):
    earlier = make_map(7, widths[0], widths[1], spaces=("a", "b"), kind=kinds[0])
    later = make_map(8, widths[1], widths[2], spaces=("b", "c"), kind=kinds[1])
    both = later @ earlier
    assert (both.source_space, both.target_space, both.kind) == ("a", "c", kind)
    assert both.card == {"later": {"note": 1}, "earlier": {"note": 1}}
    rows = rows_of(9, 4, widths[0])
    for name in both.modalities:
        expected = later(earlier(rows, name), name)
        np.testing.assert_allclose(both(rows, name), expected, atol=4 * TOLERANCE)
    if kind == "orthogonal":
        error = ja.polar_factor(both.rotation).factor - both.rotation
        assert float(jnp.max(jnp.abs(error))) <= TOLERANCE


def test_rows_in_half_precision_come_out_in_float32():
    amap = make_map(0, 4, 4)
    assert amap(jnp.ones((2, 4), jnp.bfloat16)).dtype == jnp.float32


def test_another_card_does_not_compile_again():
    from jaxalign.maps.alignment_map import _apply

    rows = rows_of(10, 3, 11)
    make_map(11, 11, 11)(rows)
    before = _apply._cache_size()
    make_map(12, 11, 11).inverse()(rows)
    assert _apply._cache_size() == before


@pytest.mark.usefixtures("no_shape_hook")
def test_strangers_are_refused_with_a_remedy():
    amap = make_map(0, 5, 7, spaces=("aa", "bb"))
    rows = rows_of(1, 6, 5)
    amap(rows, space="aa")
    with pytest.raises(ValueError, match=r"expected one of \['image', 'text'\]"):
        amap(rows, "audio")
    with pytest.raises(ValueError, match=r"\(n, 5\), got \(6, 7\).*inverse"):
        amap(rows_of(1, 6, 7))
    with pytest.raises(ValueError, match=r"`amap\(rows=.*got list; convert it with"):
        amap(rows.tolist())
    with pytest.raises(ValueError, match=r"got \(5,\)"):
        amap(rows[0])
    with pytest.raises(ValueError, match="'aa'; embed the rows with the source model"):
        amap(rows, space="cc")
    with pytest.raises(ValueError, match=r"target space already: use `amap.inverse"):
        amap(rows, space="bb")
    with pytest.raises(ValueError, match="source and target exchanged"):
        make_map(0, 4, 4, kind="linear").inverse()


@pytest.mark.usefixtures("no_shape_hook")
def test_maps_that_do_not_meet_are_refused_with_a_remedy():
    amap = make_map(0, 5, 5, spaces=("aa", "bb"))
    with pytest.raises(ValueError, match="4 after 5; the map applied first"):
        _ = make_map(1, 4, 5) @ amap
    with pytest.raises(ValueError, match="'aa' after 'bb'.*turns a map around"):
        _ = amap @ amap
    _ = amap.inverse() @ amap
    only = amap.inverse()
    only = ja.AlignmentMap(
        matrix=only.matrix,
        scales={"image": only.scales["image"]},
        source_means={"image": only.source_means["image"]},
        target_means={"image": only.target_means["image"]},
    )
    with pytest.raises(ValueError, match="fit both maps on pairs of the same"):
        _ = only @ amap
    for stranger in (3, np.ones((5, 5), np.float32)):
        with pytest.raises(TypeError, match=r"carry rows by `amap\(rows"):
            _ = amap @ stranger
