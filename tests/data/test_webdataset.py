# SPDX-License-Identifier: Apache-2.0
import bz2
import concurrent.futures
import gc
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import tracemalloc

import pytest

import jaxalign as ja
from jaxalign.data import tar_index, webdataset
from jaxalign.data.pictures import UnreadablePictureError
from tests.data.made_pictures import level_of, noise, picture


def write_tar(path, members, *, format=tarfile.PAX_FORMAT):
    """Write a tar: bytes, or a `TarInfo` without data, by name in order."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def captioned(count, *, first=0):
    return [
        member
        for n in range(first, first + count)
        for member in (
            (f"{n:04d}.png", picture(n)),
            (f"{n:04d}.txt", f"picture {n}\n".encode()),
        )
    ]


@pytest.fixture
def tars(tmp_path):
    """Two files of three and two samples."""
    write_tar(tmp_path / "train-000.tar", captioned(3))
    write_tar(tmp_path / "train-001.tar", captioned(2, first=3))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["", "train-*.tar", "train-{000..001}.tar", "train-{000,001}.tar"]
)
def test_folders_and_patterns_of_tars_are_read(tars, name):
    name = str(tars / name)
    info = ja.data.dataset_info(name)
    assert (info.splits, info.class_names, info.class_prompts) == (("all",), (), ())
    source = ja.load_dataset(name, "all")
    assert [(e["id"], e["text"], e["label"]) for e in source] == [
        (f"train-00{n // 3}/{n:04d}", f"picture {n}", -1) for n in range(5)
    ]
    assert [level_of(example["image"]) for example in source] == list(range(5))
    with pytest.raises(IndexError):
        source[5]


def test_one_tar_is_read(tars):
    assert len(ja.load_dataset(str(tars / "train-001.tar"), "all")) == 2


def test_members_are_grouped_as_webdataset_does(tmp_path):
    folder = tarfile.TarInfo()
    folder.type = tarfile.DIRTYPE
    write_tar(
        tmp_path / "a.tar",
        [
            ("./", folder),
            ("./v1.0/x.PNG", picture(1)),
            ("./v1.0/y.jpg", picture(2, kind="JPEG")),
            ("./v1.0/y.mask.png", b"no picture of the sample"),
            ("./v1.0/x.txt", b"one"),
            ("./v1.0/._y.txt", b"\xff hidden, of a Mac"),
            ("./v1.0/y.JSON", json.dumps({"caption": "two", "other": [1]}).encode()),
            ("./v1.0/y.pyd", pickle.dumps("never read")),
            ("README", b"\xff no kind"),
        ],
    )
    source = ja.load_dataset(str(tmp_path), "all")
    assert [(e["id"], e["text"]) for e in source] == [
        ("a/v1.0/x", "one"),
        ("a/v1.0/y", "two"),
    ]
    assert [e["path"] for e in source] == [
        "a.tar/./v1.0/x.PNG",  # as it is called in the tar
        "a.tar/./v1.0/y.jpg",
    ]


def test_captions_and_labels_come_from_files_before_json(tmp_path):
    fields = {"text": "by json", "class": "dog"}
    write_tar(
        tmp_path / "a.tar",
        [
            ("1.png", picture(1)),
            ("1.json", json.dumps(fields).encode()),
            ("2.png", picture(2)),
            ("2.json", json.dumps(fields).encode()),
            ("2.txt", b""),
            ("2.cls", b"cat\n"),
            ("3.png", picture(3)),
            ("3.cls", b"big_cat"),
        ],
    )
    info = ja.data.dataset_info(str(tmp_path))
    assert info.class_names == ("big_cat", "cat", "dog")
    assert info.class_captions is None
    source = ja.load_dataset(str(tmp_path), "all")
    assert [(e["text"], e["label"]) for e in source] == [
        ("by json", 2),
        ("", 1),
        ("big cat", 0),  # it has no caption of its own
    ]


def test_labels_alone_decide_the_captions(tmp_path):
    members = [
        (name, content)
        for n in (10, 2, 10)
        for name, content in [
            (f"{len(str(n))}{os.urandom(4).hex()}.png", picture(n)),
        ]
        for name, content in [(name, content), (name[:-3] + "cls", str(n).encode())]
    ]
    write_tar(tmp_path / "a.tar", members)
    info = ja.data.dataset_info(str(tmp_path))
    assert info.class_captions == info.class_names == ("2", "10")
    source = ja.load_dataset(str(tmp_path), "all")
    assert [(e["text"], e["label"]) for e in source] == [("10", 1), ("2", 0), ("10", 1)]


@pytest.mark.parametrize(
    "format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_all_tar_formats_are_read(tmp_path, format):
    long = f"{'d' * 120}/é" if format != tarfile.USTAR_FORMAT else "é"
    members = [(f"{long}.png", picture(1)), (f"{long}.txt", "ä".encode())]
    write_tar(tmp_path / "a.tar", members, format=format)
    (example,) = ja.load_dataset(str(tmp_path), "all")
    assert (example["id"], example["text"]) == (f"a/{long}", "ä")


def _special(type, link=""):
    member = tarfile.TarInfo()
    member.type, member.linkname = type, link
    return member


PNG, TXT = ("x.png", picture(1)), ("x.txt", b"x")
BAD_TARS = {
    "climbing": ([PNG, TXT, ("../../x.txt", b"")], r"'../../x.txt'.*leads out of it"),
    "climbing folder": ([PNG, ("a/../../", _special(tarfile.DIRTYPE))], "leads out"),
    "absolute": ([PNG, TXT, ("/etc/x.txt", b"")], r"member '/etc/x.txt'.*leads out"),
    "backslashes": ([PNG, TXT, ("..\\x.txt", b"")], "leads out of it"),
    "link": ([("x.png", _special(tarfile.SYMTYPE, "/etc/passwd"))], "--dereference"),
    "hard link": ([PNG, ("y.png", _special(tarfile.LNKTYPE, "x.png"))], "got a link"),
    "device": ([("x.png", _special(tarfile.CHRTYPE))], "got a link, device"),
    "member twice": ([PNG, TXT, PNG], "member 'x.png'.*: expected each member once"),
    "other case": ([PNG, ("x.PNG", picture(2)), TXT], "expected each member once"),
    "two pictures": (
        [PNG, ("x.jpg", picture(2)), TXT],
        "expected one picture a sample",
    ),
    "no texts": ([PNG, ("x.npy", b"")], "'x'.*: expected a caption .*members npy, png"),
    "no pictures": (
        [TXT, ("x.tif", b"")],
        r"pictures? \(.jpg, .*kinds tif, txt in 1 tar",
    ),
    "nothing": ([], "kinds none in 1 tar"),
    "not UTF-8": ([PNG, ("x.txt", b"\xff")], "member 'x.txt'.*UTF-8"),
    "no JSON": ([PNG, ("x.json", b"{")], "expected a JSON object"),
    "a JSON list": ([PNG, ("x.json", b"[]")], "expected a JSON object"),
    "caption list": ([PNG, ("x.json", b'{"caption": ["x"]}')], r"caption, got \['x'\]"),
    "NUL": ([PNG, TXT, ("a\0é.txt", b"")], r"member 'a\\x00é.txt'.*: .* NUL character"),
    "half a character": (
        [PNG, ("x.json", b'{"caption": "\\ud83d"}')],
        "'x'.*: .*half of a surrogate pair",
    ),
    "label of digits": (
        [PNG, ("x.json", b'{"label": ' + b"9" * 5000 + b"}")],
        "'x'.*: .*at most 1000 characters, got 5000",
    ),
    "long label": ([PNG, ("x.cls", b"9" * 5000)], "'x'.*: .*got 5000 .*is a caption"),
    "label number": ([PNG, ("x.json", b'{"label": 0.5}')], "as its label, got 0.5"),
}


@pytest.mark.parametrize("case", BAD_TARS)
def test_a_bad_tar_is_refused_whole(tmp_path, case):
    members, told = BAD_TARS[case]
    path = write_tar(tmp_path / "bad.tar", members)
    with pytest.raises(ValueError, match=told) as caught:
        ja.data.dataset_info(str(path))
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_unicode_are_told(tmp_path):
    path = write_tar(tmp_path / "a.tar", [PNG, TXT], format=tarfile.USTAR_FORMAT)
    content = bytearray(path.read_bytes())
    content[:5] = b"\xff.png"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a name in UTF-8; rename it"):
        ja.data.dataset_info(str(path))


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_compressed_tars_are_refused(tmp_path, module, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(module.compress(b"x" * 5000))
    with pytest.raises(ValueError, match="compressed one; decompress it first"):
        ja.data.dataset_info(str(path))


def test_every_cut_of_a_tar_is_told(tmp_path):
    whole = write_tar(tmp_path / "whole.tar", captioned(2)).read_bytes()
    content = whole.rstrip(b"\0")
    end = -(-len(content) // 512) * 512  # the closing blocks begin there
    path = tmp_path / "cut.tar"
    for length in {*range(0, end + 512, 100), *range(0, end + 1, 512), end + 511}:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged or cut off .*fetch or write it"):
            tar_index.index_tars([path])
    path.write_bytes(whole[: end + 512])
    assert len(tar_index.index_tars([path])[0]) == 2


def test_what_follows_the_end_of_a_tar_is_told(tmp_path):
    one = write_tar(tmp_path / "one.tar", captioned(2)).read_bytes()
    path = tmp_path / "both.tar"
    for zeros in (0, 70_000):
        path.write_bytes(one + bytes(zeros) + one)
        place = len(one) + zeros
        told = f"nothing after the end of the tar .* byte {place}: .*--concatenate"
        with pytest.raises(ValueError, match=told) as caught:
            ja.data.dataset_info(str(path))
        assert repr(str(path)) in str(caught.value)
    path.write_bytes(one + bytes(200_000))  # a tape's blocks are filled up
    assert len(tar_index.index_tars([path])[0]) == 2


def test_a_damaged_header_is_told(tmp_path):
    path = write_tar(tmp_path / "a.tar", captioned(3))
    with tarfile.open(path) as tar:
        headers = [member.offset for member in tar]
    content = path.read_bytes()
    for place in headers:
        damaged = bytearray(content)
        damaged[place : place + 8] = b"\x80damaged"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged or cut off"):
            tar_index.index_tars([path])


def test_a_file_that_is_no_tar_is_told(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match="expected a whole tar file"):
        ja.data.dataset_info(str(tmp_path))


def test_two_tars_of_one_name_would_share_ids(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "0.tar", captioned(1))
    with pytest.raises(ValueError, match="expected tar files of different names"):
        ja.data.dataset_info(str(tmp_path / "*" / "0.tar"))


def test_missing_tars_of_a_pattern_are_told(tars):
    told = "2 missing of 4: .*train-002.tar, .*train-003.tar"
    with pytest.raises(ValueError, match=told):
        ja.data.dataset_info(str(tars / "train-{000..003}.tar"))
    with pytest.raises(ValueError, match="tar files that exist, got none"):
        ja.data.dataset_info(str(tars / "val-*.tar"))


def test_keys_without_a_picture_are_left_out_and_told(tmp_path, caplog):
    members = [*captioned(1), ("notes.txt", b"x"), ("0002.txt", b"its picture is lost")]
    path = write_tar(tmp_path / "a.tar", members)
    assert len(ja.load_dataset(str(tmp_path), "all")) == 1
    assert caplog.messages == [
        f"{path}: 2 keys have no picture and are left out: notes, 0002"
    ]


def test_unreadable_pictures_are_told_one_by_one(tmp_path):
    members = [("a.png", picture(1)), ("b.jpg", noise()[:900]), ("c.png", b"")]
    texts = [(f"{key}.txt", b"x") for key in "abc"]
    path = write_tar(tmp_path / "t.tar", [*members, *texts])  # sorted by kind
    source = ja.load_dataset(str(tmp_path), "all")
    assert source[0]["id"] == "t/a"
    for index, reason in {1: "is damaged", 2: "the file is empty"}.items():
        with pytest.raises(UnreadablePictureError, match=reason) as caught:
            source[index]
        assert caught.value.id == f"t/{'abc'[index]}"
    os.truncate(path, 600)
    with pytest.raises(UnreadablePictureError, match="ends inside it"):
        source[1]
    path.unlink()
    with pytest.raises(UnreadablePictureError, match="No such file"):
        source[0]


def test_fingerprints_see_every_change_and_no_move(tars, tmp_path):
    def fingerprint(folder):
        return ja.load_dataset(str(folder), "all").fingerprint

    moved = tmp_path / "moved"
    shutil.copytree(tars, moved)
    found = {fingerprint(tars)}
    assert found == {fingerprint(moved)}
    path = moved / "train-001.tar"
    members = captioned(2, first=3)
    newer = tarfile.TarInfo()
    newer.mtime = 7
    for changed in (
        [*members[:1], ("0003.txt", b"picture !\n"), *members[2:]],
        [("0003.png", picture(9)), *members[1:], ("0009.txt", b"")],
        members[:2],
        [*members, ("folder/", _special(tarfile.DIRTYPE)), ("more.npy", b"1")],
    ):
        write_tar(path, changed)
        os.utime(path, ns=(0, len(found)))
        found.add(fingerprint(moved))
    assert len(found) == 5
    path.rename(moved / "train-002.tar")  # ids begin with it
    assert fingerprint(moved) not in found


def test_tars_are_indexed_once(tars, monkeypatch):
    ja.data.dataset_info(str(tars))
    monkeypatch.setattr(webdataset, "index_tars", None)
    assert len(ja.load_dataset(str(tars), "all")) == 5


def test_sources_travel_and_take_threads(tars):
    source = ja.load_dataset(str(tars), "all")
    code = (
        "import pickle, sys\n"
        "source = pickle.loads(sys.stdin.buffer.read())\n"
        "print(len(source), source[4]['text'], source.fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=pickle.dumps(source),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"5 picture 4 {source.fingerprint}\n"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda n: level_of(source[n % 5]["image"]), range(300))
        assert list(found) == [n % 5 for n in range(300)]


@pytest.mark.usefixtures("no_shape_hook")
def test_an_index_is_compact(tmp_path):
    def kept(count):
        small = picture(1)
        members = [
            member
            for n in range(count)
            for member in (
                (f"{n:06d}.png", small),
                (f"{n:06d}.txt", b"a caption of it"),
            )
        ]
        path = write_tar(
            tmp_path / f"{count}.tar", members, format=tarfile.USTAR_FORMAT
        )
        tracemalloc.start()
        source = ja.load_dataset(str(path), "all")
        gc.collect()  # Python keeps freed tuples for reuse
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size, len(pickle.dumps(source))

    few, many = kept(300), kept(1300)
    # A Python object a member would be over 1,000 bytes a sample.
    assert many[0] - few[0] < 20 * 1000
    assert many[1] - few[1] < 80 * 1000


BRACES = {
    "a.tar": ["a.tar"],
    "{0..2}.tar": ["0.tar", "1.tar", "2.tar"],
    "{8..010}.tar": ["008.tar", "009.tar", "010.tar"],
    "{a,b}-{00..01}.tar": ["a-00.tar", "a-01.tar", "b-00.tar", "b-01.tar"],
    "{a,}b.tar": ["ab.tar", "b.tar"],
    "{../a,b/..}/c.tar": ["../a/c.tar", "b/../c.tar"],
    "{7..7}.tar": ["7.tar"],
}


@pytest.mark.parametrize("pattern", BRACES)
def test_braces_expand(pattern):
    assert webdataset.expand_pattern(pattern) == BRACES[pattern]


@pytest.mark.parametrize(
    "braces",
    ["{1..0}", "{a..c}", "{0..8..2}", "{-1..1}", "{0..2,5}", "{a}", "{}", "{1...3}"]
    + ["{a,{b,c}}", "{a", "a}", "{0..1}}", "{" + "9" * 5000 + ".." + "9" * 5000 + "}"],
)
def test_other_braces_are_refused(braces):
    with pytest.raises(ValueError, match="write out the alternatives, or use a star"):
        webdataset.expand_pattern(f"x-{braces}.tar")
