# SPDX-License-Identifier: Apache-2.0
"""Sentences that summarise a table, made from its numbers alone."""

from jaxalign.evaluate.rows import MEAN_ONLY, NO_MAP
from jaxalign.report.summary import Cell, Cells, format_value

_TEXTS = "text_to_text_at_1"
_CROSSING = "source_image_to_target_text_at_1"
_BEFORE = {MEAN_ONLY: "means alone", NO_MAP: "no map"}
RIVALS = ("ridge", "least squares", "MLP")


def describe_finding(
    cells: Cells, headline: str, *, fit_on: str | None = None
) -> list[str]:
    """Say in plain sentences what a table shows for one method.

    The first sentence is a verdict on text -> text @1. "Found": the headline's interval
    lies above those of "none" and "mean only", and its pictures find at least half as
    many of their texts in the target model as the target model's own do. "Found in
    part": the first alone. "Not found": neither.

    Args:
      cells: one table, as `summary.collect` gives it.
      headline: the method that the table is about.
      fit_on: modality whose rows the map was fitted on.

    Returns:
      Sentences; [] if the table lacks the method or its numbers.
    """
    ours = cells.get(headline, {})
    texts = ours.get(_TEXTS)
    if texts is None or texts.value is None:
        return []
    sentences = [_verdict(cells, headline, fit_on)]
    sentences.append(
        f'With "{headline}", {format_value(_TEXTS, texts.value)} % of texts'
        f"{_spread(texts)} retrieve their own counterpart in the target model"
        f"{_brackets(_others(cells, _TEXTS, _BEFORE, ' %'))}."
    )
    pairs = ours.get("caption_cosine")
    if pairs is not None and pairs.value is not None:
        before = _brackets(_others(cells, "caption_cosine", _BEFORE))
        cosine = format_value("caption_cosine", pairs.value)
        sentences.append(f"Text pairs reach cosine {cosine}{before}.")
    sentences.append(_crossing(ours))
    rivals = {name: name for name in RIVALS if name != headline}
    others = _others(cells, _TEXTS, rivals, " %")
    if others:
        sentences.append(f"Texts by other maps of the same rows: {others}.")
    return [sentence for sentence in sentences if sentence]


def _verdict(cells: Cells, headline: str, fit_on: str | None) -> str:
    """Found, found in part, or not found; "" without a baseline."""
    texts = cells[headline][_TEXTS]
    bars = []
    for name in _BEFORE:
        cell = cells.get(name, {}).get(_TEXTS)
        if cell is not None and cell.value is not None:
            bars.append(cell.interval[1] if cell.interval else cell.value)
    if not bars or texts.interval is None:
        return ""
    fitted = f" fitted on {fit_on}s alone" if fit_on in ("image", "text") else ""
    if texts.interval[0] <= max(bars):
        return (
            f"Not found: with one map{fitted}, texts do not clearly cross better than "
            "without."
        )
    share = cells[headline].get("share_of_native_at_1")
    if share is not None and share.value is not None and share.value < 0.5:
        return (
            f"Found in part: one map{fitted} carries texts better than none, but "
            "pictures find under half of what the target model's own find."
        )
    return f"Found: one map{fitted} carries texts as well."


def _crossing(ours: dict[str, Cell]) -> str:
    """Set source image -> target text beside what the target model does itself."""
    share, crossing = ours.get("share_of_native_at_1"), ours.get(_CROSSING)
    if share is None or share.value is None or crossing is None:
        return ""
    return (
        "Pictures of the source model find their own text in the target model in "
        f"{format_value(_CROSSING, crossing.value)} % of cases, "
        f"{100 * share.value:.0f} % of what the target model's own pictures find"
        f"{_spread(share, digits=0)}."
    )


def _others(cells: Cells, metric: str, words: dict[str, str], unit: str = "") -> str:
    """List what other methods reach, those that have a number."""
    found = []
    for name, word in words.items():
        cell = cells.get(name, {}).get(metric)
        if cell is not None and cell.value is not None:
            found.append(f"{word} {format_value(metric, cell.value)}{unit}")
    return ", ".join(found)


def _brackets(text: str) -> str:
    """Put text in brackets, if there is any."""
    return f" ({text})" if text else ""


def _spread(cell: Cell, digits: int = 1) -> str:
    """Write a share's interval and standard deviation in brackets."""
    parts = []
    if cell.interval is not None:
        low, high = (f"{100 * bound:.{digits}f}" for bound in cell.interval)
        parts.append(f"95 % interval {low} to {high} %")
    if cell.std is not None:
        parts.append(f"standard deviation over seeds {100 * cell.std:.1f} points")
    return _brackets("; ".join(parts))
