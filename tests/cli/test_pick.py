# SPDX-License-Identifier: Apache-2.0
"""Picks come out as ids or row numbers, the same for the same seed."""

import numpy as np


def test_numbers_are_written_most_useful_first(run, files):
    path = files / "numbers.txt"
    done = run("pick", files / "old.npy", "--n=20", f"--out={path}", "--json")
    assert done.code == 0
    numbers = [int(line) for line in path.read_text().splitlines()]
    assert done.json["numbers"] == numbers
    assert len(set(numbers)) == 20
    fewer = run("pick", files / "old.npy", "--n=20")
    assert [int(line) for line in fewer.out.splitlines()] == numbers
    other = run("pick", files / "old.npy", "--n=20", "--seed=1", "--json")
    assert other.json["numbers"] != numbers


def test_mistakes_come_before_the_pass(run, files):
    (files / "there.txt").touch()
    for flag, said in (
        ("--n=1000", "--n"),
        ("--n=0", "--n"),
        (f"--out={files}/there.txt", "--out"),
        (f"--out={files}/old.npy/x.txt", "--out"),
        ("--modality=text", "--modality"),
    ):
        done = run("pick", files / "old.npy", flag)
        assert done.code == 2
        assert said in done.err


def test_ids_of_a_table(run, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    table = pa.table({"name": [f"id {n}" for n in range(30)], "v": list(rows)})
    pq.write_table(table, tmp_path / "rows.parquet")
    done = run("pick", f"{tmp_path}/rows.parquet::v", "--n=4", "--id_column=name")
    assert done.code == 0, done.err
    assert all(line.startswith("id ") for line in done.out.splitlines())
