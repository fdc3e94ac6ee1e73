# SPDX-License-Identifier: Apache-2.0
"""Fit a map from files of paired rows: read, choose, judge, write.

Few pairs are chosen and judged on as they are. Of many, a sample is; the map itself is
then solved from the moments of all of them, in one pass and constant memory. What is
kept beside the map lets more pairs be added later.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxalign.anchors import Anchors
from jaxalign.choose.choose import MapChoice, choose_map
from jaxalign.compilation_cache import use_compilation_cache
from jaxalign.errors import ArgumentError, PoorFitWarning, check_option
from jaxalign.families import (
    Family,
    Half,
    LeastSquares,
    LikelihoodRatio,
    MeanOnly,
    Mlp,
    Orthogonal,
    Ridge,
    ScorerFamily,
    Whitened,
)
from jaxalign.heldout.jobs import PURPOSES, Purpose
from jaxalign.json_values import json_values
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.encode import MOST_ANCHORS, with_anchors
from jaxalign.maps.fit import fit_map
from jaxalign.maps.kept_pairs import (
    KeptPairs,
    pairs_path,
)
from jaxalign.rows.matching import Match
from jaxalign.trust.judge import judge
from jaxalign.trust.verdict import Verdict, Word
from jaxalign.workflows.adding import check_added, is_lower, name_as_map, word_of
from jaxalign.workflows.lines import wrap
from jaxalign.workflows.outputs import check_new_file
from jaxalign.workflows.pairs import PairCounts, read_pairs
from jaxalign.workflows.progress import working
from jaxalign.workflows.shared_columns import shared_columns
from jaxalign.workflows.sides import Sides, check_bad, check_named, open_sides
from jaxalign.workflows.tell import verdict_facts

CALL = "jaxalign fit"
FAMILIES: dict[str, Family | ScorerFamily] = {
    "orthogonal": Orthogonal(),
    "whitened": Whitened(),
    "likelihood_ratio": LikelihoodRatio(),
    "half": Half(),
    "ridge": Ridge(),
    "least_squares": LeastSquares(),
    "mlp": Mlp(),
    "mean_only": MeanOnly(),
}
"""What `--family` takes. Default: those of the purpose, see `choose_map`."""

REQUIRED = ("usable", "weak")


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """What a fit is asked for.

    Attributes:
      source: reference to rows of the source model, see `open_rows`.
      target: the same for the target model.
      pairs: more of them, each "image:a.npy:b.npy".
      modality: of two lone matrices; of folders it selects one.
      id_column: with ids, of parquet files and foreign folders.
      match: how rows are paired: "auto", "id" or "position".
      picked: file of the source rows that the target's rows are of, see `pick`.
      normalize: divide rows by their norms; None: as the map that pairs are added to,
        or else True.
      skip_bad: accept any number of pairs with a bad row.
      purpose: what the map is for; None: as the map that pairs are added to, or else
        "search".
      families: names in `FAMILIES` to choose from; () for the purpose's own.
      fit_on: modality that the matrix is fitted on, or "all"; None: chosen.
      add: a map that these pairs are added to.
      force: add pairs that this map does not fit.
      out: the map's file; None: none is written.
      overwrite: replace an older file.
      require: "usable" or "weak": write nothing below this verdict.
      map_only: keep nothing beside the map: no pairs can be added later.
    """

    source: str | None = None
    target: str | None = None
    pairs: Sequence[str] = ()
    modality: str | None = None
    id_column: str | None = None
    match: Match = "auto"
    picked: str | None = None
    normalize: bool | None = None
    skip_bad: bool = False
    purpose: Purpose | None = None
    families: Sequence[str] = ()
    fit_on: str | None = None
    add: str | None = None
    force: bool = False
    out: str | None = "map.safetensors"
    overwrite: bool = False
    require: str | None = None
    map_only: bool = False


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a fit gave.

    Attributes:
      map: with its scorer.
      choice: what was chosen, and why.
      verdict: whether the map can be used.
      kept: all pairs.
      counts: what became of the rows that were read, by modality.
      files: that were written.
      unmet: what `require` asked for and did not get, or None.
    """

    map: AlignmentMap
    choice: MapChoice
    verdict: Verdict
    kept: KeptPairs
    counts: dict[str, PairCounts]
    files: list[Path]
    unmet: str | None


def fit(options: FitOptions) -> Fitted:
    """Fit, judge and write a map from files of paired rows.

    Raises:
      ValueError: for any option or file that cannot be used; all that can be known
        without a pass over the rows is found before it.
    """
    families = _check(options)
    check_named(options.source, options.target, options.pairs, call=CALL)
    out = _output(options)
    before = None if options.add is None else _load(options.add)
    sides = open_sides(
        options.source,
        options.target,
        options.pairs,
        modality=options.modality,
        id_column=options.id_column,
        match=options.match,
        picked=options.picked,
        call=CALL,
    )
    _check_modalities(options, sides, None if before is None else before[0])
    if options.purpose in ("cross", "zero_shot") and len(sides) > 1:
        raise ArgumentError(
            f"--purpose={options.purpose}",
            "SOURCE and TARGET folders with rows of two modalities, which tell what "
            "answers what",
            "a file for each",
            "lay them out as clip-retrieval does, or see `ja.Anchors(pairs, ids=)`",
        )
    use_compilation_cache()
    normalize = options.normalize
    if normalize is None:
        normalize = True if before is None else before[1].normalized
    if before is not None:
        check_added(
            f"{CALL} --add",
            *before,
            sides,
            normalize=normalize,
            force=options.force,
        )
    all_rows = any(not _from_moments(family) for family in families)
    kept, counts = read_pairs(sides, normalize=normalize, all_rows=all_rows, call=CALL)
    skipped = sum(one.skipped for one in counts.values())
    check_bad(skipped, sum(one.read for one in counts.values()), options.skip_bad)
    purpose = options.purpose
    if before is not None:
        purpose = purpose or before[0].card.get("purpose")
        kept = before[1].merge(kept, call=f"{CALL} --add")
    with warnings.catch_warnings():
        # The verdict says the same, and more.
        warnings.simplefilter("ignore", PoorFitWarning)
        amap, choice, verdict = fit_kept(
            kept, purpose=purpose or "search", families=families, fit_on=options.fit_on
        )
    if before is not None and is_lower(verdict.word, word_of(before[0])):
        warnings.warn(
            f"the map's verdict was {word_of(before[0])}; with these pairs it is "
            f"{verdict.word}",
            stacklevel=2,
        )
    columns = () if verdict.word != "none" else shared_columns(sides)
    if columns:
        warnings.warn(
            f"rows were paired by position, but both tables have a column "
            f"{columns[0]!r} with the same values in another order: try "
            f"--id_column={columns[0]}",
            stacklevel=2,
        )
    unmet = _unmet(options.require, verdict)
    files = []
    if out is not None and unmet is None:
        amap.save(out)
        files = [out]
        if not options.map_only:
            kept.save(pairs_path(out))
            files.append(pairs_path(out))
    return Fitted(amap, choice, verdict, kept, counts, files, unmet)


def fit_kept(
    kept: KeptPairs,
    *,
    purpose: Purpose,
    families: Sequence[Family | ScorerFamily] = (),
    fit_on: str | None = None,
) -> tuple[AlignmentMap, MapChoice, Verdict]:
    """Choose and judge on the sample, and fit the map on all pairs."""
    anchors = kept.anchors(CALL)
    origins = list(kept.origins)
    notes = {"rows": {"normalized": kept.normalized, "origins": origins}}
    choice, verdict = choose_and_judge(
        anchors, purpose, families=families, fit_on=fit_on, card=notes
    )
    told = {"verdict": json_values(verdict.to_json())}
    if kept.complete:
        card = {**choice.map.card, **told}
        return dataclasses.replace(choice.map, card=card), choice, verdict
    candidate = choice.candidate
    card = {key: value for key, value in choice.map.card.items() if key != "fit"}
    amap = fit_map(
        kept.moments,
        candidate.of_rows,
        scorer=candidate.scorer,
        fit_on=candidate.fit_on,
        source_space=kept.source_space,
        target_space=kept.target_space,
        card={**card, **told},
    )
    if kept.normalized:
        amap = _with_unit_norms(amap)
    return with_anchors(amap, anchors, MOST_ANCHORS), choice, verdict


def _with_unit_norms(amap: AlignmentMap) -> AlignmentMap:
    """Note that every anchor had norm 1: moments tell no range of norms."""
    ones = {name: jnp.ones(3, amap.matrix.dtype) for name in amap.modalities}
    numbers = dataclasses.replace(amap.numbers, source_norms=ones, target_norms=ones)
    return dataclasses.replace(amap, numbers=numbers)


def choose_and_judge(
    anchors: Anchors,
    purpose: Purpose,
    *,
    families: Sequence[Family | ScorerFamily],
    fit_on: str | None,
    card: dict[str, Any],
) -> tuple[MapChoice, Verdict]:
    """Choose the map for a purpose, and judge by the same fits if it can be used."""
    with working("Choosing the map, on held-out pairs"):
        choice = choose_map(
            anchors,
            purpose,
            families=list(families) or None,
            fit_on=None if fit_on is None else [fit_on],
            card=card,
        )
    with working("Judging it, beside shuffled pairs"):
        return choice, judge(choice.anchors or anchors, choice)


def _check(options: FitOptions) -> list[Family | ScorerFamily]:
    """Validate what needs no file; return the families."""
    for name in options.families:
        check_option(CALL, "--family", name, FAMILIES)
    if options.purpose is not None:
        check_option(CALL, "--purpose", options.purpose, PURPOSES)
    if options.require is not None:
        check_option(CALL, "--require", options.require, REQUIRED)
    if options.force and options.add is None:
        raise ArgumentError("--force", "--add=MAP beside it", remedy="leave it out")
    return [FAMILIES[name] for name in options.families]


def _check_modalities(
    options: FitOptions, sides: Sequence[Sides], amap: AlignmentMap | None
) -> None:
    """Raise for options that the modalities of the rows do not allow."""
    names = {name for one in sides for name in one.modalities}
    if amap is not None:
        name_as_map(f"{CALL} --add", amap, sides)
        names = {name for one in sides for name in one.modalities}
        names |= set(amap.modalities)
    there = ", ".join(sorted(names))
    if options.fit_on is not None and options.fit_on not in {*names, "all"}:
        raise ArgumentError(
            f"--fit_on={options.fit_on}",
            f"a modality of the rows ({there}), or all",
            remedy="leave it out, or name the rows by --modality= or --pair=",
        )
    if options.purpose in ("cross", "zero_shot") and len(names) == 1:
        raise ArgumentError(
            f"--purpose={options.purpose}",
            "rows of two modalities",
            f"{there} alone",
            "name folders with rows of both, or leave it out",
        )


def _output(options: FitOptions) -> Path | None:
    """Validate where the map goes."""
    if options.out is None:
        return None
    overwrite = options.overwrite or options.out == options.add
    options_of: dict[str, Any] = {"suffix": ".safetensors", "overwrite": overwrite}
    out = check_new_file(options.out, "--out", **options_of)
    if not options.map_only:
        check_new_file(pairs_path(out), "--out", **options_of)
    return out


def _load(path: str) -> tuple[AlignmentMap, KeptPairs]:
    """Read a map, and what was kept beside it."""
    amap = AlignmentMap.load(path)
    kept = KeptPairs.load(pairs_path(path))
    if (amap.d_source, amap.d_target) != kept.widths:
        raise ArgumentError(
            f"{CALL} --add={path}", "the moments of this map", "those of another"
        )
    return amap, kept


def _from_moments(family: Family | ScorerFamily) -> bool:
    """Whether a family is solved from the moments of all pairs."""
    if isinstance(family, ScorerFamily):
        return True
    return family.needs != "rows" and family.tuned


def _unmet(require: Any, verdict: Verdict) -> str | None:
    """Say what the verdict lacks of what is required."""
    if require is None or verdict.meets(require):
        return None
    return f"--require={require}, the verdict is {verdict.word}; nothing was written"


def fit_models(options: FitOptions, models: str | None, pictures: str | None) -> Fitted:
    """Embed pictures with two models into stores beside the map, and fit on these.

    Raises:
      ValueError: unless both are named, and rows are not; see `embed` and `fit`.
    """
    if not models or not pictures or options.source or options.pairs:
        raise ArgumentError(
            f"{CALL} --models=A,B --pictures=FOLDER",
            "both flags, and no rows",
            remedy="leave SOURCE and TARGET out",
        )
    if len(models.split(",")) != 2:
        raise ArgumentError("--models", "two names", models, "write --models=A,B")
    from jaxalign.workflows.models import check_models

    check_models(models.split(","))
    _check(options)
    out = _output(options)
    assert out is not None
    from jaxalign.workflows.embed import embed_pictures

    stores = embed_pictures(pictures, models, str(out.with_suffix(".rows")))
    folders = {role: str(store.folder) for role, store in stores.items()}
    return fit(dataclasses.replace(options, **folders))


def describe(found: Fitted) -> list[str]:
    """Say in at most 15 lines what came out, the verdict first."""
    lines = []
    lines += wrap(found.verdict.sentence)
    d_source, d_target = found.kept.widths
    for name, of in found.counts.items():
        text = f"{name}: {of.used:,} pairs of {of.read:,}, {d_source} -> {d_target}"
        if of.skipped:
            text += f"; {of.skipped:,} left out (NaN, infinite or zero)"
        if of.unmatched:
            text += f"; {of.unmatched:,} rows without a partner"
        total = int(found.kept.moments[name].rows)
        text += f"; {total:,} in all" if total != of.used else ""
        lines.append(text + ".")
    lines += wrap(found.choice.reason.split("; anchors that")[0])
    if found.files:
        amap, *beside = found.files
        lines.append(use_line(found.verdict.word, amap))
        more = f", and {beside[0]} for `fit --add={amap}`" if beside else ""
        lines.append(f"Written: {amap}{more}.")
    return lines


def use_line(word: Word, path: Path) -> str:
    """Say how a map is to be used, or that it is not.

    >>> use_line("none", Path("map.safetensors"))
    'Do not use it.'
    """
    if word == "none":
        return "Do not use it."
    if word == "too_few":
        return (
            "Warning: too few pairs to tell if it can be used; add some by "
            f"jaxalign fit --add={path} OLD NEW"
        )
    return f"Use: jaxalign apply {path} OLD_ROWS NEW_ROWS [--for=search]"


def facts_of(found: Fitted) -> dict[str, Any]:
    """Give what came out as JSON values."""
    counts = found.counts.values()
    return {
        **verdict_facts(found.verdict),
        "rows_read": sum(one.read for one in counts),
        "rows_used": sum(one.used for one in counts),
        "rows_skipped": sum(one.skipped for one in counts),
        "rows_unmatched": sum(one.unmatched for one in counts),
        "chosen": found.choice.candidate.to_json(),
        "reason": found.choice.reason,
        "files": found.files,
    }
