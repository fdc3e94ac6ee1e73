# SPDX-License-Identifier: Apache-2.0
"""An index of WebDataset tar files: which samples they hold, and at which bytes.

The members of a sample share a key, their path up to the first dot of its last part;
the rest is their kind. Everything but the pictures is read while the headers are:
captions, labels and JSON. Nothing is extracted, and nothing is ever unpickled.
"""

import dataclasses
import hashlib
import logging
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import tqdm

from jaxalign.data import columns
from jaxalign.data.own_examples import ONLY_SPLIT, SCHEMA
from jaxalign.data.own_texts import check_text, parse_json
from jaxalign.errors import ArgumentError, shorten

_log = logging.getLogger(__name__)
PICTURE_KINDS = ("jpg", "jpeg", "png", "webp", "bmp", "gif")

_PLACES = [
    ("member", pa.string()),
    ("tar", pa.int32()),
    ("offset", pa.int64()),
    ("size", pa.int64()),
]
_SCHEMA = pa.schema([*SCHEMA, *_PLACES])
_KEY_AND_KIND = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 16


@dataclasses.dataclass
class _Sample:
    """Members of one key: the place of its picture, and its texts."""

    picture: tuple[str, int, int] | None = None  # member, offset, size
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    kinds: set[str] = dataclasses.field(default_factory=set)


def index_tars(paths: Sequence[Path]) -> tuple[pa.Table, str]:
    """Read the headers of tar files, and all of their captions and labels.

    A sample's caption is its `.txt`, or "caption" or "text" of its `.json`; its label
    is its `.cls`, or "label" or "class" of its `.json`. A key without a picture is left
    out, with a warning.

    Args:
      paths: tar files, not compressed.

    Returns:
      A table of `own_examples.SCHEMA` and, of the picture, "member" (its name), "tar"
      (index into `paths`), "offset" and "size" in bytes; and a digest of the files,
      their names included.

    Raises:
      ValueError: for a file that is not a tar, is compressed or cut off, or goes beyond
        its end; for members whose path leads out of the tar, that are links or devices,
        or stand there twice; for samples with two pictures, or with neither caption nor
        label; if there are no samples; for two files of one stem, since ids begin with
        it.
    """
    _check_stems(paths)
    builder = columns.TableBuilder(_SCHEMA)
    digest = hashlib.sha256()
    seen: set[str] = set()
    count = 0
    with tqdm.tqdm(
        total=sum(path.stat().st_size for path in paths),
        desc=f"Indexing {len(paths)} tar files",
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        delay=1.0,
    ) as progress:
        for number, path in enumerate(paths):
            digest.update(repr(path.name).encode("utf-8", "backslashreplace"))
            samples = _read_samples(path, digest)
            for key, sample in samples.items():
                seen |= sample.kinds
                if sample.picture is None:
                    continue
                caption, label = _caption_and_label(sample, f"{str(path)!r}, {key!r}")
                name, *place = sample.picture
                builder.add(ONLY_SPLIT, caption, label, name, number, *place)
                count += 1
            _warn_of_left_out(path, samples)
            progress.update(path.stat().st_size)
    if count == 0:
        raise ArgumentError(
            repr(str(paths[0])),
            f"samples with a picture (.{', .'.join(PICTURE_KINDS)})",
            f"members of the kinds {', '.join(sorted(seen)) or 'none'} in "
            f"{len(paths)} tar files",
        )
    return builder.finish(), digest.hexdigest()


def key_and_kind(name: str) -> tuple[str, str]:
    """Split a member's name; "" twice for hidden files and names without a kind.

    >>> key_and_kind("./v1.0/cat.seg.PNG")
    ('v1.0/cat', 'seg.png')
    """
    match = _KEY_AND_KIND.fullmatch(name.removeprefix("./"))
    return (match[1], match[2].lower()) if match else ("", "")


def _check_stems(paths: Sequence[Path]) -> None:
    first_of: dict[str, Path] = {}
    for path in paths:
        if path.stem in first_of:
            raise ArgumentError(
                f"{str(first_of[path.stem])!r} and {str(path)!r}",
                "tar files of different names, since the examples' ids begin with them",
                remedy="rename one",
            )
        first_of[path.stem] = path


def _read_samples(path: Path, digest: Any) -> dict[str, _Sample]:
    """Read one tar's samples by key, in the order of their first members."""
    samples: dict[str, _Sample] = {}
    for member, content in _members(path):
        mark = (member.name, member.size, member.offset_data, member.mtime)
        digest.update(repr(mark).encode("utf-8", "backslashreplace"))
        key, kind = key_and_kind(member.name)
        if not key:
            continue
        where = f"{str(path)!r}, member {member.name!r}"
        sample = samples.setdefault(key, _Sample())
        if kind in sample.kinds:
            raise ArgumentError(where, "each member once", "two of this key and kind")
        sample.kinds.add(kind)
        if kind in PICTURE_KINDS:
            if sample.picture is not None:
                remedy = "their keys must differ before the first dot"
                raise ArgumentError(where, "one picture a sample", "two", remedy)
            sample.picture = (member.name, member.offset_data, member.size)
        elif kind in ("txt", "cls", "json"):
            sample.texts[kind] = _decode(content, where)
    return samples


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield the files in a tar; the contents of pictures and unknown kinds are b""."""
    try:
        with path.open("rb") as file:
            if file.read(6).startswith(_COMPRESSED):
                raise ArgumentError(
                    repr(str(path)),
                    "a plain tar file, whose pictures are read at their place in it",
                    "a compressed one",
                    "decompress it first, as by gunzip",
                )
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as tar:
                while (member := _next_member(tar, path)) is not None:
                    _check_member(member, path)
                    if member.isreg():
                        wanted = member.name.lower().endswith((".txt", ".cls", ".json"))
                        content = tar.extractfile(member) if wanted else None
                        yield member, content.read() if content else b""
                end = tar.offset
            # Where a header is damaged or missing, `next` ends as if all were well.
            file.seek(end)
            last = file.read(_BLOCK)
            beyond = _first_not_zero(file)
    except tarfile.TarError as error:
        raise _cut_off(path, str(error)) from error
    except OSError as error:
        raise ArgumentError(
            repr(str(path)), "a file that can be read", error.strerror
        ) from error
    if last != bytes(_BLOCK):
        raise _cut_off(path, f"byte {end} is neither a header nor the closing block")
    if beyond is not None:
        expected = f"nothing after the end of the tar at byte {end}"
        got = f"more at byte {beyond}: other tar files put after it, perhaps"
        remedy = "keep each as a file of its own, or join them with tar --concatenate"
        raise ArgumentError(repr(str(path)), expected, got, remedy)


def _first_not_zero(file: BinaryIO) -> int | None:
    """Return the place of the first byte from here on that is not zero."""
    zeros = bytes(_PIECE)
    while piece := file.read(_PIECE):
        if piece != zeros[: len(piece)]:
            return file.tell() - len(piece.lstrip(b"\0"))
    return None


def _next_member(tar: tarfile.TarFile, path: Path) -> tarfile.TarInfo | None:
    try:
        member = tar.next()
    except OSError:
        raise
    except Exception as error:  # a damaged header leads to errors of many kinds
        raise _cut_off(path, str(error)) from error
    cast(Any, tar).members.clear()  # it would keep them all
    return member


def _cut_off(path: Path, reason: str) -> ArgumentError:
    return ArgumentError(
        repr(str(path)),
        "a whole tar file",
        f"one that is damaged or cut off ({reason})",
        "fetch or write it again",
    )


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    """Raise over a member that no data set of pictures needs."""
    where = f"{str(path)!r}, member {member.name!r}"
    parts = re.split(r"[/\\]", member.name)
    if not parts[0] or ".." in parts:
        expected = "a path within the tar"
        got = "one that leads out of it"
        raise ArgumentError(where, expected, got, "nothing of the tar was extracted")
    if not (member.isreg() or member.isdir()) or member.issparse():
        expected = "files and folders only"
        remedy = "write the tar again with --dereference --hard-dereference"
        raise ArgumentError(where, expected, "a link, device or sparse file", remedy)
    try:
        member.name.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(where, "a name in UTF-8", remedy="rename it") from error
    check_text(where, member.name, "name")


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArgumentError(where, "text in UTF-8", str(error)) from error


def _caption_and_label(sample: _Sample, where: str) -> tuple[str | None, str | None]:
    """Find caption and label in a sample's own members, else in its JSON."""
    text = sample.texts.get("json", "{}")
    fields = parse_json(text)
    if fields is None:
        raise ArgumentError(where, "a JSON object in its .json", repr(text[:60]))
    caption = sample.texts.get("txt", fields.get("caption", fields.get("text")))
    label = sample.texts.get("cls", fields.get("label", fields.get("class")))
    if not isinstance(caption, str | None):
        raise ArgumentError(where, "a text as its caption", repr(caption))
    if isinstance(label, bool) or not isinstance(label, str | int | None):
        raise ArgumentError(where, "a name or a whole number as its label", repr(label))
    if caption is None and label is None:
        raise ArgumentError(
            where,
            "a caption (.txt, or `caption` or `text` in .json) or a label (.cls, or "
            "`label` or `class` in .json)",
            f"the members {', '.join(sorted(sample.kinds))}",
        )
    caption = None if caption is None else caption.strip()
    label = None if label is None else str(label).strip()
    check_text(where, caption or "", "caption")
    check_text(where, label or "", "label")
    return caption, label


def _warn_of_left_out(path: Path, samples: dict[str, _Sample]) -> None:
    left_out = [key for key, sample in samples.items() if sample.picture is None]
    if left_out:
        _log.warning(
            "%s: %d keys have no picture and are left out: %s",
            path,
            len(left_out),
            shorten(left_out, most=5),
        )
