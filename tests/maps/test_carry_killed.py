# SPDX-License-Identifier: Apache-2.0
"""Interrupted and killed at any moment, started again: the same bytes."""

import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

import jaxalign as ja
from jaxalign.rows import flat_writer
from tests.maps.test_carry_formats import unit_pair
from tests.rows.made_rows import table, write

N = 9000


@pytest.fixture(scope="module")
def amap():
    return ja.fit_map({"image": unit_pair(0, 40)})


@pytest.fixture(scope="module")
def rows():
    rows, _ = unit_pair(1, N)
    rows[[7, 5000]] = np.nan
    return rows


def write_parts(folder, rows):
    """Three parts whose ends lie off the grid of blocks."""
    (folder / "img_emb").mkdir(parents=True)
    for number, part in enumerate(np.split(rows, [1500, 7001])):
        np.save(folder / f"img_emb/img_emb_{number}.npy", part)
    return folder


def contents(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in files
        if file.is_file()
    }


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", ["a.npy", "a.npz", "a.safetensors", "parts"])
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_an_interrupted_run_goes_on(amap, rows, tmp_path, monkeypatch, kind, steps):
    monkeypatch.setattr(flat_writer, "_SYNC_BYTES", 1)
    if kind == "parts":
        source, outs = write_parts(tmp_path / "in", rows), ("one", "two")
    else:
        source = write(tmp_path, kind, rows)
        outs = (f"one{kind[1:]}", f"two{kind[1:]}")

    def stop(done):
        if done >= steps * 1024:
            raise Stop

    ja.maps.carry(amap, source, tmp_path / outs[0])
    options = {"batch_size": 1000}
    with pytest.raises(Stop):
        ja.maps.carry(amap, source, tmp_path / outs[1], report=stop, **options)
    assert not (tmp_path / outs[1]).exists()
    done = ja.maps.carry(amap, source, tmp_path / outs[1], **options)
    assert 0 < done.resumed < N
    assert done.bad == 2
    assert contents(tmp_path / outs[0]) == contents(tmp_path / outs[1])


def test_another_job_begins_anew(amap, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(flat_writer, "_SYNC_BYTES", 1)
    source, out = write(tmp_path, "a.npy", rows), tmp_path / "b.npy"

    def stop(done):
        raise Stop

    with pytest.raises(Stop):
        ja.maps.carry(amap, source, out, report=stop, batch_size=1000)
    done = ja.maps.carry(amap, source, out, normalize=False, batch_size=1000)
    assert done.resumed == 0
    np.testing.assert_array_equal(
        np.load(out),
        np.load(ja.maps.carry(amap, source, tmp_path / "c.npy", normalize=False).path),
    )


def test_parquet_goes_on_at_the_last_whole_file(amap, rows, tmp_path):
    (tmp_path / "in").mkdir()
    for number, part in enumerate(np.split(rows, [1500, 7001])):
        pq.write_table(table(part), tmp_path / f"in/{number}.parquet")
    source = f"{tmp_path}/in::emb"

    def stop(done):
        if done >= 6 * 1024:
            raise Stop

    with pytest.raises(Stop):
        ja.maps.carry(amap, source, tmp_path / "two", report=stop, batch_size=1000)
    done = ja.maps.carry(amap, source, tmp_path / "two")
    assert done.resumed in (1500, 7001)
    assert done.bad == 2
    ja.maps.carry(amap, source, tmp_path / "one")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a.npy", "parts"])
def test_killed_at_any_moment(amap, rows, tmp_path, kind):
    if kind == "parts":
        source, name = write_parts(tmp_path / "in", rows), "out"
    else:
        source, name = write(tmp_path, kind, rows), "out.npy"
    amap.save(tmp_path / "map.safetensors")

    def run(moment, *outs):
        for out in outs:
            out.parent.mkdir(exist_ok=True)
        arguments = [tmp_path / "map.safetensors", source, moment, *outs]
        return subprocess.run(
            [sys.executable, "-m", "tests.maps.carry_in_process", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )

    whole = run(0, tmp_path / "whole" / name)
    assert whole.returncode == 0, whole.stderr
    moments = np.linspace(1, int(whole.stdout), 10).astype(int)
    outs = [tmp_path / f"killed-{moment}" / name for moment in moments]
    ends = [run(*one).returncode for one in zip(moments, outs, strict=True)]
    # How often a slow disk is synced varies: the last moments may not come.
    assert set(ends) <= {0, -signal.SIGKILL}
    assert ends.count(-signal.SIGKILL) >= 7
    # In a process too: tests compile with fewer optimisations.
    ended = zip(outs, ends, strict=True)
    again = run(0, *(out for out, end in ended if end == -signal.SIGKILL))
    assert again.returncode == 0, again.stderr
    for out in outs:
        assert contents(out) == contents(tmp_path / "whole" / name)
        assert [path.name for path in out.parent.iterdir()] == [name]
