# SPDX-License-Identifier: Apache-2.0
"""The normal form of a tokenizer: what decides ids, however its files are written.

One tokenizer is stored in many ways: `tokenizer.json`, indented or not, with or without
the padding of its last use; `vocab.json` and `merges.txt`; a SentencePiece model. The
form is that of the tokenizer after loading. Equal forms give equal ids, and what cannot
change an id (offsets, decoding, names, padding and cutting, which each call sets anew)
is left out.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_NO_ENDS = ([], [])


def tokenizer_form(tokenizer: Any) -> dict[str, Any] | None:
    """Return the normal form of a tokenizer of `transformers`.

    Args:
      tokenizer: as `AutoTokenizer` loads it.

    Returns:
      JSON values whose keys have no order; None for kinds that have no form here.
    """
    if tokenizer.is_fast:
        form = backend_form(json.loads(tokenizer.backend_tokenizer.to_str()))
    elif hasattr(tokenizer, "sp_model"):
        form = _sentencepiece_form(tokenizer)
    else:
        return None
    # Then special tokens in a text are words like others.
    if tokenizer.split_special_tokens:
        added = tokenizer.added_tokens_decoder.items()
        form["split"] = sorted(number for number, token in added if token.special)
    return form


def backend_form(backend: Mapping[str, Any]) -> dict[str, Any]:
    """Return the normal form of `tokenizers`' JSON.

    Args:
      backend: what `tokenizers.Tokenizer.to_str` writes.
    """
    added = sorted(backend["added_tokens"], key=lambda token: token["id"])
    return {
        "added_tokens": [_set(token, but="special") for token in added],
        # An empty prefix or suffix of pieces is none.
        "model": _set({k: v for k, v in backend["model"].items() if v != ""}),
        "normalizer": _flat(backend["normalizer"], "normalizers"),
        "pre_tokenizer": [
            _set(step, but="trim_offsets" if step["type"] == "ByteLevel" else "")
            for step in _flat(backend["pre_tokenizer"], "pretokenizers")
        ],
        "ends": _ends(backend["post_processor"]),
    }


def _set(options: Mapping[str, Any], *, but: str = "") -> dict[str, Any]:
    """Return the options that are set: later versions add some that are off."""
    return {
        name: value
        for name, value in options.items()
        if value is not None and value is not False and name != but
    }


def _flat(step: Mapping[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """Return the steps of a pipeline without nested sequences."""
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [_set(step)]
    return [flat for one in step[inner] for flat in _flat(one, inner)]


def _ends(step: Mapping[str, Any] | None) -> Any:
    """Return the ids before and after a text; of steps not known here, the step."""
    if step is None or step["type"] == "ByteLevel":  # which changes offsets alone
        return _NO_ENDS
    if step["type"] in ("BertProcessing", "RobertaProcessing"):
        return [step["cls"][1]], [step["sep"][1]]
    if step["type"] == "TemplateProcessing":
        ids = [
            None
            if "Sequence" in piece
            else step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
            for piece in step["single"]
        ]
        if ids.count(None) == 1:
            text = ids.index(None)
            return _joined(ids[:text]), _joined(ids[text + 1 :])
    if step["type"] == "Sequence":
        before, after = _NO_ENDS
        for ends in map(_ends, step["processors"]):
            if not isinstance(ends, tuple):
                return step
            before, after = ends[0] + before, after + ends[1]
        return before, after
    return step


def _joined(ids: Sequence[Any]) -> list[int]:
    return [one for several in ids for one in several]


def _sentencepiece_form(tokenizer: Any) -> dict[str, Any]:
    """Return the form of a tokenizer that runs SentencePiece itself, as SigLIP's does.

    A `tokenizers` pipeline made from it cuts some texts differently (spaces at the end,
    special tokens in the text), so the two share no form.
    """
    model = hashlib.sha256(tokenizer.sp_model.serialized_model_proto())
    special = {name: str(one) for name, one in tokenizer.special_tokens_map.items()}
    return {
        "class": type(tokenizer).__name__,
        "model": {"type": "SentencePiece", "sha256": model.hexdigest()},
        "added_tokens": [
            [number, _set(token.__getstate__())]
            for number, token in sorted(tokenizer.added_tokens_decoder.items())
        ],
        "special_tokens": special,
        "options": {
            "lower_case": bool(getattr(tokenizer, "do_lower_case", False)),
            "legacy": bool(getattr(tokenizer, "legacy", True)),
            "sampling": dict(tokenizer.sp_model_kwargs),
        },
    }
