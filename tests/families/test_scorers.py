# SPDX-License-Identifier: Apache-2.0
"""Scorers against float64 by eigenvectors, on steep spectra and on planted pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxalign as ja
from jaxalign.errors import ArgumentError
from jaxalign.families.scorer import penalties_of
from tests.cases import moments_of
from tests.compilations import compilations
from tests.search.cones import cone_rows

families = ja.families


def power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def covariances(x, y):
    x, y = (side - side.mean(axis=0) for side in (x, y))
    n = len(x)
    parts = x.T @ x / n, y.T @ y / n, x.T @ y / n
    return *parts, np.trace(parts[0]) / n, np.trace(parts[1]) / n


def by_length(rows, length):
    return length * rows / np.linalg.norm(rows, axis=1, keepdims=True)


def likelihood_ratio(x, y, queries, index, ridge=1.0, norms=True):
    """By square roots: A = (S_x + l)^-1/2 U, g = r / (1 - r^2), and so on."""
    s_x, s_y, cross, l_x, l_y = covariances(x, y)
    white_x = power(s_x + ridge * l_x * np.eye(len(s_x)), -0.5)
    white_y = power(s_y + ridge * l_y * np.eye(len(s_y)), -0.5)
    u, r, vt = np.linalg.svd(white_x @ cross @ white_y, full_matrices=False)
    gain = r / (1 - r**2)
    a, b = white_x @ u * np.sqrt(gain), white_y @ vt.T * np.sqrt(gain)
    asks, holds = (queries - x.mean(axis=0)) @ a, (index - y.mean(axis=0)) @ b
    if norms:
        asks = by_length(asks, np.sqrt(np.trace(a.T @ s_x @ a)))
        holds = by_length(holds, np.sqrt(np.trace(b.T @ s_y @ b)))
    return asks @ holds.T - 0.5 * holds**2 @ r


def half(x, y, queries, index, ridge=1.0):
    s_x, s_y, cross, l_x, l_y = covariances(x, y)
    white_x = power(s_x + ridge * l_x * np.eye(len(s_x)), -0.25)
    white_y = power(s_y + ridge * l_y * np.eye(len(s_y)), -0.25)
    matrix = white_x @ cross @ white_y
    # s^1/2 on either side, up to a turn: the roots of M M' and M' M.
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    asks = (queries - x.mean(axis=0)) @ white_x @ u * np.sqrt(s)
    holds = (index - y.mean(axis=0)) @ white_y @ vt.T * np.sqrt(s)
    return by_length(asks, 1.0) @ by_length(holds, 1.0).T


def toward_index(x, y, queries, index, strength=0.1, turned=False):
    if turned:  # target queries among source rows
        x, y, queries, index = y, x, index, queries
    s_x, _, cross, _, _ = covariances(x, y)
    ridge = strength * np.trace(s_x) / len(s_x)
    matrix = np.linalg.solve(s_x + ridge * np.eye(len(s_x)), cross)
    carried = (queries - x.mean(axis=0)) @ matrix
    # Index rows within the range of the matrix, which the anchors span.
    basis = np.linalg.svd(matrix.T, full_matrices=False)[0]
    basis = basis[:, : min(len(x) - 1, *matrix.shape)]
    holds = (index - y.mean(axis=0)) @ basis @ basis.T
    scores = by_length(carried, 1.0) @ by_length(holds, 1.0).T
    return scores.T if turned else scores


# A scorer, another that shares its program, and its scores; then the widest gap of
# float32 seen below, of the span of the scores, times 4. The regression divides by a
# tenth of a mean eigenvalue, however small that is.
CASES = {
    "likelihood ratio": (
        families.LikelihoodRatio(),
        families.LikelihoodRatio(0.5),
        likelihood_ratio,
        2e-5,
    ),
    "plain": (
        families.LikelihoodRatio(2.0, norms=False),
        families.LikelihoodRatio(0.5, norms=False),
        lambda *rows: likelihood_ratio(*rows, ridge=2.0, norms=False),
        2e-5,
    ),
    "half": (families.Half(), families.Half(0.5), half, 2e-5),
    "to the target": (
        families.TowardIndex(),
        families.TowardIndex(strength=0.2),
        toward_index,
        1e-3,
    ),
    "to the source": (
        families.TowardIndex("target"),
        families.TowardIndex("target", 0.2),
        lambda *rows: toward_index(*rows, turned=True),
        1e-3,
    ),
}


def scores_of(scorer, moments, queries, index):
    """Scores of source queries with target rows."""
    asks = families.encode_rows(
        scorer.source, moments.source_mean, scorer.source_norm, queries
    )
    holds = families.encode_rows(
        scorer.target, moments.target_mean, scorer.target_norm, index
    )
    return np.asarray(asks @ holds.T) - np.asarray(penalties_of(holds, scorer.penalty))


@pytest.fixture(scope="module")
def steep():
    """Rows in a cone whose covariances have condition numbers of 1e8."""
    source, target = cone_rows(400, 48, decay=2.4, noise=0.3)
    target = target @ np.random.default_rng(0).standard_normal((48, 40))
    return source.astype(np.float32), by_length(target, 1.0).astype(np.float32)


@pytest.mark.parametrize("anchors", [30, 300])
@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_formula(steep, name, anchors):
    family, _, formula, within = CASES[name]
    x, y = (side[:anchors] for side in steep)
    queries, index = (side[300:] for side in steep)
    moments = moments_of(x, y, grams=True)
    scorer = family.solve(moments)
    expected = formula(*(rows.astype(np.float64) for rows in (x, y, queries, index)))
    found = scores_of(scorer, moments, queries, index)
    assert np.abs(found - expected).max() <= within * np.ptp(expected)
    assert int(scorer.rank) <= min(anchors - 1, 40)
    # A cut at the rank leaves nothing out.
    cut = scorer.cut(int(scorer.rank))
    assert cut.width == int(scorer.rank)
    again = scores_of(cut, moments, queries, index)
    np.testing.assert_allclose(again, found, atol=1e-5 * np.ptp(expected))


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_a_loop_and_other_strengths_share_its_program(steep, name):
    family, other, _, within = CASES[name]
    each = [
        moments_of(*(side[part : part + 30] for side in steep), grams=True)
        for part in (0, 30)
    ]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    solved = family.solve(batch)
    with compilations() as compiled:
        other.solve(batch)
    assert not compiled
    queries, index = (side[300:] for side in steep)
    for place, one in enumerate(each):
        entry = jax.tree.map(lambda leaf, place=place: leaf[place], solved)
        alone = scores_of(family.solve(one), one, queries, index)
        found = scores_of(entry, one, queries, index)
        np.testing.assert_allclose(found, alone, atol=within * np.ptp(alone))


def gaussian_pairs(seed, n, correlations):
    """Jointly Gaussian rows of given canonical correlations, mixed on either side."""
    rng, d = np.random.default_rng(seed), len(correlations)
    a = rng.standard_normal((n, d))
    b = correlations * a
    b += np.sqrt(1 - correlations**2) * rng.standard_normal((n, d))
    mixing, spread = np.random.default_rng(99), (1.0 + np.arange(d)) ** -0.5
    turns = [np.linalg.qr(mixing.standard_normal((d, d)))[0] for _ in range(4)]
    mix = [turns[0] * spread @ turns[1], turns[2] * spread @ turns[3]]
    return a, b, (a @ mix[0]).astype(np.float32), (b @ mix[1]).astype(np.float32)


def top1(scores):
    return float(np.mean(scores.argmax(axis=1) == np.arange(len(scores))))


CORRELATIONS = np.linspace(0.85, 0.1, 32)


def test_plain_form_retrieves_as_often_as_bayes_and_more_than_a_rotation():
    _, _, *anchors = gaussian_pairs(0, 20_000, CORRELATIONS)
    a, b, source, target = gaussian_pairs(1, 2000, CORRELATIONS)
    gain = CORRELATIONS / (1 - CORRELATIONS**2)
    bayes = top1(a * gain @ b.T - 0.5 * b**2 @ (CORRELATIONS * gain))
    moments = moments_of(*anchors, grams=True)
    plain = top1(
        scores_of(
            families.LikelihoodRatio(norms=False).solve(moments),
            moments,
            source,
            target,
        )
    )
    matrix = np.asarray(ja.Orthogonal().solve(moments).matrix)
    carried = (source - np.asarray(moments.source_mean)) @ matrix.T
    holds = target - np.asarray(moments.target_mean)
    rotation = top1(by_length(carried, 1.0) @ by_length(holds, 1.0).T)
    error = np.sqrt(bayes * (1 - bayes) / 2000)
    assert abs(plain - bayes) < 2 * error
    assert bayes > 0.3
    assert rotation < plain - 10 * error


@pytest.mark.slow
@pytest.mark.standard_promotion
def test_a_trained_critic_with_a_bias_ends_at_the_likelihood_ratio():
    """And one without, two linear towers, learns the weight r and retrieves worse."""
    correlations, batch = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), 512
    gain = correlations / (1 - correlations**2)

    def draw(key):
        a, e = jax.random.normal(key, (2, batch, len(correlations)))
        r = jnp.asarray(correlations, jnp.float32)[None, :]
        return a, r * a + jnp.sqrt(1 - r**2) * e

    def loss(params, key):
        a, b = draw(key)
        scores = (a * params["m"][None, :]) @ b.T
        if "n" in params:
            scores = scores - 0.5 * (b**2 @ params["n"])[None, :]
        logs = jax.nn.log_softmax(scores, axis=1)
        return -jnp.mean(jnp.diagonal(logs))

    @jax.jit
    def train(params, key):
        optimiser = optax.adam(optax.cosine_decay_schedule(0.05, 1500))

        def step(carry, key):
            params, state = carry
            slope = jax.grad(loss)(params, key)
            updates, state = optimiser.update(slope, state, params)
            return (optax.apply_updates(params, updates), state), None

        start = (params, optimiser.init(params))
        return jax.lax.scan(step, start, jax.random.split(key, 1500))[0][0]

    ones = jnp.ones(len(correlations))
    keys = jax.random.split(jax.random.key(1), 200)

    def held_out(params):
        return float(jnp.mean(jax.jit(jax.vmap(loss, (None, 0)))(params, keys)))

    ratio = {"m": jnp.asarray(gain), "n": jnp.asarray(gain * correlations)}
    critic = train({"m": ones, "n": ones}, jax.random.key(0))
    towers = train({"m": ones}, jax.random.key(0))
    assert abs(held_out(critic) - held_out(ratio)) < 1e-2
    assert held_out(towers) > held_out(ratio) + 0.1

    def found(params):
        hits = []
        for key in keys[:8]:
            a, b = draw(key)
            a, b = np.asarray(a), np.asarray(b)
            weights, bias = (np.asarray(params.get(key, 0 * ones)) for key in "mn")
            hits.append(top1(a * weights @ b.T - 0.5 * b**2 @ bias))
        return np.mean(hits)

    assert found(towers) < found(critic) - 0.02
    np.testing.assert_allclose(found(critic), found(ratio), atol=0.01)


def test_rows_that_repeat_and_correlations_of_one_are_cut_and_counted():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((6, 8)).astype(np.float32)
    twice = np.concatenate([rows, rows])
    moments = moments_of(twice, twice[:, ::-1], grams=True)
    for family in (families.LikelihoodRatio(), families.Half(), families.Whitened()):
        assert int(family.solve(moments).rank) == 5
    # Next to no ridge: every correlation is 1 up to rounding.
    many = rng.standard_normal((2000, 4)).astype(np.float32)
    sure = families.LikelihoodRatio(1e-6).solve(moments_of(many, many, grams=True))
    assert int(sure.clipped) == 4
    assert np.isfinite(np.asarray(sure.source)).all()


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_many_anchors_and_a_long_direction_lose_no_direction(size):
    """The ridge is tiny, but the rows are well conditioned: all of them count."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50_000, 6)) * np.array([100.0, 1, 1, 1, 1, 1])
    y = 0.5 * x + rng.standard_normal(x.shape)
    moments = moments_of(
        *(size * side.astype(np.float32) for side in (x, y)), grams=True
    )
    for family in (
        families.LikelihoodRatio(1e-3),
        families.Half(1e-3),
        families.Whitened(1e-3),
        families.TowardIndex(strength=1e-6),
    ):
        assert int(family.solve(moments).rank) == 6, family


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: families.LikelihoodRatio(0.0), "ridge=0.0"),
        (lambda: families.LikelihoodRatio(np.nan), "ridge=nan"),
        (lambda: families.Half(-1.0), "ridge=-1.0"),
        (lambda: families.LikelihoodRatio(norms="no"), "norms='no'"),
        (lambda: families.Whitened(0), "ridge=0"),
        (lambda: families.TowardIndex(strength=0.0), "strength=0.0"),
        (lambda: families.TowardIndex("both"), "queries_are='both'"),
        (lambda: families.ScorerFamily().solve(None), "ScorerFamily"),
    ],
)
def test_options_that_are_not_positive_are_refused(make, argument, no_shape_hook):
    with pytest.raises(ArgumentError, match=argument):
        make()


def test_anchors_that_give_no_scorer_are_refused(no_shape_hook):
    rows = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    line = np.outer(np.arange(1.0, 10), [1.0, 2, 0, 1]).astype(np.float32)
    scorer = ja.LikelihoodRatio()
    for pair in ((rows[:2], rows[:2]), (line, line)):
        with pytest.raises(ArgumentError, match=r"scorer=.*three anchors.*rank 1"):
            ja.fit_map(pair, scorer=scorer)
    with pytest.raises(ArgumentError, match="rows that differ"):
        ja.fit_map((np.ones_like(rows), rows), scorer=scorer)
    for wrong in (ja.Ridge(0.1), "lr", ja.LikelihoodRatio):
        with pytest.raises(ArgumentError, match=r"\(scorer="):
            ja.fit_map((rows, rows), scorer=wrong)
    without = moments_of(rows, rows, grams=False)
    with pytest.raises(ArgumentError, match=r"Gram matrices.*scorer"):
        ja.fit_map(without, scorer=scorer, scale="none")
