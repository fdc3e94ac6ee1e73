# SPDX-License-Identifier: Apache-2.0
"""The main job from its command line, at toy size."""

import json
import re

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.evaluate.baselines import CHOSEN, DEFAULT
from tests.experiments.launching import launch_here

# The MLP is trained by optax.
pytestmark = [pytest.mark.slow, pytest.mark.standard_promotion]


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("align")
    flags = [f"--workdir={folder}/run", f"--data_dir={data_dir}"]
    done = launch_here("experiments.align", "--tiny", *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout, folder / "run"


def test_table_is_printed_and_fits_a_terminal(finished):
    printed, _ = finished
    assert "held-out classes" in printed
    assert "unseen emoji" in printed
    assert DEFAULT in printed
    table, _ = printed.split("\nWritten to ")
    assert max(map(len, table.splitlines())) <= 100


def test_map_is_fitted_on_images_between_the_shipped_spaces(finished):
    _, folder = finished
    amap = ja.AlignmentMap.load(folder / "map.safetensors")
    source = ja.load_encoders("jaxalign/openmoji-clip")
    target = ja.load_encoders("jaxalign/openmoji-siglip")
    assert (amap.source_space, amap.target_space) == (source.space, target.space)
    assert amap.card["fit"]["fit_on"] == "image"
    # A part of a rotation: M M' projects onto what it keeps.
    product = np.asarray(amap.matrix) @ np.asarray(amap.matrix).T
    np.testing.assert_allclose(product @ product, product, atol=1e-5)
    assert np.trace(product) == pytest.approx(amap.card["fit"]["rank"], rel=1e-4)
    with pytest.raises(ValueError, match="space"):
        amap(target.embed_texts(["an emoji of red apple"]), "text", space=target.space)


def test_results_hold_both_tables_all_methods_and_intervals(finished):
    _, folder = finished
    document = json.loads((folder / "results.json").read_text())
    rows = document["rows"]
    assert {row["table"] for row in rows} == {"held-out classes", "unseen emoji"}
    methods = {row["method"] for row in rows}
    assert {
        "none",
        "mean only",
        "paper's map",
        DEFAULT,
        "ridge",
        "stay on source",
        "native target",
        "untrained encoders",
        CHOSEN,
    } <= methods
    found = [r for r in rows if r["metric"] == "text_to_text_at_1"]
    assert found
    assert all(r["interval"][0] <= r["value"] <= r["interval"][1] for r in found)
    assert "jax" in document["versions"]


def test_texts_cross_far_better_than_without_a_map(finished):
    """Even 77 emoji of half the classes show the finding on the shipped encoders."""
    _, folder = finished
    rows = json.loads((folder / "results.json").read_text())["rows"]
    values = {
        row["method"]: row["value"]
        for row in rows
        if row["table"] == "held-out classes" and row["metric"] == "text_to_text_at_1"
    }
    # Chance is 1.3 %; a map that carries texts finds at least ten times as many.
    assert values[DEFAULT] > 0.13
    assert values[DEFAULT] > 3 * values["mean only"]


def test_the_chosen_map_and_its_reason_are_told(finished):
    printed, folder = finished
    page = (folder / "report.html").read_text()
    for text in (" ".join(printed.split()), page):
        assert "is chosen on the anchors alone, for each kind of search" in text
        for purpose in ("search", "cross", "zero_shot"):
            assert re.search(rf"Chosen for (.|&#39;|&#x27;){purpose}", text)
    rows = json.loads((folder / "results.json").read_text())["rows"]
    tables = {row["table"] for row in rows if row["method"] == CHOSEN}
    assert tables == {"held-out classes", "unseen emoji"}


def test_the_verdict_on_the_anchors_is_told(finished):
    printed, folder = finished
    page = (folder / "report.html").read_text()
    for text in (" ".join(printed.split()), page):
        verdict = re.search("(Enough|Too few) anchors: ([0-9,]+)|No verdict: ", text)
        assert verdict is not None
    fitted = re.search(r"Fitted on (\d+) anchors", printed)
    assert fitted is not None
    assert verdict[2] in (None, f"{int(fitted[1]):,}")


def test_report_is_self_contained(finished):
    _, folder = finished
    page = (folder / "report.html").read_text()
    assert "OpenMoji" in page
    assert 'src="http' not in page
