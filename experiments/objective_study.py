# SPDX-License-Identifier: Apache-2.0
"""Does another objective than Procrustes give a better map? What the paper leaves open.

    python -m experiments.objective_study

Half of the classes are never anchors. On the others, folds of whole classes choose
temperature, number of steps and pull towards the closed form for every objective, and
the objective itself; each is then fitted on all anchors and evaluated once on the
classes that were never anchors, against the closed form of the same anchors. Seeds are
splits of the classes. Writes `report.html` and `results.json`.
"""

import dataclasses
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

import jaxalign as ja
from experiments import launch
from experiments.objective_choice import (
    Candidate,
    Sizes,
    choose,
    common_sizes,
    cut_folds,
    score_closed_form,
)
from experiments.objective_families import (
    FAMILIES,
    Schedule,
    choose_rows,
    descend,
    moments_of,
    take_rows,
)
from experiments.objective_words import (
    CHOSEN,
    CLOSED,
    MEASURED,
    Choice,
    describe_study,
    study_sections,
)
from experiments.two_models import read_models
from jaxalign.data import catalog
from jaxalign.evaluate.rows import ResultRow
from jaxalign.pairing.embedded_split import EmbeddedSplit
from jaxalign.report.document import (
    finding,
    paragraphs,
    run_section,
    write_document,
)
from jaxalign.report.results import library_versions
from jaxalign.search.use import SearchMap, Use
from jaxalign.stiefel.objectives.rows import Centring
from jaxalign.workflows.splits import check_splits
from jaxalign.workflows.two_models import TwoModels

TINY_FAMILIES = (
    "contrastive",
    "kernel",
    "closed form, images and texts",
    "kernel, image-text",
)
"""Of a toy-sized study: each family is a compilation."""

ClassTexts = tuple[np.ndarray, np.ndarray]
"""One row a class, by the source model and by the target model."""

USES: dict[Centring, Use] = {
    "map": Use.PAPER,
    "both": Use(centre="both", divide="whole", offsets=0),
}
"""How a map is used, by the centring of the objectives that are fitted for it."""
TABLES: dict[Centring, str] = {
    "map": "objectives, target means added",
    "both": "objectives, both sides centred",
}


@dataclasses.dataclass(frozen=True)
class Config(TwoModels):
    """What the study depends on; stored with every result."""

    families: tuple[str, ...] = tuple(FAMILIES)
    centrings: tuple[Centring, ...] = ("map", "both")
    folds: int = 2
    steps: tuple[int, ...] = (5, 15, 40)
    step_length: float = 0.1
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    replicates: int = 200

    def tiny(self) -> "Config":
        """The same study at toy size."""
        return dataclasses.replace(
            self,
            families=TINY_FAMILIES,
            centrings=("map",),
            steps=(2, 4),
            seeds=self.seeds[:2],
            replicates=50,
        )

    @property
    def schedule(self) -> Schedule:
        """Steps and their length."""
        return Schedule(self.steps, self.step_length)


class Study(NamedTuple):
    """What the study found.

    Attributes:
      rows: one a table, seed, method and metric.
      words: paragraphs, the first of which says what to do.
      sections: of a page.
    """

    rows: list[ResultRow]
    words: list[str]
    sections: list[str]


def run_study(config: Config, split: EmbeddedSplit, class_texts: ClassTexts) -> Study:
    """Run the study on embeddings that exist.

    Args:
      config: seeds, folds, steps; what it says of models and data is only noted.
      split: of which half of the classes become anchors, seed by seed.
      class_texts: one row a class of the data set, by the source and target models.

    Returns:
      Rows of the tables `TABLES`, what they say, and sections of a page.
    """
    sizes = common_sizes(split, config.seeds, config.folds)
    rows: list[ResultRow] = []
    choices: list[Choice] = []
    total = len(config.seeds) * len(config.centrings) * len(config.families)
    with tqdm(total=total, desc="Comparing objectives", unit=" fits") as bar:
        for seed in config.seeds:
            found, chosen = study_seed(split, class_texts, seed, sizes, config, bar)
            rows += found
            choices += chosen
    tables = [TABLES[centring] for centring in config.centrings]
    words = describe_study(rows, tables)
    return Study(rows, words, study_sections(rows, tables, choices))


def study_seed(
    split: EmbeddedSplit,
    class_texts: ClassTexts,
    seed: int,
    sizes: Sizes,
    config: Config,
    bar: tqdm,
) -> tuple[list[ResultRow], list[Choice]]:
    """Choose on the anchors of one split of the classes, refit, evaluate once."""
    anchor_classes, unseen = catalog.split_classes(split.labels, seed=seed)
    anchors = take_rows(split, choose_rows(split, anchor_classes), sizes.all)
    folds = cut_folds(split, anchor_classes, sizes, folds=config.folds, seed=seed)
    moments = moments_of(anchors)
    pairs = split.pairs(unseen, *class_texts)
    rows: list[ResultRow] = []
    choices: list[Choice] = []
    for centring in config.centrings:
        table = TABLES[centring]
        evaluate = _evaluation(pairs, centring, seed, config)
        maps = {CLOSED: ja.fit_map(moments, ja.families.PAPER)}
        scores = score_closed_form(folds, centring)
        # The closed form comes first: where others are no better, it is chosen.
        candidates = {
            texts: [Candidate(CLOSED, 0.0, 0.0, 0, scores[texts])] for texts in CHOSEN
        }
        for name in config.families:
            family = FAMILIES[name]
            best = choose(name, folds, centring, config.schedule)
            points = descend(
                anchors,
                best.knob,
                best.pull,
                family=family,
                centring=centring,
                schedule=config.schedule,
            )
            at = config.steps.index(best.step) if best.step else 0
            fit_on = "all" if family.texts else "image"
            maps[name] = ja.fit_map(
                moments, ja.Given(points[at]), fit_on=fit_on, scale="none"
            )
            candidates[family.texts].append(best)
            choices.append(Choice(seed, table, name, best, scores[family.texts]))
            bar.update()
        for texts, name in CHOSEN.items():
            best = max(candidates[texts], key=lambda one: one.score)
            maps[name] = maps[best.family]
            choices.append(Choice(seed, table, name, best, scores[texts]))
        for name, amap in maps.items():
            rows += evaluate(name, amap)
    return rows, choices


def _evaluation(
    pairs: ja.PairedSet, centring: Centring, seed: int, config: Config
) -> Callable[[str, ja.AlignmentMap], list[ResultRow]]:
    """Make what evaluates a map in the way that a centring is for."""
    run = ja.evaluate.Run(TABLES[centring], seed, config.as_json(), config.replicates)

    def evaluate(method: str, amap: ja.AlignmentMap) -> list[ResultRow]:
        searched = SearchMap(amap, USES[centring])
        rows = ja.evaluate_map(method, searched, pairs, run=run)
        return [row for row in rows if row.metric in MEASURED]

    return evaluate


def run(
    config: Config,
    models: tuple[ja.encoders.Encoders, ja.encoders.Encoders],
    workdir: Path,
) -> Study:
    """Embed, run the study, write its files."""
    study = run_study(config, *config.embed(models))
    ja.report.write_results(workdir / "results.json", study.rows)
    write_document(
        workdir / "report.html",
        f"Objectives of a map: {config.source} to {config.target}",
        [
            finding(study.words[0]),
            paragraphs(study.words[1:]),
            *study.sections,
            run_section(config.as_json(), library_versions()),
        ],
        credit=config.credit(),
    )
    return study


def main() -> None:
    """Read the flags, run, and say what came out."""
    started = time.perf_counter()
    config = Config(**read_models())
    if launch.SEEDS.present:
        config = dataclasses.replace(config, seeds=launch.parse_seeds())
    if launch.TINY.value:
        config = config.tiny()
    check_splits(config.dataset, ["learnt"])
    models = config.load()
    workdir = launch.open_workdir("runs/objective_study")
    study = run(config, models, workdir)
    print("\n\n".join(textwrap.fill(text, 96) for text in study.words))
    print(
        f"\nWritten to {workdir}: report.html (open it), results.json."
        f"\n{time.perf_counter() - started:.0f} s in all."
    )
    sys.stdout.flush()


flags.adopt_module_key_flags(launch)

if __name__ == "__main__":
    launch.launch(main, unused=["fit_on"])
