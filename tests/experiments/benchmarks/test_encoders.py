# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the encoders, at toy size and without peers; FLOPs by hand."""

import json

import pytest
from transformers import CLIPConfig

from experiments.benchmarks.encoders import count_flops
from tests.experiments.launching import launch_here


def test_flops_of_a_tower_by_hand():
    tower = dict(
        hidden_size=4,
        intermediate_size=6,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    config = CLIPConfig(
        vision_config=dict(tower, patch_size=2, image_size=4),
        text_config=dict(tower, vocab_size=9, max_position_embeddings=3),
        projection_dim=5,
    )
    # 4 patches and a class token: products of (5, 4) with four (4, 4), a (4, 6) and a
    # (6, 4) matrix; scores and mixtures of 5 x 5; a stem of (4, 12) with (12, 4).
    block = 2 * 5 * (4 * 16 + 2 * 24) + 2 * (2 * 5 * 5 * 4)
    assert count_flops(config, "image") == 2 * block + 2 * 4 * 12 * 4 + 2 * 4 * 5
    block = 2 * 3 * (4 * 16 + 2 * 24) + 2 * (2 * 3 * 3 * 4)
    assert count_flops(config, "text") == 2 * block + 2 * 4 * 5


@pytest.mark.slow
def test_the_benchmark_runs_at_toy_size(tmp_path):
    done = launch_here(
        "experiments.benchmarks.encoders",
        "--tiny",
        "--nopeers",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "ViT-B/32 image" in done.stdout
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert len(rows) == 6
    assert all(row["rows_per_second"] > 0 for row in rows)
    assert all(row["cosine_with_float32"] > 0.999 for row in rows)
