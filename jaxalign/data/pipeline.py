# SPDX-License-Identifier: Apache-2.0
"""The Grain pipeline: examples -> shuffled, augmented, batched, padded and masked.

One shard a process; the iterator's state can be saved and restored, so training goes
on where it stopped. Every shard gives the same number of batches, since each process
of a run must issue the same collectives: shards are padded with masked rows.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxalign.data.examples import Source, check_not_empty, stack_examples
from jaxalign.errors import ArgumentError, check_count

Transform = (
    grain.transforms.Map
    | grain.transforms.RandomMap
    | Callable[[dict[str, Any]], dict[str, Any]]
)


def image_text_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int | None = None,
    shuffle: bool = False,
    epochs: int | None = 1,
    transforms: Sequence[Transform] = (),
    num_threads: int = 1,
    shard_index: int = 0,
    shard_count: int = 1,
    drop_remainder: bool = False,
) -> grain.IterDataset:
    """Make batches of a source of examples.

    Args:
      source: random access to example dicts, such as `load_dataset` returns.
      batch_size: rows of every batch of this shard.
      seed: of shuffling and of random transforms; needed for either. An epoch's order
        and augmentation differ from the last epoch's.
      shuffle: whether to shuffle all examples, over shards too.
      epochs: how often to go through the source; None goes on for ever. Batches run
        across the ends of epochs.
      transforms: what to do to each example, in order: Grain's `Map` or `RandomMap`,
        or a function from example to example.
      num_threads: threads that read and transform ahead; 0 for none. More than one
        helps where decoding, not Python, takes the time.
      shard_index: which shard this process reads, in [0, shard_count).
      shard_count: over how many processes the source is split.
      drop_remainder: leave out the examples that fill no row of all shards and no
        whole batch, instead of padding and masking.

    Returns:
      A Grain dataset of batches: dicts of arrays with leading axis `batch_size`,
      strings as NumPy string arrays, plus `mask`, bool (batch_size,), False on padding.
      `iterator = iter(batches)` has `get_state()` and `set_state(state)`.

    Raises:
      ValueError: if sizes or shard are out of range, or a needed seed is missing.
    """
    call = "image_text_batches"
    check_not_empty(call, source)
    check_count(call, "batch_size", batch_size, remedy="pass rows a batch")
    if epochs is not None:
        check_count(call, "epochs", epochs, remedy="epochs=None goes on for ever")
    if not 0 <= shard_index < shard_count:
        raise ArgumentError(
            f"{call}(shard_index={shard_index}, shard_count={shard_count})",
            "0 <= shard_index < shard_count",
            remedy="pass jax.process_index() and jax.process_count()",
        )
    is_random = any(isinstance(t, grain.transforms.RandomMap) for t in transforms)
    if seed is None and (shuffle or is_random):
        expected = "an int, since examples are shuffled or transformed at random"
        remedy = "pass seed=0, for example"
        raise ArgumentError(f"{call}(seed=None)", expected, remedy=remedy)
    rows = len(source) / shard_count
    rows_per_shard = math.floor(rows) if drop_remainder else math.ceil(rows)
    examples = grain.MapDataset.source(
        _PaddedSource(source, rows_per_shard * shard_count)
    ).seed(0 if seed is None else seed)
    if shuffle:
        examples = examples.shuffle()
    examples = examples[shard_index::shard_count].repeat(epochs)
    for transform in transforms:
        examples = (
            examples.random_map(transform)
            if isinstance(transform, grain.transforms.RandomMap)
            else examples.map(transform)
        )
    return examples.to_iter_dataset(
        grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * batch_size)
    ).batch(
        batch_size,
        drop_remainder=drop_remainder,
        batch_fn=lambda rows: stack_examples(_pad(rows, batch_size), call=call),
    )


class AugmentImage(grain.transforms.RandomMap):
    """Vary `image` at random, see `augment_image`."""

    def random_map(
        self, element: dict[str, Any], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Replace the image of one example by a varied one."""
        return {**element, "image": augment_image(element["image"], rng)}


def augment_image(
    image: UInt8[np.ndarray, "height width 3"],
    rng: np.random.Generator,
    *,
    shift: float = 0.05,
    zoom: float = 0.08,
    turn: float = 5.0,
    colour: float = 0.06,
    contrast: float = 0.1,
) -> UInt8[np.ndarray, "height width 3"]:
    """Shift, zoom, turn and tint a picture a little; never mirror it.

    Arrows, letters and clocks would mean something else in a mirror.

    Args:
      image: (height, width, 3), uint8.
      rng: where the numbers come from, each uniform in plus or minus its bound.
      shift: of either axis, as a share of that side.
      zoom: relative change of size.
      turn: degrees.
      colour: relative gain of each channel.
      contrast: relative change about the mid grey; half as much brightness, as a
        share of 255.

    Returns:
      A picture of the same shape. What comes in from outside has the colour of the
      picture's corners.
    """
    height, width, _ = image.shape
    units = rng.uniform(-1.0, 1.0, size=9)
    angle = np.deg2rad(turn * units[0])
    scale = 1.0 / (1.0 + zoom * units[1])
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    from_x = centre_x + shift * width * units[2]
    from_y = centre_y + shift * height * units[3]
    # PIL asks for the map from output pixels to input pixels.
    inverse_map = (
        cosine,
        sine,
        from_x - cosine * centre_x - sine * centre_y,
        -sine,
        cosine,
        from_y + sine * centre_x - cosine * centre_y,
    )
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
    moved = Image.fromarray(image).transform(
        (width, height),
        Image.Transform.AFFINE,
        inverse_map,
        Image.Resampling.BILINEAR,
        fillcolor=tuple(int(c) for c in np.median(corners, axis=0)),
    )
    levels = np.arange(256.0)
    gains = (1.0 + contrast * units[4]) * (1.0 + colour * units[5:8])
    offset = 127.5 * (1.0 + contrast * units[8])
    table = np.clip((levels - 127.5) * gains[:, None] + offset, 0, 255)
    return np.asarray(moved.point(table.astype(np.uint8).ravel().tolist()))


class _PaddedSource:
    """A source cut or padded to a length; rows past its end are masked copies."""

    def __init__(self, source: Source, length: int):
        self._source = source
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        last = len(self._source) - 1
        return {**self._source[min(index, last)], "mask": index <= last}


def _pad(
    rows: Sequence[Mapping[str, Any]], batch_size: int
) -> Sequence[Mapping[str, Any]]:
    """Pad a short batch with masked copies of its last row."""
    return [*rows, *[{**rows[-1], "mask": False}] * (batch_size - len(rows))]
