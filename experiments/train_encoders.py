# SPDX-License-Identifier: Apache-2.0
"""Train one of the two shipped encoder pairs on the embedded data set.

    python -m experiments.train_encoders --recipe=openmoji-clip

Goes on from its last checkpoint when started again, and writes a folder that
`transformers` and jaxalign load.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import grain
import jax
import numpy as np
from absl import flags
from flax import nnx
from PIL import Image

from experiments import launch
from experiments.shipped_encoders import captions
from experiments.shipped_encoders.grouping import DrawOne, GroupedSource
from experiments.shipped_encoders.model_card import format_card
from experiments.shipped_encoders.recipes import RECIPES, TEXT_LENGTH, Recipe
from experiments.shipped_encoders.tokenizer_training import read_tokenizer
from experiments.shipped_encoders.training import Progress, train
from jaxalign.atomic_files import write_atomically
from jaxalign.data import catalog, openmoji_texts, pipeline
from jaxalign.encoders.checkpoint import save_model
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.families import find_family
from jaxalign.encoders.pretrained import load_encoders
from jaxalign.errors import ArgumentError
from jaxalign.metrics.recall import exact_recall
from jaxalign.report.results import library_versions

_RECIPE = flags.DEFINE_enum(
    "recipe", None, sorted(RECIPES), "Which pair to train.", required=True
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a training run."""

    recipe: Recipe
    dataset: str = "openmoji"
    data_dir: str | None = None
    batch_size: int = 128
    checkpoint_every: int = 500


def _print_now(line: str) -> None:
    print(line, flush=True)


class ResizeImage(grain.transforms.Map):
    """Resize as the recipes' image processors do: bicubic, with Pillow."""

    def __init__(self, size: int):
        self._size = (size, size)

    def map(self, element):
        """Replace the image of one example."""
        image = Image.fromarray(element["image"])
        resized = image.resize(self._size, Image.Resampling.BICUBIC)
        return {**element, "image": np.asarray(resized)}


def make_batches(config: Config, source, tokenizer, image_size: int):
    """Return the endless batches: augmented pictures and caption ids."""
    batches = pipeline.image_text_batches(
        GroupedSource(source),
        batch_size=config.batch_size,
        seed=config.recipe.seed,
        shuffle=True,
        epochs=None,
        transforms=[
            DrawOne(),
            pipeline.AugmentImage(),
            ResizeImage(image_size),
            captions.WriteTrainingCaption(),
        ],
        num_threads=1,
    )

    def tokenize(batch):
        encoded = tokenizer(
            [str(text) for text in batch["text"]],
            padding="max_length",
            truncation=True,
            max_length=TEXT_LENGTH,
        )
        ids = np.asarray(encoded["input_ids"], np.int32)
        return {"image": batch["image"], "ids": ids}

    return batches.map(tokenize)


def corpus(source, *, repeats: int = 20) -> list[str]:
    """Return captions of every emoji, many drawings each, for the tokenizer."""
    rng = np.random.default_rng(0)
    examples = {source[i]["emoji"]: source[i] for i in range(len(source))}
    return [
        captions.training_caption(example, rng)
        for example in examples.values()
        for _ in range(repeats)
    ]


def keep_tokenizer(recipe: Recipe, source, folder: Path):
    """Train the tokenizer at the first start; later starts read it again.

    Training it anew would give other ids than those the checkpoints have learnt.
    """
    if not folder.exists():
        tokenizer = recipe.tokenizer(corpus(source))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            tokenizer.save_pretrained(Path(temporary) / "tokenizer")
            os.replace(Path(temporary) / "tokenizer", folder)
    return read_tokenizer(folder)


def make_report(steps: int, batch_size: int, log):
    """Return what tells of progress: loss, rate and time left."""
    started = first = None

    def report(progress: Progress) -> None:
        nonlocal started, first
        line = f"step {progress.step}/{steps}  loss {progress.loss:.4f}"
        if started is None or first is None:
            # The first steps hold the compilation: the rate counts from here.
            started, first = time.perf_counter(), progress.step
        else:
            rate = (progress.step - first) / (time.perf_counter() - started)
            line += f"  {rate * batch_size:.0f} pairs/s"
            line += f"  {(steps - progress.step) / rate / 60:.1f} min left"
        log(line)

    return report


def check_same_run(config: Config, source, path: Path) -> None:
    """Note what a run depends on; refuse to go on from another run's checkpoints.

    Raises:
      ValueError: if the notes of an earlier run differ.
    """
    recipe = config.recipe
    pictures = hashlib.sha256()
    for example in source:
        pictures.update(example["image"].tobytes())
    model = recipe.make_config(recipe.vocabulary_size).to_dict()
    model.pop("transformers_version", None)
    notes = json.dumps(
        {
            "dataset": config.dataset,
            "pictures": pictures.hexdigest(),
            "captions": {
                **captions.CAPTION_SHARES,
                "details": captions.DETAIL_SHARE,
            },
            "model": model,
            "batch_size": config.batch_size,
            "seed": recipe.seed,
            "training": dataclasses.asdict(recipe.training),
        },
        indent=1,
        sort_keys=True,
    )
    if path.is_file() and path.read_text() != notes:
        expected = "checkpoints of a run with the same settings"
        got = f"others in {str(path.parent)!r} (see {path.name})"
        remedy = "name another folder, or delete this one"
        raise ArgumentError("--workdir", expected, got, remedy)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, notes)


def run(config: Config, workdir: Path, *, log=_print_now) -> Path:
    """Train, write the folder, and return it."""
    recipe = config.recipe
    source = catalog.load_dataset(
        config.dataset, recipe.split, data_dir=config.data_dir, in_memory=True
    )
    check_same_run(config, source, workdir / recipe.name / "run.json")
    kept = workdir / recipe.name / "tokenizer"
    tokenizer = keep_tokenizer(recipe, source, kept)
    model_config = recipe.make_config(len(tokenizer))
    family = find_family(model_config.model_type)
    model = family.build(model_config, rngs=nnx.Rngs(recipe.seed))
    size = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))
    log(f"{recipe.name}: {size / 1e6:.2f} M parameters, {len(source)} pictures")

    image_size = model_config.vision_config.image_size
    parameters = train(
        model,
        iter(make_batches(config, source, tokenizer, image_size)),
        recipe.training,
        checkpoint_dir=workdir / recipe.name / "checkpoints",
        checkpoint_every=config.checkpoint_every,
        report=make_report(recipe.training.steps, config.batch_size, log),
    )
    folder = workdir / recipe.name / "folder"
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "folder"
        save_model(made, parameters, model_config, dtype="float16")
        # The files as kept: one that was used also stores how it was called last.
        shutil.copytree(kept, made, dirs_exist_ok=True)
        recipe.make_processor().save_pretrained(made)
        write_card(made, config, model_config, size, source)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    log(f"written: {folder}")
    return folder


def write_card(folder: Path, config: Config, model_config, size: int, source) -> None:
    """Score the model in a folder, and write its card there."""
    encoders = load_encoders(folder)
    card = format_card(
        config.recipe,
        model_config,
        batch_size=config.batch_size,
        parameters=size,
        renderings=sorted({example["rendering"] for example in source}),
        scores={
            f"{split} emoji": score(encoders, config, split)
            for split in ("learnt", "unseen")
        },
        credit=catalog.dataset_info(config.dataset).credit,
        versions=library_versions(),
    )
    (folder / "README.md").write_text(card)


def score(encoders: Encoders, config: Config, split: str) -> dict[str, float | int]:
    """Return how many pictures find their own caption within this model."""
    examples = [
        example
        for example in catalog.load_dataset(
            config.dataset, split, data_dir=config.data_dir, in_memory=True
        )
        if example["rendering"] == "plain"
    ]
    images = encoders.embed_images([example["image"] for example in examples])
    texts = encoders.embed_texts(
        [openmoji_texts.caption(example["name"]) for example in examples]
    )
    recall = exact_recall(images, texts, np.arange(len(examples)))
    return {"n": len(examples), "image -> text @1": recall.at(1), "@10": recall.at(10)}


def main() -> None:
    """Read the flags and run."""
    recipe = RECIPES[_RECIPE.value]
    default = "runs/train_encoders"
    if launch.TINY.value:
        training = dataclasses.replace(recipe.training, steps=4)
        recipe = dataclasses.replace(recipe, training=training)
        default = "runs/train_encoders_tiny"
    config = Config(
        recipe,
        launch.dataset_name(),
        launch.DATA_DIR.value,
        16 if launch.TINY.value else launch.BATCH_SIZE.value,
        checkpoint_every=2 if launch.TINY.value else 500,
    )
    run(config, launch.open_workdir(default))


for _name in ("dataset", "data_dir", "workdir", "batch_size", "tiny"):
    flags.declare_key_flag(_name)

if __name__ == "__main__":
    launch.launch(main, unused=("source", "target", "dtype", "fit_on", "seeds"))
