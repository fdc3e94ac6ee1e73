# SPDX-License-Identifier: Apache-2.0
"""The core works without any extra, and what needs one says which."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxalign import extras
from jaxalign.errors import MissingModuleError, UserError

SETUP = Path(__file__).parents[1] / "setup.cfg"
# Modules that are not called as their distribution is.
MODULES = {"absl-py": "absl", "Pillow": "PIL"}

# Loads every public name where no package of an extra can be imported.
WITHOUT_EXTRAS = """
import importlib.abc, json, sys
from jaxalign.extras import EXTRAS
hidden = {module for modules in EXTRAS.values() for module in modules} - {"absl"}

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
import jaxalign as ja
packages, errors = [ja], {}
for package in packages:
    for name in package.__all__:
        try:
            value = getattr(package, name)
        except ja.UserError as error:
            errors[f"{package.__name__}.{name}"] = str(error)
        else:
            if package is ja and hasattr(value, "__all__"):
                packages.append(value)
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def errors():
    """What each public name says that cannot be loaded without extras."""
    code = [sys.executable, "-c", WITHOUT_EXTRAS]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_core_needs_no_extra(errors):
    homes = {name.split(".")[1] for name in errors if name.count(".") == 2}
    assert homes == {"anchors", *extras._NEEDS} - {"workflows"}
    of_anchors = {name for name in errors if name.startswith("jaxalign.anchors.")}
    assert {name.split(".")[-1] for name in of_anchors} <= {
        "match_stores",
        "store_pairs",
    }


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("load_encoders", "encoders"),
        ("load_dataset", "data"),
        ("embed", "encoders,data"),
        ("embed_into_stores", "encoders,data"),
        ("write_report", "report"),
        ("store.StoreWriter", "rows"),
    ],
)
def test_a_name_says_which_extra_it_needs(errors, name, extra):
    text = errors[f"jaxalign.{name}"]
    assert text.startswith(f"`ja.{name}`")
    assert f"pip install 'jaxalign[{extra}]'" in text


def test_every_package_of_an_extra_is_in_the_table():
    config = configparser.ConfigParser()
    config.read(SETUP)
    for extra, modules in extras.EXTRAS.items():
        text = config["options.extras_require"][extra]
        found = re.findall(r"^([A-Za-z][\w-]*)(?=[<>=]|$)", text, re.MULTILINE)
        named = {MODULES.get(name, name.replace("-", "_")) for name in found}
        assert named - {"importlib_resources"} == set(modules), extra


def test_an_error_of_no_extra_stays_what_it_is():
    with pytest.raises(ModuleNotFoundError) as caught, extras.explain_missing("f"):
        raise ModuleNotFoundError("No module named 'mine'", name="mine")
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("extra", [None, "demo"])
def test_a_submodule_is_of_its_packages_extra(extra):
    with (
        pytest.raises(MissingModuleError, match=rf"jaxalign\[{extra or 'report'}\]"),
        extras.explain_missing("f", extra=extra),
    ):
        raise ModuleNotFoundError(name="matplotlib.figure")
