# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import os

import pytest

from jaxalign.report.results import library_versions, read_results, write_results
from tests.report.result_rows import make_rows


def test_round_trip(tmp_path):
    rows = make_rows()
    path = tmp_path / "runs" / "results.json"
    write_results(path, rows, versions={"jax": "0.10.2"})
    assert read_results(path) == (rows, {"jax": "0.10.2"})
    document = json.loads(path.read_text())
    assert document["format"] == "jaxalign-results/1"
    assert document["rows"][0]["interval"] == [0.87, 0.93]


def test_versions_name_what_numbers_depend_on():
    versions = library_versions()
    assert {"python", "jax", "numpy", "device"} <= set(versions)


def test_failure_leaves_no_file_and_keeps_the_old_one(tmp_path, monkeypatch):
    rows = make_rows()
    path = tmp_path / "results.json"
    write_results(path, rows, versions={})
    before = path.read_bytes()
    bad = dataclasses.replace(rows[0], config={"fit_on": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_results(path, [bad], versions={})
    monkeypatch.setattr(os, "replace", _full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_results(path, rows, versions={"jax": "0.10.2"})
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert path.read_bytes() == before


def _full_disk(source, target):
    raise OSError("no space left")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "run the experiment again"),
        ("[]", "got None"),
        ('{"format": "jaxalign-results/2"}', "upgrade this one"),
        ('{"format": "jaxalign-results/1", "rows": []}', "versions.*without"),
        (
            '{"format": "jaxalign-results/1", "versions": {}, "rows": [{}]}',
            "write the rows again",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, match):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        read_results(path)
