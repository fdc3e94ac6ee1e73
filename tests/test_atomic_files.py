# SPDX-License-Identifier: Apache-2.0
import os
import stat

import pytest

from jaxalign.atomic_files import open_atomically, write_atomically


def _full_disk(source, target):
    raise OSError("no space left")


def test_text_and_bytes_make_folders_and_replace_older_files(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    write_atomically(path, b"\0\1")
    assert path.read_bytes() == b"\0\1"
    assert [found.name for found in path.parent.iterdir()] == ["b.txt"]


def test_pieces_show_once_they_are_whole(tmp_path):
    path = tmp_path / "big.bin"
    spare = tmp_path / "spare"
    spare.mkdir()
    with open_atomically(path, temporary_folder=spare) as stream:
        stream.write(b"one")
        assert not path.exists()
        assert len(list(spare.iterdir())) == 1
        stream.write(b"two")
    assert path.read_bytes() == b"onetwo"
    assert not list(spare.iterdir())


def test_failure_leaves_no_file_and_keeps_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, "old")

    def fail():
        with open_atomically(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    monkeypatch.setattr(os, "replace", _full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "new")
    with pytest.raises(OSError, match="no space left"):
        write_atomically(tmp_path / "other.json", "new")
    assert [found.name for found in tmp_path.iterdir()] == ["results.json"]
    assert path.read_text() == "old"


def test_bytes_reach_the_disk_before_their_name_and_the_name_before_the_return(
    tmp_path, monkeypatch
):
    calls = []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("folder" if is_folder else "file")
        sync(descriptor)

    def note_replace(source, target):
        calls.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_atomically(tmp_path / "file", "text")
    assert calls == ["file", "name", "folder"]
