# SPDX-License-Identifier: Apache-2.0
"""What a fit keeps of its pairs, so that more can be added later without the old rows.

The moments of all pairs, and a sample of the pairs themselves, on which a choice is
made and judged again. One `.safetensors` file beside the map, of a few matrices
whatever the number of pairs.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float, Int

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Modality
from jaxalign.atomic_files import write_atomically
from jaxalign.errors import ArgumentError, MissingFileError
from jaxalign.maps.contents import space_of, spaces_part
from jaxalign.maps.file import checksum
from jaxalign.moments import Moments, merge_moments
from jaxalign.spaces import older_spaces, same_space

FORMAT = "jaxalign-pairs/1"
SUFFIX = ".moments.safetensors"
# Pairs of a modality that are kept as they are, at most.
SAMPLE = 5000
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Sample:
    """Some pairs of one modality.

    Attributes:
      source: ``(n, d_source)``.
      target: ``(n, d_target)``.
      ids: ``(n,)``, equal for rows of one example, see `label_rows`.
    """

    source: Float[np.ndarray, "n d_source"]
    target: Float[np.ndarray, "n d_target"]
    ids: Int[np.ndarray, " n"]

    def take(self, numbers: np.ndarray) -> "Sample":
        """Some of the pairs, by number."""
        return Sample(self.source[numbers], self.target[numbers], self.ids[numbers])


@dataclasses.dataclass(frozen=True)
class KeptPairs:
    """All pairs of a fit, by their moments and a sample.

    Attributes:
      moments: of all pairs, with Grams, by modality.
      samples: by modality; all pairs, where they are few.
      normalized: whether rows were divided by their norms.
      origins: fingerprints of the row sets that the pairs are from.
      source_space: fingerprint of the source model's space, or None.
      target_space: the same for the target model.
    """

    moments: dict[Modality, Moments]
    samples: dict[Modality, Sample]
    normalized: bool
    origins: tuple[str, ...] = ()
    source_space: str | None = None
    target_space: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the samples hold every pair."""
        return all(
            len(self.samples[name].ids) == int(of.rows)
            for name, of in self.moments.items()
        )

    @property
    def widths(self) -> tuple[int, int]:
        """Widths of source and target rows."""
        one = next(iter(self.moments.values()))
        return one.d_source, one.d_target

    def anchors(self, call: str = "Anchors") -> Anchors:
        """The sampled pairs as anchors, with their ids."""
        pairs = {name: (of.source, of.target) for name, of in self.samples.items()}
        return Anchors(
            pairs,
            ids={name: of.ids for name, of in self.samples.items()},
            source_space=self.source_space,
            target_space=self.target_space,
            call=call,
        )

    def merge(self, more: "KeptPairs", *, call: str = "merge") -> "KeptPairs":
        """Add other pairs of the same two models.

        Raises:
          ValueError: for other widths, spaces or treatment of norms, or pairs that are
            in already.
        """
        spaces = (
            (self.source_space, more.source_space),
            (
                self.target_space,
                more.target_space,
            ),
        )
        for what, one, other, same in (
            ("widths", self.widths, more.widths, self.widths == more.widths),
            (
                "norms (normalize)",
                self.normalized,
                more.normalized,
                self.normalized == more.normalized,
            ),
            ("source space", *spaces[0], same_space(*spaces[0])),
            ("target space", *spaces[1], same_space(*spaces[1])),
        ):
            if None not in (one, other) and not same:
                got = f"{one} before and {other} now"
                remedy = "pairs that are added must be of the same two models"
                raise ArgumentError(call, f"one and the same {what}", got, remedy)
        if set(self.origins) & set(more.origins):
            raise ArgumentError(
                call, "pairs that are not in yet", "the same files again"
            )
        moments, samples = dict(self.moments), dict(self.samples)
        for name, of in more.moments.items():
            samples[name] = more.samples[name]
            if name in self.moments:
                moments[name] = merge_moments(self.moments[name], of)
                samples[name] = _joined(
                    (self.samples[name], int(self.moments[name].rows)),
                    (more.samples[name], int(of.rows)),
                )
            else:
                moments[name] = of
        return dataclasses.replace(
            self,
            moments=moments,
            samples=samples,
            origins=(*self.origins, *more.origins),
            source_space=_newer(self.source_space, more.source_space),
            target_space=_newer(self.target_space, more.target_space),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pairs to one file, atomically."""
        tensors: dict[str, np.ndarray] = {}
        for name, of in self.moments.items():
            for field, value in vars(of).items():
                tensors[f"moments/{name}/{field}"] = np.array(value, order="C")
        for name, of in self.samples.items():
            for field, value in vars(of).items():
                tensors[f"sample/{name}/{field}"] = np.array(value, order="C")
        header = {
            "normalized": self.normalized,
            "origins": self.origins,
            **spaces_part(self.source_space, self.target_space),
            "modalities": list(self.moments),
        }
        text = json.dumps(header)
        metadata = {
            "format": FORMAT,
            "header": text,
            "sha256": checksum(text, tensors),
        }
        write_atomically(path, safetensors.numpy.save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "KeptPairs":
        """Read what `save` wrote.

        Raises:
          FileNotFoundError: if there is no such file.
          ValueError: if it is damaged, or holds something else.
        """
        call = f"KeptPairs.load({str(path)!r})"
        if not Path(path).is_file():
            raise MissingFileError(
                f"`{call}`: expected the moments that `jaxalign fit` writes beside its "
                "map, found nothing; keep that file with the map, or fit on all pairs."
            )
        try:
            with safetensors.safe_open(path, framework="numpy") as opened:
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            text = metadata.get("header", "")
            header = json.loads(text)
        except (safetensors.SafetensorError, json.JSONDecodeError, OSError) as error:
            raise _damaged(call, str(error)) from error
        if metadata.get("format") != FORMAT:
            raise _damaged(call, f"format {metadata.get('format')!r}")
        if metadata.get("sha256") != checksum(text, tensors):
            raise _damaged(call, "contents that are not those that were written")

        def fields_of(kind: str, name: str) -> dict[str, np.ndarray]:
            start = f"{kind}/{name}/"
            return {
                key.removeprefix(start): value
                for key, value in tensors.items()
                if key.startswith(start)
            }

        names = header.pop("modalities")
        return cls(
            {
                name: Moments(
                    **{k: jnp.asarray(v) for k, v in fields_of("moments", name).items()}
                )
                for name in names
            },
            {name: Sample(**fields_of("sample", name)) for name in names},
            header["normalized"],
            tuple(header["origins"]),
            space_of(header, "source"),
            space_of(header, "target"),
        )


def pairs_path(map_path: str | os.PathLike[str]) -> Path:
    """Name the file that is kept beside a map.

    >>> pairs_path("runs/map.safetensors").name
    'map.moments.safetensors'
    """
    return Path(map_path).with_suffix(SUFFIX)


def _newer(one: str | None, other: str | None) -> str | None:
    """Of two fingerprints of one space, that which brings older ones along."""
    return other if one is None or older_spaces(other) else one


def draw_sample(rows: int, most: int | None = SAMPLE) -> Int[np.ndarray, " s"] | None:
    """Draw which pairs are kept as they are, sorted; None: all of them."""
    if most is None or rows <= most:
        return None
    drawn = np.random.default_rng(_SEED).choice(rows, most, replace=False)
    return np.sort(drawn)


def label_rows(names: Any, origin: str = "") -> Int[np.ndarray, " n"]:
    """Give each name a whole number of 64 bits, the same wherever it comes again.

    Args:
      names: ids, or row numbers.
      origin: of row numbers: those of other files are other rows.
    """
    texts = (f"{origin}:{name}".encode() for name in names)
    digests = [hashlib.blake2b(text, digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)


def _joined(old: tuple[Sample, int], new: tuple[Sample, int]) -> Sample:
    """Sample from two samples, each with a share as large as what it stands for."""
    (first, first_rows), (second, second_rows) = old, new
    room = max(SAMPLE, len(first.ids) if len(first.ids) == first_rows else 0)
    share = first_rows / (first_rows + second_rows)
    parts = []
    rng = np.random.default_rng(_SEED)
    if len(first.ids) + len(second.ids) <= room and (
        len(first.ids) == first_rows and len(second.ids) == second_rows
    ):
        parts = [first, second]
    else:
        wanted = round(min(SAMPLE, room) * share)
        for one, count in ((first, wanted), (second, min(SAMPLE, room) - wanted)):
            drawn = rng.permutation(len(one.ids))[:count]
            parts.append(one.take(np.sort(drawn)))
    return Sample(
        *(
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("source", "target", "ids")
        )
    )


def _damaged(call: str, got: str) -> ArgumentError:
    remedy = "copy the file again, or fit on all pairs"
    return ArgumentError(call, "a whole file of moments", got, remedy)
