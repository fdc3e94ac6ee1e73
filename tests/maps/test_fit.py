# SPDX-License-Identifier: Apache-2.0
"""`fit_map`: SciPy's rotation in any order and batching, scales, kinds, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.anchors import accumulate, inspection
from jaxalign.spaces import Space
from tests.cases import orthonormal, planted_rows, rows_pair
from tests.compilations import compilations
from tests.tolerances import PROCRUSTES, SUMS, eps

F32 = eps(np.float32)


def scipy_rotation(source, target):
    """Fit by SciPy on centred float64 rows; its R turns rows from the right."""
    x, y = (np.asarray(side, np.float64) for side in (source, target))
    rotation, _ = scipy.linalg.orthogonal_procrustes(
        x - x.mean(axis=0), y - y.mean(axis=0)
    )
    return rotation.T


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch_size=st.sampled_from([7, 64, 512]),
    mean=st.sampled_from([0.0, 0.93, 5.0]),
    reflect=st.booleans(),
)
def test_rotation_is_scipys_in_any_order_and_batching(seed, batch_size, mean, reflect):
    rng = np.random.default_rng(seed)
    source, target, _ = planted_rows(
        rng, 300, 24, reflect=reflect, noise=0.3, means=(mean, 0.33)
    )
    expected = scipy_rotation(source, target)
    order = rng.permutation(300)
    amap = ja.fit_map({"image": (source[order], target[order])}, batch_size=batch_size)
    assert np.abs(np.asarray(amap.rotation) - expected).max() <= 1e-4


def test_wide_rows_of_a_tight_cone_match_scipy():
    source, target, planted = planted_rows(
        np.random.default_rng(0), 700, 96, means=(0.93, 0.93), noise=0.2
    )
    source, target = source * np.float32(0.37) + 0.05, target * np.float32(0.37)
    amap = ja.fit_map({"image": (source, target)}, batch_size=512)
    expected = scipy_rotation(source, target)
    assert np.abs(np.asarray(amap.rotation) - expected).max() <= 1e-4
    np.testing.assert_allclose(
        amap.numbers.source_means["image"],
        source.mean(axis=0, dtype=np.float64),
        atol=4 * F32,
    )


def test_planted_map_carries_texts_from_images_alone(key):
    planted = ja.data.planted_pairs(
        key, 300, 6, 9, scale=0.7, mean_norms=(0.93, 0.33), noise=0.01
    )
    amap = ja.fit_map(planted.pairs)
    source, target = planted.pairs["text"]
    moved = np.asarray(amap(source, "text"))
    centred = np.asarray(target) - np.mean(np.asarray(target), axis=0)
    assert np.sum((moved - target) ** 2) < 0.005 * np.sum(centred**2)
    assert float(amap.numbers.scales["text"]) == pytest.approx(0.7, rel=0.01)
    assert amap.modalities == ("image", "text")
    notes = amap.card["fit"]
    assert notes["rank"] == 6
    assert notes["status"] == "OK"
    assert notes["modalities"]["text"]["anchors"] == 300
    assert notes["modalities"]["text"]["relative_residual"] < 0.005


@pytest.mark.filterwarnings("ignore::jaxalign.errors.PoorFitWarning")
def test_fit_on_decides_whose_rows_fit():
    rng = np.random.default_rng(1)
    images = rows_pair(rng, 100, 6, 6, mean=0.9)
    texts = rows_pair(rng, 80, 6, 6, mean=-0.9)
    pairs = {"image": images, "text": texts}
    for name, rows in pairs.items():
        amap = ja.fit_map(pairs, fit_on=name)
        expected = scipy_rotation(*rows)
        np.testing.assert_allclose(amap.rotation, expected, atol=PROCRUSTES * F32)
    centred = [
        np.concatenate(
            [rows[side] - rows[side].mean(axis=0) for rows in pairs.values()]
        )
        for side in (0, 1)
    ]
    both = ja.fit_map(pairs, fit_on="all")
    expected = scipy_rotation(*centred)
    np.testing.assert_allclose(both.rotation, expected, atol=PROCRUSTES * F32)


@pytest.mark.parametrize(
    ("d_source", "d_target", "family"),
    [
        (6, 9, ja.Orthogonal()),
        (9, 6, ja.Orthogonal(keep="all")),
        (9, 6, ja.Ridge()),
        (9, 6, ja.LeastSquares()),
    ],
)
def test_energy_scale_gives_each_modality_its_spread(d_source, d_target, family):
    rng = np.random.default_rng(3)
    image, text = (rows_pair(rng, 50, d_source, d_target) for _ in range(2))
    pairs = {"image": image, "text": (0.3 * text[0], text[1])}
    amap = ja.fit_map(pairs, family, scale="energy")
    for name, (source, target) in pairs.items():
        moved = np.asarray(amap(source, name, add_target_mean=False), np.float64)
        spread = np.sum((target - target.mean(axis=0)) ** 2)
        assert np.sum(moved**2) == pytest.approx(spread, rel=2 * SUMS * F32)


def test_scale_none_and_least_squares():
    source, target, _ = planted_rows(np.random.default_rng(4), 100, 6, noise=0.5)
    pairs = {"image": (source, 2 * target)}
    plain = ja.fit_map(pairs, scale="none")
    assert float(plain.numbers.scales["image"]) == 1.0
    best = ja.fit_map(pairs, scale="least_squares")
    energy = ja.fit_map(pairs)
    assert float(best.numbers.scales["image"]) < float(energy.numbers.scales["image"])

    def error(amap):
        return float(np.sum((np.asarray(amap(source)) - 2 * target) ** 2))

    assert error(best) < error(energy)
    relative = best.card["fit"]["modalities"]["image"]["relative_residual"]
    spread = np.sum((2 * target - 2 * target.mean(axis=0)) ** 2)
    assert relative == pytest.approx(error(best) / spread, rel=1e-4)


def test_linear_is_least_squares_and_chooses_its_ridge():
    source, target = rows_pair(np.random.default_rng(5), 100, 6, 9, noise=1.0)
    pairs = {"image": (source, target)}
    exact = ja.fit_map(pairs, ja.LeastSquares())
    x = np.c_[source, np.ones(100)].astype(np.float64)
    expected = x @ np.linalg.lstsq(x, target.astype(np.float64))[0]
    np.testing.assert_allclose(exact(source), expected, atol=PROCRUSTES * F32)
    chosen = ja.fit_map(pairs, ja.Ridge())
    assert chosen.card["fit"]["strength"] > 0
    with pytest.raises(ValueError, match=r"read `amap.matrix`"):
        _ = chosen.rotation


def test_least_squares_resolves_spectra_beyond_a_float32_gram():
    rng = np.random.default_rng(15)
    source, target = rows_pair(rng, 200, 12, 6, noise=1.0)
    # Singular values down to 1e-5 of the largest: 1e-10 in a Gram.
    source = (source * np.geomspace(1.0, 1e-5, 12)).astype(np.float32)
    amap = ja.fit_map({"image": (source, target)}, ja.LeastSquares())
    x, y = (side - side.mean(axis=0, dtype=np.float64) for side in (source, target))
    least = np.sum(np.linalg.lstsq(x, y)[1]) / np.sum(y**2)
    fit = amap.card["fit"]
    assert (fit["rank"], fit["status"]) == (12, "OK")
    found = fit["modalities"]["image"]["relative_residual"]
    assert found == pytest.approx(least, rel=SUMS * F32)


def test_mean_only_moves_means():
    source, target = rows_pair(np.random.default_rng(6), 20, 6, 6, mean=0.9)
    amap = ja.fit_map({"image": (source, target)}, ja.MeanOnly())
    expected = source - source.mean(axis=0) + target.mean(axis=0)
    np.testing.assert_allclose(amap(source), expected, atol=SUMS * F32)


def test_few_anchors_are_noted_not_refused():
    source, target, planted = planted_rows(np.random.default_rng(7), 10, 16)
    amap = ja.fit_map({"image": (source, target)})
    assert amap.card["fit"]["rank"] == 9
    assert amap.card["fit"]["status"] == "RANK_DEFICIENT"
    np.testing.assert_allclose(amap(source), target, atol=PROCRUSTES * F32)


@pytest.mark.parametrize(("copies", "d_target"), [(5, 64), (1, 48)])
def test_few_anchors_scale_each_modality_on_what_they_determine(copies, d_target):
    # 20 images determine 19 directions; texts are three times as wide there alone.
    # Repeated anchors are as many as the dimensions, and determine no more.
    rng = np.random.default_rng(13)
    d_source = 64
    planted = orthonormal(rng, d_target, d_source)
    narrow = min(d_source, d_target)
    inner = rng.standard_normal((20, narrow)).astype(np.float32)
    spanned = np.linalg.svd(inner - inner.mean(axis=0))[2][:19]
    # Columns (rows of `planted`) that both spaces share carry the rows.
    shared = np.linalg.svd(planted)[2][:narrow]
    image = (np.repeat(inner, copies, axis=0) @ shared).astype(np.float32)
    free = rng.standard_normal((400, narrow))
    wide = free + 2 * free @ spanned.T @ spanned
    text = (free @ shared).astype(np.float32)
    pairs = {
        "image": (image, (image @ planted.T).astype(np.float32)),
        "text": (text, (wide @ shared @ planted.T).astype(np.float32)),
    }
    amap = ja.fit_map(pairs)
    assert amap.card["fit"]["rank"] == 19
    assert float(amap.numbers.scales["image"]) == pytest.approx(1, rel=PROCRUSTES * F32)
    assert float(amap.numbers.scales["text"]) == pytest.approx(3, rel=PROCRUSTES * F32)


def test_proper_keeps_the_determinant():
    source, target, _ = planted_rows(np.random.default_rng(8), 50, 6, reflect=True)
    free = ja.fit_map({"image": (source, target)})
    proper = ja.fit_map(
        {"image": (source, target)}, ja.Orthogonal(keep="all", proper=True)
    )
    assert np.linalg.det(free.rotation) == pytest.approx(-1, abs=1e-5)
    assert np.linalg.det(proper.rotation) == pytest.approx(1, abs=1e-5)


def test_other_arrays_and_dtypes():
    source, target, planted = planted_rows(np.random.default_rng(9), 100, 6)
    for dtype, error in ((np.float16, eps(np.float16)), (">f8", F32), ("g", F32)):
        sides = source.astype(dtype), target.astype(dtype)
        amap = ja.fit_map({"audio": sides})
        assert amap.matrix.dtype == jnp.float32
        np.testing.assert_allclose(amap.rotation, planted, atol=PROCRUSTES * error)


def test_rows_on_a_device_are_fitted_there(monkeypatch):
    source, target, planted = planted_rows(np.random.default_rng(9), 300, 6)
    expected = ja.fit_map({"image": (source, target)})
    sides = jnp.asarray(source), jnp.asarray(target)
    read = []
    whole = inspection.as_float

    def to_host(rows):
        # Weights and masks are the host's; rows are not brought there.
        if np.ndim(rows) > 1:
            read.append(rows)
        return whole(rows)

    for module in (inspection, accumulate):
        monkeypatch.setattr(module, "as_float", to_host)
    amap = ja.fit_map({"image": sides})
    assert not read
    np.testing.assert_allclose(amap.rotation, planted, atol=PROCRUSTES * F32)
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(one, two, atol=SUMS * F32),
        (amap.numbers.source_means, amap.numbers.source_norms, amap.numbers.scales),
        (
            expected.numbers.source_means,
            expected.numbers.source_norms,
            expected.numbers.scales,
        ),
    )


def test_the_only_modality_is_fitted_on():
    pairs = {"sound": good(), "text": good(8)}
    assert ja.fit_map({"sound": good()}).card["fit"]["fit_on"] == "sound"
    assert ja.fit_map(pairs | {"image": good(7)}).card["fit"]["fit_on"] == "image"
    with pytest.raises(ValueError, match="fit_on=None"):
        ja.fit_map(pairs)


@pytest.mark.parametrize("family", [ja.Orthogonal(), ja.Ridge(0.1), ja.LeastSquares()])
def test_bad_pairs_are_left_out_on_request(family):
    source, target, _ = planted_rows(np.random.default_rng(14), 60, 6, noise=0.3)
    bad_source, bad_target = source.copy(), target.copy()
    bad_source[3], bad_target[[5, 9]], bad_source[20] = np.nan, np.inf, 0.0
    kept = np.setdiff1d(np.arange(60), [3, 5, 9, 20])
    expected = ja.fit_map({"image": (source[kept], target[kept])}, family)
    for make in (np.asarray, jnp.asarray):
        sides = make(bad_source), make(bad_target)
        amap = ja.fit_map({"image": sides}, family, skip_bad=True)
        facts = amap.card["fit"]["modalities"]["image"]
        assert (facts["anchors"], facts["skipped"]) == (56, 4)
        np.testing.assert_allclose(amap.matrix, expected.matrix, atol=PROCRUSTES * F32)
        norms = amap.numbers.source_norms["image"]
        np.testing.assert_allclose(
            norms, expected.numbers.source_norms["image"], rtol=SUMS * F32
        )
    with pytest.raises(ValueError, match=r"1 source.*3.*2 target.*5.*Anchors\("):
        ja.fit_map({"image": (bad_source, bad_target)}, family)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rows_that_differ_by_rounding_alone_have_no_spread(dtype):
    source, target = good(200)
    rng = np.random.default_rng(15)
    caption = rng.standard_normal(4)
    # One caption, as an encoder gives it in batches of several sizes.
    rounded = caption * (1 + 0.5 * eps(dtype) * rng.uniform(-1, 1, (200, 4)))
    constant = rounded.astype(dtype)
    assert len(np.unique(constant, axis=0)) > 1
    for text, side in (((constant, source), "source"), ((source, constant), "target")):
        with pytest.raises(
            ValueError, match=rf"anchors.*text.*{side} rows that differ"
        ):
            ja.fit_map({"image": (source, target), "text": text})


def test_moments_that_are_not_finite_are_not_called_equal():
    source, target = good()
    target[2] = np.nan
    moments = ja.moments.update_moments(ja.moments.init_moments(4, 4), source, target)
    with pytest.raises(ValueError, match="anchors.*finite target rows"):
        ja.fit_map({"image": moments})


@pytest.mark.usefixtures("x64")
def test_float64_under_x64():
    rng = np.random.default_rng(10)
    planted = orthonormal(rng, 5, 5)
    source = rng.standard_normal((50, 5))
    amap = ja.fit_map({"image": (source, source @ planted.T)})
    assert amap.matrix.dtype == jnp.float64
    np.testing.assert_allclose(
        amap.rotation, planted, atol=PROCRUSTES * eps(np.float64)
    )


def good(n=6, d_source=4, d_target=4):
    return rows_pair(np.random.default_rng(11), n, d_source, d_target)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fit_on": "audio"}, "fit_on"),
        ({"family": ja.Ridge()}, "family.*6 anchors, 5 folds"),
        ({"family": "ridge"}, "family"),
        ({"scale": "unit"}, "scale"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 10.5}, "batch_size"),
        ({"target_space": b"bytes"}, "target_space"),
        ({"card": {"fit": 1}}, "card"),
        ({"card": {"note": object()}}, "card"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_options_name_their_argument(options, match):
    with pytest.raises(ValueError, match=match):
        ja.fit_map({"image": good()}, **options)


def test_means_need_equal_widths_and_scales_must_be_positive():
    with pytest.raises(ValueError, match="MeanOnly.*equal widths"):
        ja.fit_map({"image": good(6, 4, 3)}, ja.MeanOnly())
    source, target, _ = planted_rows(np.random.default_rng(12), 40, 6)
    pairs = {"image": (source, target), "text": (source, -target)}
    with pytest.raises(ValueError, match="'text'.*does not correlate"):
        ja.fit_map(pairs, scale="least_squares")


def test_a_space_other_than_the_anchors_own_is_noted():
    source, target = rows_pair(np.random.default_rng(0), 30, 4, 4)
    own = Space("new", older=["old"])
    anchors = ja.Anchors(
        {"text": (source, target)}, source_space=own, target_space="other"
    )
    given = {"source_space": "mine", "target_space": "other"}
    overridden = {"source_space": {"anchors": "new", "given": "mine"}}
    amap = ja.fit_map(anchors, **given)
    assert (amap.source_space, amap.target_space) == ("mine", "other")
    assert amap.card["fit"]["overridden"] == overridden
    for options in ({}, {"source_space": "new"}, {"source_space": "old"}):
        assert "overridden" not in ja.fit_map(anchors, **options).card["fit"]


def test_numbers_are_a_tree_and_jit():
    source, target = good()
    amap = ja.fit_map({"image": (source, target)})
    jitted = jax.jit(
        lambda numbers, rows: (
            ja.maps.apply_part(numbers.part("image"), rows, normalize=True).rows
        )
    )(amap.numbers, source)
    np.testing.assert_allclose(jitted, amap(source, normalize=True), atol=4 * F32)


def test_maps_of_one_shape_share_programs_and_stack():
    rng = np.random.default_rng(21)
    rows = rng.standard_normal((30, 5)).astype(np.float32)
    pairs = [rows_pair(rng, 40, 5, 7, mean=0.5) for _ in range(2)]
    # Other spaces, cards and modalities: none of them is part of the program.
    first = ja.fit_map({"image": pairs[0]}, source_space="a", card={"note": 1})
    carried = [first(rows)]
    index = [ja.search.prepare(first, pairs[0][1]).search(pairs[0][0], 3)]
    with compilations() as compiled:
        second = ja.fit_map({"text": pairs[1]}, source_space="b", card={"note": 2})
        carried.append(second(rows))
        index.append(ja.search.prepare(second, pairs[1][1]).search(pairs[1][0], 3))
    assert not compiled
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        first.numbers.part("image"),
        second.numbers.part("text"),
    )
    both = jax.vmap(lambda part: ja.maps.apply_part(part, rows).rows)(stacked)
    np.testing.assert_allclose(both, np.stack(carried), atol=SUMS * F32)


def test_unpaired_rows_give_a_modality_its_means_and_scale():
    rng = np.random.default_rng(22)
    planted = orthonormal(rng, 6, 6)
    texts = rng.standard_normal((200, 6)).astype(np.float32) + 1
    images = 0.5 * rng.standard_normal((300, 6)).astype(np.float32) - 2
    turned = (1.5 * images @ planted.T + 3).astype(np.float32)
    anchors = ja.Anchors(
        {"text": (texts, texts @ planted.T.astype(np.float32))},
        # Other rows on either side, in other numbers.
        unpaired={"image": (images[:120], turned[120:])},
    )
    amap = ja.fit_map(anchors)
    moved = amap(images[120:], "image")
    paired = ja.fit_map(
        {
            "text": (texts, texts @ planted.T.astype(np.float32)),
            "image": (images, turned),
        },
        fit_on="text",
    )
    np.testing.assert_allclose(
        amap.numbers.source_means["image"], images[:120].mean(axis=0), atol=1e-5
    )
    np.testing.assert_allclose(
        amap.numbers.target_means["image"], turned[120:].mean(axis=0), atol=1e-5
    )
    # Sampling moves the scale by its standard error, about 3 % here.
    scale = float(amap.numbers.scales["image"])
    assert scale == pytest.approx(float(paired.numbers.scales["image"]), rel=0.15)
    assert moved.shape == (180, 6)
    facts = amap.card["fit"]["modalities"]["image"]
    assert (facts["anchors"], facts["unpaired"]) == (0, [120, 180])
    told = "image: 0 anchors, 120 and 180 unpaired rows; text: 200 anchors"
    assert told in repr(amap)
    # Earlier versions counted these rows as anchors.
    facts["anchors"] = 120
    assert told in repr(amap)
    assert facts["relative_residual"] is None
    with pytest.raises(ValueError, match=r"unpaired\['text'\]"):
        ja.Anchors({"text": (texts, texts)}, unpaired={"text": (texts, texts)})


def test_few_and_many_anchors_by_default_keep_what_is_determined():
    source, target, planted = planted_rows(np.random.default_rng(7), 10, 16)
    few = ja.fit_map((source, target))
    assert (few.structure, few.card["fit"]["kept"]) == ("partial_isometry", 9)
    assert few.modalities == ("rows",)
    source, target, planted = planted_rows(np.random.default_rng(7), 60, 16)
    many = ja.fit_map((source, target))
    assert many.structure == "isometry"
    np.testing.assert_allclose(many.rotation, planted, atol=PROCRUSTES * F32)


@pytest.mark.usefixtures("no_shape_hook")
def test_two_matrices_that_are_no_pair_are_told_to_be_one():
    source, target = good()
    with pytest.raises(ValueError, match=r"family=.*fit_map\(\(source_rows"):
        ja.fit_map(source, target)
    with pytest.raises(ValueError, match="family=.*ja.Orthogonal"):
        ja.fit_map((source, target), ja.Orthogonal)
