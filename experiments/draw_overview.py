# SPDX-License-Identifier: Apache-2.0
"""Draw the README's picture: what the map does, from a real run.

    python -m experiments.draw_overview --workdir=docs

Fits the map on the images of the anchor classes (seed 0) and shows, for some emoji of
classes that it never saw, what the source model's rows find in the target model. The
emoji are drawn at random, before anything is searched for.
"""

import numpy as np
from absl import flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from experiments import launch
from jaxalign.data import catalog
from jaxalign.maps.fit import fit_map
from jaxalign.pairing.embedded_split import EmbeddedSplit, embed_class_texts
from jaxalign.report.figure_texts import take_texts_as_they_are
from jaxalign.report.gallery import sample_gallery
from jaxalign.report.gallery_items import GalleryItem
from jaxalign.workflows import paper
from jaxalign.workflows.splits import embed_split

INK, QUIET, BLUE, GREEN, RED = "#1c1e21", "#5a6068", "#0072b2", "#0b6b3a", "#a33b20"
QUERIES, NEIGHBOURS = 5, 4


def gather_items(config: paper.Config) -> list[GalleryItem]:
    """Fit the map of the first seed and search for a few pictures."""
    models = launch.load_model(config.source), launch.load_model(config.target)
    examples, rows = embed_split(
        models,
        config.dataset,
        "learnt",
        data_dir=config.data_dir,
        batch_size=config.batch_size,
    )
    learnt = EmbeddedSplit(examples, rows[0], rows[1])
    info = catalog.dataset_info(config.dataset)
    texts = [embed_class_texts(model, info) for model in models]
    anchors, heldout = catalog.split_classes(learnt.labels, seed=config.seeds[0])
    amap = fit_map(learnt.anchors(anchors), fit_on=config.fit_on)
    return sample_gallery(learnt.pairs(heldout, *texts), amap, learnt, count=QUERIES)


def draw(items: list[GalleryItem], config: paper.Config) -> Figure:
    """Lay out the scheme above, the found pictures and texts below."""
    figure = Figure(figsize=(10, 7.2), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10), ylim=(0, 7.2))
    axes.axis("off")
    _draw_scheme(axes, config)
    heads = (
        (0.35, "picture, seen by\nthe source model"),
        (2.55, "through Q: nearest pictures\nof the target model"),
        (6.45, "through Q: nearest texts of the target model\n(green: its own)"),
    )
    for x, text in heads:
        axes.text(x, 4.72, text, color=QUIET, fontsize=9, va="top")
    for line, item in enumerate(items):
        bottom = 3.35 - 0.8 * line
        _show(figure, item.query_picture, 0.6, bottom)
        arrow = FancyArrowPatch(
            (1.55, bottom + 0.36), (2.35, bottom + 0.36), arrowstyle="-|>", color=BLUE
        )
        arrow.set(linewidth=2, mutation_scale=14)
        axes.add_patch(arrow)
        axes.text(1.9, bottom + 0.45, "Q", color=BLUE, fontsize=11, ha="center")
        for place, found in enumerate(item.mapped_neighbours[:NEIGHBOURS]):
            _show(figure, found.picture, 2.55 + 0.85 * place, bottom)
        for place, found in enumerate(item.mapped_texts[:3]):
            axes.text(
                6.45,
                bottom + 0.56 - 0.24 * place,
                found.text,
                color=GREEN if found.correct else INK,
                weight="bold" if found.correct else "normal",
                fontsize=8.5,
                va="center",
            )
    return figure


def _draw_scheme(axes, config: paper.Config) -> None:
    """Draw two models and the one map between them."""
    for x, name, role in (
        (0.4, config.source, "source model"),
        (7.0, config.target, "target model"),
    ):
        box = FancyBboxPatch(
            (x, 5.25), 2.6, 1.5, boxstyle="round,pad=0.05", facecolor="#f4f6f8"
        )
        box.set(edgecolor=QUIET, linewidth=1)
        axes.add_patch(box)
        axes.text(x + 1.3, 6.5, role, ha="center", fontsize=11, weight="bold")
        axes.text(x + 1.3, 6.2, name, ha="center", fontsize=8.5, color=QUIET)
        axes.text(x + 1.3, 5.8, "image rows", ha="center", fontsize=10)
        axes.text(x + 1.3, 5.42, "text rows", ha="center", fontsize=10)
    for y, colour, text in (
        (5.87, BLUE, "one rotation Q, fitted on pairs of images ..."),
        (5.49, RED, "... carries texts too, which it never saw"),
    ):
        arrow = FancyArrowPatch((3.2, y), (6.85, y), arrowstyle="-|>", color=colour)
        arrow.set(linewidth=2.2, mutation_scale=16)
        axes.add_patch(arrow)
        axes.text(5.0, y + 0.08, text, ha="center", fontsize=9.5, color=colour)


def _show(figure: Figure, picture, x: float, y: float) -> None:
    """Place one picture; coordinates are inches."""
    axes = figure.add_axes((x / 10, y / 7.2, 0.72 / 10, 0.72 / 7.2))
    axes.imshow(np.asarray(picture))
    axes.axis("off")


def main() -> None:
    """Read the flags and write overview.png."""
    config = paper.Config(
        source=launch.SOURCE.value,
        target=launch.TARGET.value,
        dataset=launch.dataset_name(),
        data_dir=launch.DATA_DIR.value,
        seeds=launch.parse_seeds()[:1],
    )
    workdir = launch.open_workdir("runs/draw_overview")
    figure = draw(gather_items(config), config)
    take_texts_as_they_are(figure)
    figure.savefig(workdir / "overview.png")
    print(f"written: {workdir / 'overview.png'}")


for _name in ("source", "target", "dataset", "data_dir", "workdir", "seeds", "tiny"):
    flags.declare_key_flag(_name)

if __name__ == "__main__":
    launch.launch(main)
