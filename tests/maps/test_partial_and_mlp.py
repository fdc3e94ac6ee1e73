# SPDX-License-Identifier: Apache-2.0
"""Partial isometries and MLPs behind the map: fitted, used, composed, stored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.maps.composition import composed_structure
from jaxalign.maps.file import read_map
from tests.cases import orthonormal, planted_rows
from tests.maps.test_file import rewrite
from tests.tolerances import PROCRUSTES, ROWS, eps

F32 = eps(np.float32)

# `fit_mlp` descends by optax.
pytestmark = pytest.mark.standard_promotion


def few_anchors(d_source=16, d_target=16, n=10, seed=0):
    """Fewer anchors than dimensions, related by a planted map."""
    rng = np.random.default_rng(seed)
    planted = orthonormal(rng, d_target, d_source)
    source = rng.standard_normal((n, d_source)).astype(np.float32)
    return source, (0.7 * source @ planted.T).astype(np.float32), planted


@pytest.mark.parametrize(("d_source", "d_target"), [(16, 20), (20, 16)])
def test_a_partial_isometry_is_the_rotation_where_anchors_say_so(d_source, d_target):
    source, target, _ = few_anchors(d_source, d_target)
    whole = ja.fit_map({"image": (source, target)}, ja.Orthogonal(keep="all"))
    part = ja.fit_map({"image": (source, target)})
    assert (part.structure, part.card["fit"]["kept"]) == ("partial_isometry", 9)
    m = np.asarray(part.matrix, np.float64)
    np.testing.assert_allclose(m @ m.T @ m, m, atol=PROCRUSTES * F32)
    assert np.linalg.matrix_rank(m, tol=1e-3) == 9
    # One scale, and one place for the anchors themselves; nothing of any other row.
    assert float(part.numbers.scales["image"]) == pytest.approx(
        float(whole.numbers.scales["image"]), rel=PROCRUSTES * F32
    )
    if d_source <= d_target:
        np.testing.assert_allclose(part(source), whole(source), atol=PROCRUSTES * F32)
    centred = source - source.mean(axis=0)
    free = np.linalg.svd(centred)[2][9:].astype(np.float32)
    if d_source <= d_target:
        nothing = part(free, subtract_source_mean=False, add_target_mean=False)
        np.testing.assert_allclose(nothing, np.zeros_like(nothing), atol=1e-4)


def test_its_inverse_goes_back_on_what_is_identified():
    source, target, _ = few_anchors()
    part = ja.fit_map({"image": (source, target)})
    back = part.inverse()
    assert back.structure == "partial_isometry"
    np.testing.assert_allclose(back(part(source)), source, atol=PROCRUSTES * F32)
    stranger = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    once = part(stranger)
    np.testing.assert_allclose(part(back(once)), once, atol=PROCRUSTES * F32)
    with pytest.raises(ValueError, match="partial_isometry.*read"):
        _ = part.rotation


def test_enough_anchors_leave_the_rotation_as_it_is():
    source, target, planted = planted_rows(np.random.default_rng(3), 60, 6)
    amap = ja.fit_map({"image": (source, target)})
    assert amap.structure == "isometry"
    np.testing.assert_allclose(amap.rotation, planted, atol=PROCRUSTES * F32)


def test_rank_keeps_the_leading_directions():
    rng = np.random.default_rng(4)
    source, _, planted = planted_rows(rng, 200, 6)
    source = (source * np.geomspace(1, 0.05, 6)).astype(np.float32)
    pairs = {"image": (source, (source @ planted.T).astype(np.float32))}
    amap = ja.fit_map(pairs, ja.Orthogonal(keep=2))
    assert amap.card["fit"]["kept"] == 2
    _, values, basis = np.linalg.svd(source - source.mean(axis=0))
    assert values[1] / values[2] > 1.2
    expected = planted @ basis[:2].T @ basis[:2]
    np.testing.assert_allclose(amap.matrix, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("kinds", "widths", "kind"),
    [
        (("partial_isometry", "isometry"), (6, 6, 6), "partial_isometry"),
        (("partial_isometry", "isometry"), (4, 5, 6), "partial_isometry"),
        (("partial_isometry", "isometry"), (6, 6, 4), "general"),
        (("isometry", "partial_isometry"), (6, 5, 5), "partial_isometry"),
        (("isometry", "partial_isometry"), (4, 5, 6), "general"),
        (("partial_isometry", "partial_isometry"), (6, 6, 6), "general"),
        (("isometry", "partial_isometry"), (6, 6, 6), "partial_isometry"),
        (("general", "partial_isometry"), (6, 6, 6), "general"),
    ],
)
def test_products_are_of_the_kind_that_is_named(kinds, widths, kind):
    assert composed_structure(kinds, widths) == kind
    if "general" in kinds:
        return
    rng = np.random.default_rng(5)

    def matrix(name, d_source, d_target):
        turn = orthonormal(rng, d_target, d_source)
        if name == "isometry":
            return turn
        u, _, v = np.linalg.svd(turn)
        return u[:, :2] @ v[:2]

    product = matrix(kinds[1], widths[1], widths[2]) @ matrix(
        kinds[0], widths[0], widths[1]
    )
    error = np.abs(product @ product.T @ product - product).max()
    assert (error < 1e-9) == (kind == "partial_isometry")


def test_a_partial_isometry_is_stored_and_checked(tmp_path):
    place = tmp_path / "map.safetensors"
    source, target, _ = few_anchors()
    part = ja.fit_map({"image": (source, target)})
    part.save(place)
    back = ja.AlignmentMap.load(place)
    assert jax.tree.structure(back.numbers) == jax.tree.structure(part.numbers)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, back.numbers, part.numbers))
    assert back.fingerprint == part.fingerprint
    rewrite(place, tensors={"matrix": 1.01 * np.asarray(part.matrix)})
    with pytest.raises(ValueError, match="away from a partial isometry; copy"):
        ja.AlignmentMap.load(place)


@pytest.fixture(scope="module")
def bent():
    """Rows whose target is the rotated source and a bend that no matrix has."""
    rng = np.random.default_rng(6)
    source, target, _ = planted_rows(rng, 400, 8, means=(0.9, 0.3))
    x = source - source.mean(axis=0)
    bend = np.tanh(4 * x[:, :1]) * rng.standard_normal((1, 8)) * 0.2
    pairs = {
        "image": (source, (target + bend).astype(np.float32)),
        "text": (source[:50] + 1, target[:50]),
    }
    return pairs, ja.fit_map(pairs, ja.Mlp(seed=3))


def test_an_mlp_beats_the_rotation_where_the_map_is_bent(bent):
    pairs, amap = bent
    rotation = ja.fit_map(pairs)
    errors = [
        m.card["fit"]["modalities"]["image"]["relative_residual"]
        for m in (amap, rotation)
    ]
    assert errors[0] < 0.7 * errors[1]
    source, target = pairs["image"]
    again = np.sum(np.square(np.asarray(amap(source, "image")) - target))
    spread = np.sum(np.square(target - target.mean(axis=0)))
    assert again / spread == pytest.approx(errors[0], rel=1e-3)


def test_it_is_what_fit_mlp_gives_about_each_modalitys_means(bent):
    pairs, amap = bent
    source, target = pairs["image"]
    folds = np.empty(400, int)
    folds[np.random.default_rng(0).permutation(400)] = np.arange(400) % 10
    solution = ja.solve.fit_mlp(source, target, seed=3, held_out=folds == 0)
    # A thousand steps apart by rounding alone.
    np.testing.assert_allclose(amap(source, "image"), solution(source), atol=5e-3)
    texts, _ = pairs["text"]
    expected = solution(
        texts,
        source_mean=amap.numbers.source_means["text"],
        target_mean=amap.numbers.target_means["text"],
    )
    np.testing.assert_allclose(amap(texts, "text"), expected, atol=5e-3)


def test_an_mlp_is_stored_and_knows_what_it_lacks(bent, tmp_path):
    _, amap = bent
    place = tmp_path / "map.safetensors"
    amap.save(place)
    back = ja.AlignmentMap.load(place)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, back.numbers, amap.numbers))
    assert back.fingerprint == amap.fingerprint
    assert {"mlp/inner", "mlp/inner_bias", "mlp/outer"} < set(read_map(place)[0])
    with pytest.raises(ValueError, match="source and target exchanged"):
        amap.inverse()
    with pytest.raises(ValueError, match="carry rows by one after the other"):
        _ = amap @ amap
    rewrite(place, tensors={"mlp/outer": np.ones((8, 3), np.float32)})
    with pytest.raises(ValueError, match="shape .* for 'mlp/outer' "):
        ja.AlignmentMap.load(place)
    rewrite(place, tensors={"mlp/inner": None})
    with pytest.raises(ValueError, match="nothing for 'mlp/inner'"):
        ja.AlignmentMap.load(place)


def test_whole_groups_stop_an_mlp_and_ten_anchors_are_needed():
    source, target, _ = few_anchors(8, 8, 9)
    with pytest.raises(ValueError, match="Mlp.*at least 10 anchors"):
        ja.fit_map({"image": (source, target)}, ja.Mlp())
    source, target, _ = few_anchors(8, 8, 12)
    with pytest.raises(ValueError, match="2 groups"):
        ja.fit_map(ja.Anchors((source, target), groups=np.zeros(12, int)), ja.Mlp())


def test_only_new_kinds_need_the_new_format(tmp_path):
    source, target, _ = few_anchors()
    for keep, version in (("all", b"jaxalign-map/1"), (2, b"jaxalign-map/2")):
        path = tmp_path / f"{version[-1]}.safetensors"
        ja.fit_map((source, target), ja.Orthogonal(keep=keep)).save(path)
        assert version in path.read_bytes()


def test_fingerprints_tell_maps_apart_but_not_cards():
    source, target, _ = few_anchors()
    one = ja.fit_map({"image": (source, target)}, card={"note": 1})
    two = ja.fit_map({"image": (source, target)}, card={"note": 2})
    other = ja.fit_map({"image": (source, target)}, scale="none")
    assert one.fingerprint == two.fingerprint != other.fingerprint
    named = ja.fit_map({"image": (source, target)}, source_space="a")
    assert named.fingerprint != one.fingerprint


def test_half_precision_rows_go_through_an_mlp(bent):
    _, amap = bent
    rows = jnp.ones((2, 8), jnp.bfloat16)
    moved = amap(rows, "image")
    assert moved.dtype == jnp.float32
    expected = amap(rows.astype(jnp.float32), "image")
    np.testing.assert_allclose(moved, expected, atol=ROWS * eps(np.float32))
