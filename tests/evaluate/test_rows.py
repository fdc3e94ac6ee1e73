# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from jaxalign.evaluate.rows import METRICS, ResultRow, average_over_seeds


def row(value=0.5, seed=0, **changes):
    fields = {
        "table": "held-out classes",
        "method": "least squares",
        "metric": "image_cosine",
        "value": value,
        "interval": (0.25, 0.75),
        "n": 4,
        "seed": seed,
        "config": {"fit_on": "image"},
    }
    return ResultRow(**{**fields, **changes})


def test_json_round_trip():
    for original in (row(), row(value=None, interval=None)):
        text = json.dumps(original.to_json(), allow_nan=False)
        assert ResultRow.from_json(json.loads(text)) == original


def test_metrics_have_distinct_labels():
    labels = [metric.label for metric in METRICS.values()]
    assert len(set(labels)) == len(labels)


def test_average_over_seeds():
    rows = [row(0.2, 0), row(0.4, 1), row(0.6, 2), row(None, 0, method="none")]
    first, second = average_over_seeds(rows)
    assert (first.mean, first.std, first.seeds) == pytest.approx((0.4, 0.2, 3))
    assert (second.method, second.mean, second.std) == ("none", None, None)
    assert average_over_seeds([row()])[0].std is None


def test_errors():
    with pytest.raises(ValueError, match="average_over_seeds"):
        average_over_seeds([row(), row()])
    with pytest.raises(ValueError, match="least squares.*image_cosine"):
        row(float("nan"))
    with pytest.raises(ValueError, match="from_json"):
        ResultRow.from_json({"table": "x"})
