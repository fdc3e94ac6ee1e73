# SPDX-License-Identifier: Apache-2.0
"""A made-up run for the tests of the report."""

from jaxalign.evaluate.rows import ResultRow

HEADLINE = "orthogonal, scale energy"

# Method -> text -> text @1, and the share of native (None: not measured).
TEXTS = {
    "none": (0.001, 0.0),
    "mean only": (0.002, 0.01),
    HEADLINE: (0.45, 0.72),
    "least squares": (0.006, 0.8),
    "ridge": (0.34, 0.75),
}


def make_rows(*, table="held-out classes", seed=0, shift=0.0, texts=None):
    """Rows of a made-up run: every metric of the short table and a few more."""
    shared = {"table": table, "seed": seed, "n": 600, "config": {"fit_on": "image"}}
    rows = []

    def add(method, metric, value, **changes):
        interval = None if value is None else (value - 0.03, value + 0.03)
        fields = {**shared, "method": method, "metric": metric, "value": value}
        rows.append(ResultRow(**{**fields, "interval": interval, **changes}))

    for method, (found, share) in {**TEXTS, **(texts or {})}.items():
        add(method, "image_cosine", 0.9 + shift)
        add(method, "image_mismatched_cosine", 0.1, interval=None)
        add(method, "caption_cosine", 0.87 + shift)
        add(method, "class_text_cosine", -0.001)
        add(method, "text_class_top1", 0.5, n=49)
        add(method, "zeroshot_mapped_image_to_target_text", 0.25)
        add(method, "text_to_text_at_1", found + shift)
        add(method, "source_image_to_target_text_at_1", 0.31)
        add(method, "target_image_to_source_text_at_1", 0.24)
        if share is not None:
            add(method, "share_of_native_at_1", share)
    for method in ("stay on source", "native target"):
        add(method, "zeroshot", 0.6)
        add(method, "image_to_text_at_1", 0.433)
    return rows
