# SPDX-License-Identifier: Apache-2.0
"""The study of objectives on small planted models, and its launch at toy size."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from experiments import objective_choice, objective_families, objective_study
from experiments.objective_families import FAMILIES, Schedule, descend
from experiments.objective_words import (
    CHOSEN,
    CLOSED,
    CROSSINGS,
    MEASURED,
    describe_study,
)
from jaxalign.embedding.batch import EmbeddedSet
from jaxalign.evaluate.rows import ResultRow
from jaxalign.pairing.embedded_split import EmbeddedSplit
from jaxalign.solve.polar import orthogonality_error
from tests import tolerances
from tests.experiments.launching import launch_here

# Descents call optax.
# A study takes its time; its optimisers call optax.
pytestmark = [pytest.mark.slow, pytest.mark.standard_promotion]
CLASSES, THINGS, WIDTH = 10, 5, 6
SCHEDULE = Schedule((2, 12), 0.1)
FEW = ("cosine", "closed form, images and texts")


def make_split(*, noise=0.3, seed=0):
    """Two models that a planted rotation relates, each with its own gap and noise."""
    rng = np.random.default_rng(seed)
    things = rng.standard_normal((CLASSES * THINGS, WIDTH))
    things += 2 * np.repeat(rng.standard_normal((CLASSES, WIDTH)), THINGS, axis=0)
    rotation = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    labels = np.repeat(np.arange(CLASSES), 2 * THINGS)
    shown = np.repeat(things, 2, axis=0)
    sets = []
    for name, matrix in (("source", np.eye(WIDTH)), ("target", rotation)):
        sides = []
        for _ in ("image", "text"):
            rows = shown @ matrix.T + 2 * rng.standard_normal(WIDTH)
            rows += noise * rng.standard_normal(rows.shape)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            sides.append(rows.astype(np.float32))
        ids = np.array([f"{i}" for i in range(len(shown))])
        sets.append(EmbeddedSet(*sides, ids=ids, labels=labels, space=name))
    examples = [{"is_query": i % 2 == 0, "thing": i // 2} for i in range(len(shown))]
    return EmbeddedSplit(examples, *sets)


@functools.partial(jax.jit, static_argnames="name")
def measure(rows, knob, point, *, name):
    """Value of a family's objective, in one program."""
    return FAMILIES[name].make(rows, knob, "map")(point)


@pytest.fixture(scope="module")
def split():
    return make_split()


@pytest.fixture(scope="module")
def sizes(split):
    return objective_choice.common_sizes(split, (0, 1), 2)


@pytest.fixture(scope="module")
def anchors(split, sizes):
    return padded(split, sizes.all)


def padded(split, sizes):
    chosen = objective_families.choose_rows(split, np.arange(5))
    return objective_families.take_rows(split, chosen, sizes)


# The others are made of the same parts: each is a compilation of seconds.
QUICK = ("contrastive, image to target text",)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in FAMILIES
    ],
)
def test_descent_ends_lower_than_the_closed_form_and_on_the_manifold(anchors, name):
    family = FAMILIES[name]
    knob = family.knobs[0]
    points = descend(
        anchors, knob, 0.0, family=family, centring="map", schedule=SCHEDULE
    )
    assert points.shape == (1 if family.closed else 2, WIDTH, WIDTH)
    error = orthogonality_error(points)
    assert float(jnp.max(error)) <= tolerances.POLAR * tolerances.eps(jnp.float32)
    start = ja.fit_map(
        objective_families.moments_of(anchors), ja.families.PAPER
    ).rotation
    ended, started = (
        measure(anchors, knob, point, name=name) for point in (points[-1], start)
    )
    assert float(ended) < float(started)


def test_pull_keeps_points_near_the_closed_form(anchors):
    family = FAMILIES["contrastive, image to target text"]
    start = FAMILIES[FEW[1]].make(anchors, 0.5, "map").closed_form_start()
    moved = [
        float(
            jnp.linalg.norm(
                descend(
                    anchors, 0.3, pull, family=family, centring="map", schedule=SCHEDULE
                )[-1]
                - start
            )
        )
        for pull in (0.0, 1.0, 100.0)
    ]
    assert moved[0] > moved[1] > moved[2]


def test_padding_changes_nothing(split, sizes, anchors):
    larger = padded(split, {name: size + 7 for name, size in sizes.all.items()})
    values = [
        float(measure(rows, 0.1, jnp.eye(WIDTH), name=QUICK[0]))
        for rows in (anchors, larger)
    ]
    bound = tolerances.OBJECTIVE * tolerances.eps(jnp.float32)
    assert values[0] == pytest.approx(values[1], rel=bound)


@pytest.mark.parametrize("centring", ["map", "both"])
def test_score_is_what_evaluation_measures(split, sizes, centring):
    """On held-out classes: the share that `evaluate_map` gives."""
    folds = objective_choice.cut_folds(split, np.arange(5), sizes, folds=2, seed=0)
    cut = objective_choice.cut_classes(np.arange(5), folds=2, seed=0)
    fold, (_, held) = folds[0], cut[0]
    amap = ja.fit_map(objective_families.moments_of(fold.rows), ja.families.PAPER)
    hits = objective_choice.count_hits(amap.rotation[None], *fold, centring=centring)
    class_texts = np.ones((CLASSES, WIDTH), np.float32)
    searched = objective_study.SearchMap(amap, objective_study.USES[centring])
    rows = ja.evaluate_map(
        "m",
        searched,
        split.pairs(held, class_texts, class_texts),
        run=ja.evaluate.Run(),
    )
    found = {row.metric: row.value for row in rows}
    asked = len(held) * THINGS
    assert float(hits[0][0]) / asked == pytest.approx(found["image_to_image_at_1"])
    crossings = np.mean([found[name] for name in CROSSINGS])
    assert float(hits[1][0]) / asked == pytest.approx(crossings)


def test_folds_hold_whole_classes_out():
    cut = objective_choice.cut_classes(np.arange(3, 10), folds=3, seed=1)
    assert sorted(np.concatenate([held for _, held in cut])) == list(range(3, 10))
    for fitted, held in cut:
        assert sorted([*fitted, *held]) == list(range(3, 10))


CONFIG = objective_study.Config(
    families=FEW, seeds=(0,), centrings=("map",), steps=(2, 12), replicates=10
)


def _choices(split, monkeypatch):
    """Run the study, and take what was chosen for each method and seed."""
    kept = []

    def keep(rows, tables, choices):
        kept.extend(choices)
        return []

    monkeypatch.setattr(objective_study, "study_sections", keep)
    texts = np.random.default_rng(0).standard_normal((2, CLASSES, WIDTH))
    rows = objective_study.run_study(CONFIG, split, tuple(texts.astype("f"))).rows
    return {(c.seed, c.table, c.method): c for c in kept}, rows


def test_choices_never_read_what_they_are_evaluated_on(split, monkeypatch):
    before, rows = _choices(split, monkeypatch)
    _, unseen = objective_study.catalog.split_classes(split.labels, seed=0)
    strange = np.random.default_rng(5).standard_normal(split.target.image.shape)
    hidden = split.of_classes(unseen)[:, None]

    sets = [
        dataclasses.replace(
            model,
            image=np.where(hidden, strange, model.image),
            text=np.where(hidden, -strange, model.text),
        )
        for model in (split.source, split.target)
    ]
    after, others = _choices(EmbeddedSplit(split.examples, *sets), monkeypatch)
    assert after == before
    assert [row.value for row in others] != [row.value for row in rows]


def test_images_alone_never_reads_texts(split, monkeypatch):
    before, _ = _choices(split, monkeypatch)
    without = EmbeddedSplit(
        split.examples,
        dataclasses.replace(split.source, text=split.source.text[::-1]),
        split.target,
    )
    after, _ = _choices(without, monkeypatch)
    same = {key for key in before if before[key] == after[key]}
    assert same == {key for key in before if key[2] in ("cosine", CHOSEN[False])}


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ((0.020, 0.021, 0.022), "gains on both crossings: worth its fit"),
        ((-0.01, 0.01, 0.0), "stay with the closed form: no change is told from 0"),
        ((-0.020, -0.021, -0.022), "a chosen objective loses"),
        ((0.01,), "no verdict"),
    ],
)
def test_finding_says_what_the_intervals_allow(gains, said):
    table = objective_study.TABLES["map"]
    methods = [CLOSED, *FAMILIES, *CHOSEN.values()]
    rows = [
        ResultRow(table, method, metric, 0.5 + gain * (method != CLOSED), None, 9, seed)
        for method in methods
        for metric in MEASURED
        for seed, gain in enumerate(gains)
    ]
    advice, sizes = describe_study(rows, [table])
    assert advice.count(said) == (1 if len(gains) == 1 else 2)
    assert "finds 50.0 % (source image -> target text @1) and 50.0 %" in sizes


@pytest.mark.slow
def test_tiny_run_writes_rows_of_every_objective(data_dir, tmp_path):
    done = launch_here(
        "experiments.objective_study",
        "--tiny",
        f"--workdir={tmp_path}/run",
        f"--data_dir={data_dir}",
    )
    assert done.returncode == 0, done.stderr
    assert "closed form" in done.stdout
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    methods = {CLOSED, *objective_study.TINY_FAMILIES, *CHOSEN.values()}
    assert {row["method"] for row in rows} == methods
    assert {row["metric"] for row in rows} == set(MEASURED)
    assert len(rows) == len(methods) * len(MEASURED) * 2
    assert "Differences" in (tmp_path / "run" / "report.html").read_text()
