# SPDX-License-Identifier: Apache-2.0
"""A map of a given rotation is the one that a fit would have made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from tests.cases import rows_pair
from tests.tolerances import ROWS, eps

N = 60
TOLERANCE = ROWS * eps(np.float32)


def moments_of(d_source, d_target, **options):
    # One rotation for both: the same draw, with other means and noise.
    drawn = {
        name: rows_pair(
            np.random.default_rng(7), N, d_source, d_target, mean=mean, noise=noise
        )
        for name, mean, noise in (("image", 0.9, 0.1), ("text", -0.5, 0.2))
    }
    return {
        name: ja.accumulate_moments(
            ja.anchors.array_pairs(*rows),
            grams=True,
            **options,
        )
        for name, rows in drawn.items()
    }


@pytest.mark.parametrize("scale", ["energy", "none", "least_squares"])
@pytest.mark.parametrize("widths", [(6, 6), (4, 6), (6, 4)])
def test_the_closed_form_gives_the_fitted_map(widths, scale):
    moments = moments_of(*widths)
    options = {"fit_on": "image", "scale": scale, "source_space": "aa"}
    expected = ja.fit_map(moments, ja.Orthogonal(keep="all"), **options)
    found = ja.fit_map(moments, ja.Given(expected.rotation), **options, card={"n": 1})
    rows = rows_pair(np.random.default_rng(1), 5, *widths)[0]
    for modality in moments:
        np.testing.assert_allclose(
            found(rows, modality), expected(rows, modality), atol=TOLERANCE
        )
    assert (found.structure, found.source_space) == ("isometry", "aa")
    assert found.card["n"] == 1
    notes = found.card["fit"]
    assert (notes["fit_on"], notes["family"]["name"]) == ("image", "given")
    assert notes["modalities"]["text"] == pytest.approx(
        expected.card["fit"]["modalities"]["text"], rel=1e-5
    )


@pytest.mark.parametrize("determinant", [1, -1])
def test_the_rotation_stays_as_given_and_is_stored(determinant, tmp_path):
    moments = moments_of(6, 6)
    q = ja.data.random_rotation(jax.random.key(3), 6, 6, reflect=determinant < 0)
    found = ja.fit_map(moments, ja.Given(q), fit_on="all", scale="none")
    found.save(tmp_path / "map.safetensors")
    back = ja.AlignmentMap.load(tmp_path / "map.safetensors")
    np.testing.assert_array_equal(back.rotation, np.asarray(q))
    assert np.sign(np.linalg.det(back.rotation)) == determinant
    rows = rows_pair(np.random.default_rng(1), 5, 6, 6)[0]
    image = jax.tree.map(np.asarray, moments["image"])
    expected = (rows - image.source_mean) @ np.asarray(q).T + image.target_mean
    np.testing.assert_allclose(
        back(rows, "image", normalize=False), expected, atol=TOLERANCE
    )


def test_what_descent_ends_with_is_accepted():
    moments = moments_of(6, 4)
    objective = ja.stiefel.procrustes_objective(moments["image"])
    found = ja.stiefel.fit(objective, jnp.eye(4, 6), ja.stiefel.pogo(1e-3), steps=20)
    amap = ja.fit_map(moments, ja.Given(found.point))
    np.testing.assert_array_equal(amap.rotation, found.point)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(6, dtype=int), "int64"),
        (np.eye(6) * 1.001, "orthonormal columns"),
        (np.full((6, 6), np.nan), "finite"),
        (np.eye(6).tolist(), "list"),
        (np.eye(6, dtype=np.float16)[:, ::-1] * np.float16(0.999), "polar_factor"),
        (np.ones((2, 3, 3)), "shape"),
    ],
)
def test_what_is_no_isometry_is_refused(matrix, message, no_shape_hook):
    with pytest.raises(ValueError, match=rf"Given\(matrix=.*{message}"):
        ja.Given(matrix)


def test_a_general_matrix_is_finite(no_shape_hook):
    with pytest.raises(ValueError, match=r"Given\(matrix=.*finite"):
        ja.Given(np.diag([1.0, np.inf]), "general")


def test_another_shape_is_refused_and_a_turned_one_named():
    with pytest.raises(ValueError, match=r"\(6, 6\)"):
        ja.fit_map(moments_of(6, 6), ja.Given(np.eye(6)[:4]))
    with pytest.raises(ValueError, match="transposed"):
        ja.fit_map(moments_of(4, 6), ja.Given(np.eye(4, 6)))


def test_a_general_matrix_is_used_as_it_is():
    moments = moments_of(6, 4)
    matrix = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    amap = ja.fit_map(moments, ja.Given(matrix, structure="general"))
    np.testing.assert_array_equal(amap.matrix, matrix)
    assert (amap.structure, float(amap.numbers.scales["text"])) == ("general", 1.0)
