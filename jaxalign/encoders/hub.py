# SPDX-License-Identifier: Apache-2.0
"""Resolving a model's name: a shipped pair, a folder, or the Hugging Face hub."""

import os
import re
import urllib.parse
from importlib import resources
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from jaxalign.encoders.checkpoint import CONFIG_FILE
from jaxalign.encoders.open_clip import OPEN_CLIP_WEIGHTS, has_known_config
from jaxalign.encoders.open_clip_config import OPEN_CLIP_CONFIG
from jaxalign.encoders.preprocessing import IMAGE_FILE, PROCESSOR_FILE
from jaxalign.encoders.tokenizer_files import TOKENIZER_FILES, TOKENIZER_SETTINGS
from jaxalign.encoders.weights_file import WEIGHTS_FILE
from jaxalign.errors import ArgumentError

SHIPPED = ("jaxalign/openmoji-clip", "jaxalign/openmoji-siglip")
"""The pairs that come with the package."""

# Configs, preprocessing and tokenizers; small, and they say which weights to fetch.
_SETTINGS = ["*.json", "*.txt", "*.model"]

# Of these, the files that are read, where the repository has them.
_READ = [
    CONFIG_FILE,
    OPEN_CLIP_CONFIG,
    IMAGE_FILE,
    PROCESSOR_FILE,
    TOKENIZER_SETTINGS,
    "special_tokens_map.json",
    *(f"{name}.index.json" for name in (WEIGHTS_FILE, OPEN_CLIP_WEIGHTS)),
]
_WHOLE_TOKENIZER, *_PIECES = (*TOKENIZER_FILES, "merges.txt", "added_tokens.json")

_HOSTS = r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/"
_ADDRESS = re.compile(
    rf"(?:hf-hub:|hf://|{_HOSTS})(?:models/)?(?!datasets/|spaces/|docs/|papers/)"
    r"(?P<name>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<at>[^/@?#]+)|/(?:tree|blob|resolve)/(?P<revision>[^/?#]+))?"
)


def find_folder(name: str, revision: str | None = None) -> Path:
    """Return the folder of a model, fetched from the hub if it lies there.

    Args:
      name: a shipped pair, a folder, or a repository of the hub, `owner/name`. A folder
        of that name wins.
      revision: branch, tag or commit of the repository; None takes its newest state,
        which may change from one day to the next. A commit pins the model.

    Returns:
      The folder; for the hub, the snapshot of a commit in the user's hub cache, which
      serves later calls without a network.

    Raises:
      ValueError: if there is no such model, or if it cannot be fetched.
    """
    folder = Path(os.path.expanduser(name))
    if name in SHIPPED or (name and folder.is_dir()):
        if revision is not None:
            raise ArgumentError(
                f"load_encoders(revision={revision!r})",
                "a repository of the hub",
                f"{name!r}, which lies on this machine",
                "leave revision out",
            )
        if name in SHIPPED:
            short = name.removeprefix("jaxalign/")
            return Path(str(resources.files("jaxalign.encoders") / "weights" / short))
        return folder
    _check_is_no_address(name)
    if not _is_repository(name):
        raise ArgumentError(
            f"load_encoders(name={name!r})",
            f"a shipped pair ({', '.join(SHIPPED)}), an existing checkpoint folder, "
            "or a repository of the hub such as 'google/siglip-base-patch16-224'",
        )
    return _fetch(name, revision)


def _check_is_no_address(name: str) -> None:
    """Raise for an address of the hub, saying which name and revision it means."""
    meant = _ADDRESS.match(name)
    if meant is None:
        return
    repository = meant["name"].removesuffix(".git")
    revision = urllib.parse.unquote(meant["at"] or meant["revision"] or "main")
    remedy = f"pass {repository!r}"
    if revision != "main":
        remedy += f" and revision={revision!r}; in a command, {repository}@{revision}"
    raise ArgumentError(
        f"load_encoders(name={name!r})",
        "a repository of the hub by its name, owner/name",
        "its address",
        remedy,
    )


def _is_repository(name: str) -> bool:
    """Tell whether a name has the form `owner/name`."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    # Names of the package's own that it does not ship are mistyped.
    return name.count("/") == 1 and not name.startswith("jaxalign/")


def _fetch(name: str, revision: str | None) -> Path:
    """Fetch settings, then the one kind of weights that they call for."""
    call = f"load_encoders(name={name!r}, revision={revision!r})"
    try:
        folder = _download(name, revision, _SETTINGS)
        kinds = [WEIGHTS_FILE] if has_known_config(folder) else []
        if (folder / OPEN_CLIP_CONFIG).is_file():
            kinds.append(OPEN_CLIP_WEIGHTS)
        for kind in kinds or [WEIGHTS_FILE]:
            # One file, or several that an index names.
            shards = (folder / f"{kind}.index.json").is_file()
            pattern = kind.replace(".", "-*-of-*.", 1) if shards else kind
            # The commit that the settings came from, even if a branch moves meanwhile.
            _download(name, folder.name, [pattern])
            if list(folder.glob(pattern)):
                break
    except RevisionNotFoundError as error:
        remedy = "leave revision out, or look it up on the hub"
        raise ArgumentError(
            call, "a branch, tag or commit of the repository", remedy=remedy
        ) from error
    except RepositoryNotFoundError as error:
        remedy = "check the name, or log in with `hf auth login`"
        raise ArgumentError(
            call, "a model of the hub", "none, or a private one", remedy
        ) from error
    except Exception as error:  # whatever the network's libraries raise
        raise ArgumentError(
            call,
            "a model in the hub's cache on this machine, or one that can be fetched",
            _first_line(error),
            "go online once, or download it elsewhere and pass its folder",
        ) from error
    if not list(folder.glob("*.safetensors")):
        raise ArgumentError(
            call,
            "a repository with safetensors weights: pickled ones could run code",
            "none",
            "take another revision or repository of the model, or convert it once: "
            "load it with transformers on torch, `model.save_pretrained(folder)`, and "
            "pass the folder",
        )
    return folder


def _download(name: str, revision: str | None, patterns: list[str]) -> Path:
    """Fetch files; without a network, take what lies in the cache, by whichever tool.

    Then only the files that are read must be there, as far as the cache knows which
    the repository has.
    """
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (RevisionNotFoundError, RepositoryNotFoundError):
        raise
    except Exception as error:
        try:
            needed = _needed(name, revision) if patterns == _SETTINGS else patterns
            found = snapshot_download(
                name, revision=revision, allow_patterns=needed, local_files_only=True
            )
        except Exception as lack:
            # Of a snapshot that is not whole, the files that it lacks.
            raise lack if hasattr(lack, "snapshot_path") else error from None
        return Path(found)


def _needed(name: str, revision: str | None) -> list[str]:
    """List the settings that are read: a whole tokenizer needs no other files of it."""
    whole = try_to_load_from_cache(name, _WHOLE_TOKENIZER, revision=revision)
    tokenizer = [_WHOLE_TOKENIZER] if isinstance(whole, str) else _PIECES
    return [*_READ, *tokenizer]


def _first_line(error: Exception) -> str:
    """Name an error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
