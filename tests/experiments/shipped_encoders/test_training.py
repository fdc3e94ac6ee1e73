# SPDX-License-Identifier: Apache-2.0
"""Losses equal their formulas; training learns, and goes on where it stopped."""

import dataclasses
import math

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from flax import nnx
from optax import contrib

from experiments.shipped_encoders import training
from experiments.shipped_encoders.captions import WriteTrainingCaption
from experiments.shipped_encoders.grouping import DrawOne, GroupedSource
from experiments.shipped_encoders.recipes import RECIPES
from experiments.shipped_encoders.training import TrainingConfig
from jaxalign.data import pipeline
from jaxalign.encoders.checkpoint import abstract_model
from jaxalign.encoders.families import find_family
from jaxalign.unit_rows import unit_rows
from tests import tiny_encoders

pytestmark = pytest.mark.standard_promotion

# Sums of n = 6 logarithms of sums of n exponentials of at most exp(30); the logits'
# rounding, eps * 30, is the largest part.
LOSS = 64 * float(np.finfo(np.float32).eps)


def _unit(n, d, seed):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _softmax_loss(images, texts, logit_scale):
    logits = np.exp(logit_scale) * images.astype(np.float64) @ texts.T
    rows = scipy.special.log_softmax(logits, axis=1)
    columns = scipy.special.log_softmax(logits, axis=0)
    return -(np.diag(rows).mean() + np.diag(columns).mean()) / 2


def _sigmoid_loss(images, texts, logit_scale, logit_bias):
    logits = np.exp(logit_scale) * images.astype(np.float64) @ texts.T + logit_bias
    signs = 2 * np.eye(len(logits)) - 1
    return np.logaddexp(0.0, -signs * logits).sum() / len(logits)


@pytest.mark.parametrize("scale", [1.0, 10.0, 30.0])
def test_losses_equal_their_formulas(scale):
    logit_scale = math.log(scale)
    images, texts = _unit(6, 6, 0), _unit(6, 6, 1)
    found = training.softmax_loss(
        jnp.asarray(images), jnp.asarray(texts), jnp.float32(logit_scale)
    )
    expected = _softmax_loss(images, texts, logit_scale)
    np.testing.assert_allclose(found, expected, rtol=LOSS)
    for bias in (-10.0, 0.0, 2.0):
        found = training.sigmoid_loss(
            jnp.asarray(images),
            jnp.asarray(texts),
            jnp.float32(logit_scale),
            jnp.float32(bias),
        )
        expected = _sigmoid_loss(images, texts, logit_scale, bias)
        np.testing.assert_allclose(found, expected, rtol=LOSS)


def test_losses_of_perfect_pairs_have_their_exact_values():
    rows, scale = jnp.eye(6), jnp.float32(math.log(10.0))
    # Logits: 10 on the diagonal, 0 elsewhere.
    found = float(training.softmax_loss(rows, rows, scale))
    rounding = 10 * float(np.finfo(np.float32).eps)  # of a difference of logits
    assert found == pytest.approx(math.log1p(5 * math.exp(-10.0)), abs=rounding)
    found = float(training.sigmoid_loss(rows, rows, scale, jnp.float32(-5.0)))
    # One match at 10 - 5 and five strangers at -5: all six alike.
    assert found == pytest.approx(6 * math.log1p(math.exp(-5.0)), rel=LOSS)


def test_losses_of_shuffled_pairs_are_larger():
    rows, scale = jnp.eye(6), jnp.float32(math.log(10.0))
    wrong = jnp.roll(rows, 1, axis=0)
    # Each match has the logit 0 where one stranger has 10.
    found = float(training.softmax_loss(rows, wrong, scale))
    assert found == pytest.approx(math.log(math.exp(10.0) + 5), rel=LOSS)
    found = float(training.sigmoid_loss(rows, wrong, scale, jnp.float32(-5.0)))
    expected = 2 * math.log1p(math.exp(5.0)) + 4 * math.log1p(math.exp(-5.0))
    assert found == pytest.approx(expected, rel=LOSS)


def test_losses_are_symmetric_in_the_order_of_pairs():
    images, texts = jnp.asarray(_unit(6, 6, 0)), jnp.asarray(_unit(6, 6, 1))
    order = np.random.default_rng(0).permutation(6)
    scale, bias = jnp.float32(1.0), jnp.float32(-1.0)
    np.testing.assert_allclose(
        training.softmax_loss(images[order], texts[order], scale),
        training.softmax_loss(texts, images, scale),
        rtol=LOSS,
    )
    np.testing.assert_allclose(
        training.sigmoid_loss(images[order], texts[order], scale, bias),
        training.sigmoid_loss(texts, images, scale, bias),
        rtol=LOSS,
    )


def test_normalize_gives_unit_rows_in_float32():
    rows = unit_rows(jnp.asarray(_unit(3, 5, 0) * 7, jnp.float16))
    assert rows.dtype == jnp.float32
    norms = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=4 * np.finfo(np.float32).eps)


def test_only_kernels_are_decayed_and_the_rate_warms_up():
    config = TrainingConfig("softmax", 100, learning_rate=0.5, warmup_steps=10)
    optimizer = training.make_optimizer(config)
    ones = jnp.ones((2, 2))
    parameters = {"kernel": ones, "bias": ones[0], "table": ones}
    state = optimizer.init(parameters)
    still, update = jax.tree.map(jnp.zeros_like, parameters), jax.jit(optimizer.update)
    decays = []
    for _ in range(12):
        updates, state = update(still, state, parameters)
        np.testing.assert_array_equal(updates["table"], np.zeros((2, 2)))
        np.testing.assert_array_equal(updates["bias"], np.zeros(2))
        decays.append(-float(updates["kernel"][0, 0]))
    # Decay is weight_decay times the rate: 0 at first, 0.1 * 0.5 at the peak.
    assert decays[0] == 0.0
    assert decays[10] == pytest.approx(0.05, rel=1e-5)
    assert decays[5] == pytest.approx(0.025, rel=1e-5)
    assert decays[11] < decays[10]


def test_updates_of_kernels_are_near_orthogonal_and_others_follow_adam():
    config = TrainingConfig("softmax", 100, learning_rate=0.5, warmup_steps=1)
    optimizer = training.make_optimizer(config)
    rng = np.random.default_rng(0)
    # Singular values from 1 to 100: an update that followed the gradient would too.
    left, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    right, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    gradient = jnp.asarray(left @ np.diag(np.geomspace(1, 100, 8)) @ right, jnp.float32)
    zeros = jnp.zeros((8, 8))
    parameters = {"kernel": zeros, "table": zeros}
    state, update = optimizer.init(parameters), jax.jit(optimizer.update)
    gradients = {"kernel": gradient, "table": gradient}
    for _ in range(2):  # the rate of the first step is zero
        updates, state = update(gradients, state, parameters)
    values = np.linalg.svd(np.asarray(updates["kernel"]), compute_uv=False)
    # Five Newton-Schulz steps of Muon's polynomial end between about 0.68 and 1.13.
    assert values.max() / values.min() < 2.0
    # Adam's steps have one size, whatever the gradient's.
    steps = np.asarray(updates["table"])
    np.testing.assert_array_equal(np.sign(steps), -np.sign(gradient))
    np.testing.assert_allclose(np.abs(steps), np.abs(steps).max(), rtol=1e-3)


@pytest.mark.parametrize("name", RECIPES)
def test_muon_takes_every_linear_map_and_no_table(name):
    config = RECIPES[name].make_config(100)
    _, shapes = abstract_model(find_family(config.model_type), config)
    kinds = nnx.to_flat_state(training._kernels(shapes))
    taken = {
        path
        for path, variable in kinds
        if isinstance(variable.get_value(), contrib.MuonDimensionNumbers)
    }
    matrices = {path for path, x in nnx.to_flat_state(shapes) if len(x.shape) == 2}
    assert {path[-1] for path in matrices - taken} == {"table"}
    assert taken < matrices
    assert len(taken) > 6 * config.vision_config.num_hidden_layers


@pytest.mark.parametrize(("start", "expected"), [(14.3, 4.0), (2.0, 2.0)])
def test_the_logit_scale_is_kept_under_its_maximum(start, expected):
    config = TrainingConfig("softmax", 100, max_logit_scale=4.0)
    parameters = nnx.state(_model("clip"))
    parameters["logit_scale"][...] = jnp.log(jnp.float32(start))
    training.limit_logit_scale(parameters, config)
    found = float(jnp.exp(parameters["logit_scale"][...]))
    assert found == pytest.approx(expected, rel=1e-6)


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match="loss=.*'hinge'"):
        training.make_step(None, optax.identity(), TrainingConfig("hinge", 10))


# --- runs of the real loop

COLOURS = ("red", "green", "blue", "dark")
TOKENIZER = tiny_encoders.make_tokenizer("siglip")


def _source():
    """Pictures of one colour with some noise: four emoji, three renderings each."""
    rng = np.random.default_rng(0)
    examples = []
    for i, colour in enumerate(COLOURS):
        base = np.zeros(3) if colour == "dark" else 255.0 * np.eye(3)[i]
        for rendering in range(3):
            size = (tiny_encoders.IMAGE_SIZE, tiny_encoders.IMAGE_SIZE, 3)
            image = base + rng.normal(0.0, 20.0, size)
            examples.append(
                {
                    "image": np.clip(image, 0, 255).astype(np.uint8),
                    "id": f"{colour}/{rendering}",
                    "thing": colour,
                    "name": f"{colour} apple",
                    "keywords": "apple, fish",
                    "subgroup": "food-fruit",
                    "style": "full",
                    "background": "white",
                    "label": i,
                }
            )
    return examples


class _WriteIds(grain.transforms.Map):
    """Replace everything but the picture by the caption's ids."""

    def map(self, element):
        encoded = TOKENIZER(
            element["text"],
            padding="max_length",
            truncation=True,
            max_length=tiny_encoders.TEXT_LENGTH,
        )
        ids = np.asarray(encoded["input_ids"], np.int32)
        return {"image": element["image"], "ids": ids, "mask": element["mask"]}


def _batches():
    return iter(
        pipeline.image_text_batches(
            GroupedSource(_source()),
            batch_size=4,
            seed=3,
            shuffle=True,
            epochs=None,
            transforms=[
                DrawOne(),
                pipeline.AugmentImage(),
                WriteTrainingCaption(),
                _WriteIds(),
            ],
        )
    )


def _model(family):
    config = tiny_encoders.make_config(
        family,
        vocabulary=len(TOKENIZER),
        text=dict(num_hidden_layers=1),
        vision=dict(num_hidden_layers=1),
    )
    model = tiny_encoders.make_model(config)
    model.logit_scale[...] = jnp.log(jnp.float32(10.0))
    if family == "siglip":
        model.logit_bias[...] = jnp.float32(-5.0)
    return model


CONFIG = TrainingConfig("softmax", 7, learning_rate=1e-3, warmup_steps=2)


def _leaves(state):
    return [np.asarray(leaf[...]) for _, leaf in nnx.to_flat_state(state)]


@pytest.fixture(scope="module", autouse=True)
def steps_compiled_once():
    """Give runs of one model and config one program: compiling takes most of a run."""
    programs, make_step = {}, training.make_step

    def keep(graph, optimizer, config):
        key = (graph, config)
        if key not in programs:
            programs[key] = make_step(graph, optimizer, config)
        return programs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_step", keep)
        yield
    assert len(programs) <= 3


class _Killed(Exception):
    pass


def _run(folder, *, kill_at=None, family="clip", config=CONFIG):
    """Train; with `kill_at`, stop in the middle after that many steps."""
    seen = []

    def report(progress):
        seen.append(progress)
        if progress.step == kill_at:
            raise _Killed

    parameters = training.train(
        _model(family),
        _batches(),
        config,
        checkpoint_dir=folder,
        checkpoint_every=2,
        report_every=1,
        report=report,
    )
    return parameters, seen


@pytest.mark.slow
def test_a_run_killed_and_started_again_ends_in_the_same_bits(tmp_path):
    expected, all_seen = _run(tmp_path / "undisturbed")
    assert len(all_seen) == 7
    # Before the first checkpoint, and between two.
    for kill_at in (1, 5):
        with pytest.raises(_Killed):
            _run(tmp_path / "killed", kill_at=kill_at)
    parameters, seen = _run(tmp_path / "killed")
    # It went on from the last checkpoint, of step 4.
    assert seen == all_seen[4:]
    for found, leaf in zip(_leaves(parameters), _leaves(expected), strict=True):
        np.testing.assert_array_equal(found, leaf)


class _OneBatch:
    """The same four pairs again and again."""

    def __init__(self):
        examples = _source()[::3]
        encoded = TOKENIZER([e["name"] for e in examples], padding="max_length")
        self._batch = {
            "image": np.stack([e["image"] for e in examples]),
            "ids": np.asarray(encoded["input_ids"], np.int32),
        }

    def __next__(self):
        return self._batch

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "loss"), [("siglip", "sigmoid"), ("clip", "softmax")]
)
def test_the_loss_falls_on_a_toy_problem_until_the_run_is_finished(
    tmp_path, family, loss
):
    config = dataclasses.replace(
        CONFIG, loss=loss, steps=60, learning_rate=5e-3, warmup_steps=5
    )
    reports = []

    def train():
        parameters = training.train(
            _model(family),
            _OneBatch(),
            config,
            checkpoint_dir=tmp_path,
            checkpoint_every=1000,
            report_every=10,
            report=reports.append,
        )
        return _leaves(parameters)

    first = train()
    assert [progress.step for progress in reports] == [10, 20, 30, 40, 50, 60]
    losses = [progress.loss for progress in reports]
    assert losses[-1] < 0.2 * losses[0]
    # A finished run is not trained further.
    again = train()
    assert len(reports) == 6
    for found, leaf in zip(again, first, strict=True):
        np.testing.assert_array_equal(found, leaf)
