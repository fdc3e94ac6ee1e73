# SPDX-License-Identifier: Apache-2.0
r"""Descent on the Stiefel manifold beside the closed form, on Procrustes problems.

    python -m experiments.compare_solvers
    python -m experiments.compare_solvers --source_store=runs/embed/source \
        --target_store=runs/embed/target

Every optimiser of `ja.stiefel` and the closed form by three methods, on planted
problems and on the anchors of two models: excess against steps and time, drift, and
what the maps are worth on data that they were not fitted on. Writes `report.html`,
`results.json` and `map.safetensors`.
"""

import dataclasses
import functools
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from absl import flags

import jaxalign as ja
from experiments import launch, launch_stores, objective_study
from experiments.launch_stores import SOURCE_STORE, TARGET_STORE
from experiments.solvers.anchors import Anchors, encoder_anchors, store_anchors
from experiments.solvers.compare import (
    COMPARED,
    PLANTED,
    TINY_COMPARED,
    compare,
    solver_bar,
)
from experiments.solvers.report import (
    Results,
    describe,
    describe_components,
    outcome_rows,
    page_sections,
)
from experiments.two_models import read_models
from jaxalign.errors import ArgumentError
from jaxalign.report.convergence import format_convergence
from jaxalign.report.document import run_section, write_document
from jaxalign.report.results import library_versions
from jaxalign.workflows.splits import Embedded, check_splits
from jaxalign.workflows.two_models import TwoModels

PARTS = ("planted", "data", "objectives")
_PARTS = flags.DEFINE_list(
    "parts",
    None,
    "What to compare: solvers on planted problems; on data, the anchors of --source "
    "and --target or of two stores; objectives other than Procrustes on the same "
    "anchors, as experiments.objective_study does. Default: "
    "planted,data,objectives; with stores, which have no classes, and under --tiny, "
    "planted,data.",
)
_STEPS = flags.DEFINE_integer(
    "steps", 600, "Steps on the anchors of models.", lower_bound=2
)
STORE_BATCH, TINY_PAIRS = 8192, 512
TINY_PLANTED = ("easy", "det -1")


@dataclasses.dataclass(frozen=True)
class Config(TwoModels):
    """What the experiment depends on; stored with every result."""

    parts: tuple[str, ...] = PARTS
    source_store: str | None = None
    target_store: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    study_seeds: tuple[int, ...] = objective_study.Config.seeds
    steps: int = 600
    rounds: int = 5
    replicates: int = 200
    solvers: tuple[str, ...] = tuple(COMPARED)
    tiny: bool = False

    @property
    def embeds(self) -> bool:
        """Whether a part needs the models' embeddings, and no stores hold them."""
        return bool(set(self.parts) - {"planted"}) and self.source_store is None


def run(config: Config, workdir: Path) -> Results:
    """Compare on every part, write, and return what came out."""
    results = Results()
    # A folder or a model that is not there is found before the long work.
    if config.embeds:
        _embed(config)
    elif config.source_store:
        _open_stores(config)
    parts = {
        "planted": lambda: compare_planted(config, results),
        "data": lambda: compare_data(config, results),
        "objectives": lambda: compare_objectives(config, results),
    }
    results.said.append("")
    for part in config.parts:
        parts[part]()
        results.said[0] = describe(results.planted, results.data, results.rows)
        # After each part: a run that is interrupted keeps what it has.
        write(workdir, config, results)
    return results


def compare_planted(config: Config, results: Results) -> None:
    """Run all solvers on the planted problems, and once from the wrong component."""
    cases = PLANTED
    if config.tiny:
        cases = [case.tiny() for case in PLANTED if case.name in TINY_PLANTED]
    problems = [case.draw(config.seeds[0]) for case in cases]
    with solver_bar("Planted problems", len(problems), config.solvers) as report:
        for problem in problems:
            outcome = compare(
                problem, config.solvers, rounds=config.rounds, report=report
            )
            results.planted.append(outcome)
            results.rows += outcome_rows(outcome, config.as_json())
    mirrored = next(o for o in results.planted if o.problem.name == "det -1")
    results.components = describe_components(mirrored)


def compare_data(config: Config, results: Results) -> None:
    """Run all solvers on the models' anchors; learning rates are the first seed's."""
    settings = None
    count = 1 if config.source_store else len(config.seeds)
    anchors_of_seeds = _anchors(config)
    first = next(anchors_of_seeds)
    with solver_bar("Anchors of models", count, config.solvers) as report:
        for anchors in (first, *anchors_of_seeds):
            outcome = compare(
                anchors.problem,
                config.solvers,
                rounds=0 if settings else config.rounds,
                settings=settings,
                report=report,
            )
            results.data.append(outcome)
            rotations = outcome.rotations
            maps = {name: anchors.map_of(name, rotations[name]) for name in rotations}
            for name, amap in maps.items():
                results.rows += anchors.evaluate(name, amap)
            results.rows += outcome_rows(outcome, config.as_json(), timed=not settings)
            results.amap = results.amap or maps[outcome.best()]
            settings = outcome.settings


def _anchors(config: Config) -> Iterator[Anchors]:
    """Read stores, or embed the data set."""
    if config.source_store:
        yield store_anchors(
            _open_stores(config),
            steps=config.steps,
            config=config.as_json(),
            batch_size=STORE_BATCH,
            most_pairs=TINY_PAIRS if config.tiny else None,
        )
        return
    embedded = _embed(config)
    yield from encoder_anchors(
        embedded.split,
        embedded.texts,
        seeds=config.seeds,
        steps=config.steps,
        config=config.as_json(),
        replicates=config.replicates,
    )


def _open_stores(config: Config) -> tuple[ja.EmbeddingStore, ja.EmbeddingStore]:
    """Open both stores."""
    folders = config.source_store or "", config.target_store or ""
    source, target = (ja.EmbeddingStore.open(folder) for folder in folders)
    return source, target


@functools.cache
def _embed(config: Config) -> Embedded:
    """Embed the data set with both models, once."""
    return config.embed()


def compare_objectives(config: Config, results: Results) -> None:
    """Compare other objectives with the closed form, on the same embeddings."""
    shared = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(TwoModels)
    }
    settings = objective_study.Config(**shared, seeds=config.study_seeds)
    if config.tiny:
        settings = settings.tiny()
    study = objective_study.run_study(settings, *_embed(config))
    results.rows += study.rows
    results.said += study.words
    results.sections += study.sections


def write(workdir: Path, config: Config, results: Results) -> None:
    """Write the rows, the best map and the page."""
    ja.report.write_results(workdir / "results.json", results.rows)
    if results.amap is not None:
        results.amap.save(workdir / "map.safetensors")
    write_document(
        workdir / "report.html",
        "Solvers of orthogonal Procrustes",
        [*page_sections(results), run_section(config.as_json(), library_versions())],
        credit=config.credit() if config.embeds else "",
    )


def read_config() -> Config:
    """Read the flags.

    Raises:
      ValueError: for parts that there are not, or one store without the other.
    """
    fewer = launch.TINY.value or SOURCE_STORE.value is not None
    default = PARTS[:2] if fewer else PARTS
    parts = default if _PARTS.value is None else tuple(_PARTS.value)
    if not parts or not set(parts) <= set(PARTS):
        raise ArgumentError(
            "--parts",
            f"some of {', '.join(PARTS)}",
            f"{','.join(parts)!r}",
            "leave it out for the default",
        )
    if (SOURCE_STORE.value is None) != (TARGET_STORE.value is None):
        raise ArgumentError(
            "--source_store, --target_store",
            "both or none",
            "one",
            "write both by `python -m experiments.embed`",
        )
    if SOURCE_STORE.value is not None and "objectives" in parts:
        raise ArgumentError(
            "--parts",
            "no objectives with stores, which have no classes to hold out",
            remedy="leave them out, or the stores",
        )
    seeds = launch.parse_seeds()
    config = Config(
        **read_models(),
        parts=parts,
        source_store=SOURCE_STORE.value,
        target_store=TARGET_STORE.value,
        seeds=seeds,
        # A study of objectives needs more splits for its intervals.
        study_seeds=seeds if launch.SEEDS.present else Config.study_seeds,
        steps=_STEPS.value,
        tiny=launch.TINY.value,
    )
    if not config.tiny:
        return config
    return dataclasses.replace(
        config,
        seeds=config.seeds[:1],
        steps=min(50, config.steps),
        solvers=TINY_COMPARED,
        rounds=1,
        replicates=50,
    )


def main() -> None:
    """Read the flags, run, and say what came out."""
    started = time.perf_counter()
    config = read_config()
    if config.embeds:
        check_splits(config.dataset, ["learnt"])
    workdir = launch.open_workdir("runs/compare_solvers")
    results = run(config, workdir)
    if outcomes := [*results.planted, *results.data[:1]]:
        print("Time to 1e-6 of the start's excess, or the excess that was left:\n")
        print(format_convergence({o.problem.name: o.convergence for o in outcomes}))
        print()
    print("\n\n".join(textwrap.fill(text, 96) for text in results.said if text))
    written = "report.html (open it), results.json"
    written += "" if results.amap is None else ", map.safetensors"
    print(
        f"\nWritten to {workdir}: {written}."
        f"\n{time.perf_counter() - started:.0f} s in all."
    )
    sys.stdout.flush()


flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(launch_stores)

if __name__ == "__main__":
    launch.launch(main, unused=("fit_on",))
