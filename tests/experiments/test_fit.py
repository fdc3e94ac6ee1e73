# SPDX-License-Identifier: Apache-2.0
"""Fitting from two stores: killed and resumed, by one process or two, one map."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxalign as ja
from experiments import fit
from tests.cases import rows_pair
from tests.experiments.launching import child_environment, launch_here
from tests.free_port import free_port
from tests.tolerances import PROCRUSTES, eps

ROOT = Path(__file__).parents[2]
N, D = 4000, 12
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    rng = np.random.default_rng(0)
    pairs = {
        "image": rows_pair(rng, N, D, D, mean=0.9),
        "text": rows_pair(rng, N, D, D, mean=0.5),
    }
    for side, name in enumerate(("source", "target")):
        with ja.EmbeddingStore.create(
            folder / name,
            space=name,
            examples=N,
            part_examples=1000,
            modalities={"image": D, "text": D},
        ) as writer:
            for start in range(0, N, 500):
                rows = slice(start, start + 500)
                writer.append(
                    {modality: pair[side][rows] for modality, pair in pairs.items()},
                    first=start,
                    ids=[f"{number:05d}" for number in range(start, start + 500)],
                )
            writer.finish()
    return folder, pairs


def command(stores, workdir, *more, batch_size=50):
    folder, _ = stores
    return [
        *(sys.executable, "-m", "experiments.fit", f"--workdir={workdir}"),
        *(f"--source_store={folder}/source", f"--target_store={folder}/target"),
        *(f"--batch_size={batch_size}", "--checkpoint_every=2", "--blocks=16"),
        *("--replicates=20", *more),
    ]


def start(*run):
    return subprocess.Popen(
        command(*run),
        cwd=ROOT,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(run):
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def undisturbed(stores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return finish(start(stores, folder)), folder


def read_map(folder):
    amap = ja.AlignmentMap.load(folder / "map.safetensors")
    return amap, {
        "matrix": np.asarray(amap.matrix),
        **{
            f"scale {name}": np.asarray(amap.numbers.scales[name])
            for name in amap.modalities
        },
        **{
            f"mean {n}": np.asarray(amap.numbers.source_means[n])
            for n in amap.modalities
        },
    }


def test_the_map_is_that_of_the_rows(stores, undisturbed):
    output, folder = undisturbed
    amap, found = read_map(folder)
    expected = ja.fit_map(stores[1])
    tolerance = PROCRUSTES * eps(np.float32)
    np.testing.assert_allclose(found["matrix"], expected.matrix, atol=tolerance)
    for name in ("image", "text"):
        scale = float(expected.numbers.scales[name])
        np.testing.assert_allclose(amap.numbers.scales[name], scale, rtol=tolerance)
    assert (amap.source_space, amap.target_space) == ("source", "target")
    assert "Enough anchors" in output
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert {row["metric"] for row in rows} >= {"agreement", "held_out_error"}
    assert "Enough anchors" in (folder / "report.html").read_text()


def test_killed_and_started_again_gives_the_same_bits(stores, undisturbed, tmp_path):
    kills = 0
    for wait in (0.0, 0.2):
        run = start(stores, tmp_path)
        while run.poll() is None and not list(
            tmp_path.glob("moments/*/*/*.safetensors")
        ):
            time.sleep(0.01)
        time.sleep(wait)
        kills += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert kills
    finish(start(stores, tmp_path))
    _, found = read_map(tmp_path)
    _, expected = read_map(undisturbed[1])
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_two_processes_give_the_map_of_one(stores, undisturbed, tmp_path):
    port = free_port()
    runs = [
        start(
            stores,
            tmp_path,
            f"--coordinator_address=127.0.0.1:{port}",
            "--num_processes=2",
            f"--process_id={number}",
        )
        for number in range(2)
    ]
    for run in runs:
        finish(run)
    _, found = read_map(tmp_path)
    _, expected = read_map(undisturbed[1])
    tolerance = PROCRUSTES * eps(np.float32)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=tolerance, err_msg=key)


def test_a_mistake_is_one_line_and_exit_code_2(stores, tmp_path):
    for run, words in (
        (command(stores, tmp_path, "--source_store="), "--source_store is given 2"),
        (command(stores, tmp_path, "--fit_on=all", "--scale=big"), "--scale"),
    ):
        _, _, *launched = run
        done = launch_here(*launched)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr.splitlines()[-1]


def test_a_pass_over_other_rows_or_batches_is_refused(stores, tmp_path):
    folder, pairs = stores
    opened = [ja.EmbeddingStore.open(folder / name) for name in ("source", "target")]
    other = ja.EmbeddingStore.create(
        tmp_path / "other",
        space="target",
        examples=N,
        part_examples=N,
        modalities={"image": D},
    )
    with other as writer:
        ids = [f"{number:05d}" for number in range(N)]
        writer.append({"image": -pairs["image"][1]}, first=0, ids=ids)
        swapped = [opened[0], writer.finish()]
    config = fit.Config("source", "target", blocks=16, checkpoint_every=1)
    options = (ja.anchors.match_stores(*opened), "image", tmp_path)
    fit.accumulate(config, tuple(opened), *options)
    with pytest.raises(ValueError, match="batch_size"):
        fit.accumulate(
            dataclasses.replace(config, batch_size=60), tuple(opened), *options
        )
    # The same models, as many pairs: only the rows tell.
    with pytest.raises(ValueError, match="of one with stores = "):
        fit.accumulate(config, tuple(swapped), *options)


def test_two_pairs_are_a_map_without_numbers_on_trust(stores, tmp_path):
    folder, pairs = stores
    one = ja.EmbeddingStore.create(
        tmp_path / "few",
        space="few",
        examples=2,
        part_examples=2,
        modalities={"text": D},
    )
    with one as writer:
        writer.append({"text": pairs["text"][1][:2]}, first=0, ids=["00000", "00001"])
        writer.finish()
    config = fit.Config(
        str(folder / "source"), str(tmp_path / "few"), fit_on="text", replicates=20
    )
    _, said = fit.run(config, tmp_path)
    assert "No verdict" in said[1]
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert any(row["value"] is None for row in rows)
    with pytest.raises(ValueError, match="--fit_on"):
        fit.run(dataclasses.replace(config, fit_on="image"), tmp_path)
