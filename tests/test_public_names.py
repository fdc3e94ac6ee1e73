# SPDX-License-Identifier: Apache-2.0
"""Public names: each loads, is documented and used, and none is heavy."""

import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxalign as ja

ROOT = Path(ja.__file__).parent
NAMESPACES = sorted(path.parent.name for path in ROOT.glob("*/__init__.pyi"))


def names_of(package: Path) -> dict[str, str]:
    """Public names of a package and the modules they come from."""
    lines = (package / "__init__.pyi").read_text().splitlines()
    found = {}
    for line in lines:
        module, name, again = re.fullmatch(
            r"from (\S+) import (\w+) as (\w+)", line
        ).groups()
        assert name == again
        assert name not in found
        found[name] = module
    return found


ALL = {
    f"{package.name}.{name}" if package != ROOT else name: package
    for package in (ROOT, *(ROOT / name for name in NAMESPACES))
    for name in names_of(package)
}


def test_a_person_can_know_the_top():
    # About 40 names beside the namespaces.
    modules = {name for name, home in names_of(ROOT).items() if home == "."}
    assert {*NAMESPACES, "stiefel", "sharding", "errors"} <= modules
    assert len(names_of(ROOT)) - len(modules) <= 42


@pytest.mark.parametrize("path", sorted(ALL))
def test_name_loads_and_is_documented(path):
    *places, name = path.split(".")
    package = ja if not places else getattr(ja, places[0])
    value = getattr(package, name)
    # A module of the same name would hide the function once it is imported.
    is_module = isinstance(value, types.ModuleType)
    assert is_module == (names_of(ALL[path])[name] == ".")
    assert name in dir(package)
    if callable(value) or is_module:
        assert inspect.getdoc(value)


def test_no_name_is_unused():
    """Each is in the README, an experiment or a test, or is what a call returns."""
    folders = (ROOT.parent / "experiments", ROOT.parent / "tests")
    texts = [(ROOT.parent / "README.md").read_text()]
    texts += [path.read_text() for of in folders for path in of.rglob("*.py")]
    sources = [path.read_text() for path in ROOT.rglob("*.py")]
    texts += re.findall(r"\) -> [^:]*:", " ".join(sources))
    used = set(re.findall(r"\w+", " ".join(texts)))
    assert not {path for path in ALL if path.split(".")[-1] not in used}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        ja.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", ["solve.solve_procrustes", "fit_map", "choose_map"])
def test_a_solver_loads_no_image_or_text_library(name):
    code = (
        f"import sys, jaxalign as ja; ja.{name}; "
        "heavy = {'transformers', 'PIL', 'tokenizers', 'grain', 'tensorflow', 'torch', "
        "'tensorflow_datasets', 'matplotlib', 'flax', 'orbax', 'pyarrow'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
