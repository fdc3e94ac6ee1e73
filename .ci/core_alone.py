# SPDX-License-Identifier: Apache-2.0
"""What a wheel without extras must do, run in an empty folder and environment.

All of the core works, what needs an extra says which, and nothing large came along.
"""

import contextlib
import importlib.metadata
import importlib.util
import io
import re
from pathlib import Path

import numpy as np

import jaxalign as ja
from jaxalign.cli.main import main
from jaxalign.errors import MissingModuleError
from jaxalign.extras import EXTRAS

# JAX and what it requires take 600 MB, which no choice of ours can change.
MOST_MEGABYTES_BESIDE_JAX = 40
CORE = set(
    "anchors choose evaluate families maps metrics moments rows search solve stiefel"
    " trust"
    " sharding errors".split()
)
BROUGHT_BY_CORE = {"absl"}  # optax requires it


def check_names() -> None:
    """Load every public name; what fails must name an extra."""
    modules = {module for modules in EXTRAS.values() for module in modules}
    found = {name for name in modules if importlib.util.find_spec(name) is not None}
    assert found <= BROUGHT_BY_CORE, found
    missing, packages = {}, [ja]
    for package in packages:
        for name in package.__all__:
            try:
                value = getattr(package, name)
            except MissingModuleError as error:
                missing[f"{package.__name__}.{name}"] = str(error)
            else:
                if package is ja and hasattr(value, "__all__"):
                    packages.append(value)
    assert all("pip install 'jaxalign[" in text for text in missing.values()), missing
    of_core = {name for name in missing if name.split(".")[1] in CORE}
    assert of_core <= {"jaxalign.anchors.match_stores", "jaxalign.anchors.store_pairs"}
    for name in ("load_encoders", "load_dataset", "embed", "write_report"):
        assert f"jaxalign.{name}" in missing, name
    print(f"names that need an extra: {len(missing)}")


def check_use() -> None:
    """Fit, choose, save, load, search, carry and optimise on `.npy` files."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((12, 8)))[0]
    source = rng.standard_normal((300, 8)).astype(np.float32)
    np.save("source.npy", source)
    np.save("target.npy", (source @ rotation.T).astype(np.float32))
    source, target = (
        np.load(f"{side}.npy", mmap_mode="r") for side in ("source", "target")
    )
    amap = ja.fit_map((source, target))
    amap.save("map.safetensors")
    amap = ja.AlignmentMap.load("map.safetensors")
    np.testing.assert_allclose(amap(source), target, atol=1e-4)
    choice = ja.choose_map((source, target), purpose="search")
    index = ja.search.prepare(choice, np.asarray(target), "rows", rows_are="target")
    assert index.search(np.asarray(source), 1)[1][:, 0].tolist() == list(range(300))
    ja.carry_rows(amap, source, "carried.npy", normalize=False)
    np.testing.assert_allclose(np.load("carried.npy"), target, atol=1e-4)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert (
            main(["fit", "source.npy", "target.npy", "--out=fitted.safetensors"]) == 0
        )
        assert main(["apply", "fitted.safetensors", "source.npy", "applied.npy"]) == 0
    assert said.getvalue().startswith("USABLE")
    assert ja.rows.open_rows("applied.npy").rows["rows"].shape == (300, 12)
    moments = ja.accumulate_moments([(np.asarray(source), np.asarray(target))])
    objective = ja.stiefel.procrustes_objective(moments)
    fitted = ja.stiefel.fit(objective, "closed_form", ja.stiefel.riemannian_sgd(0.1))
    fitted.check()
    print(choice.reason)


def sizes() -> dict[str, float]:
    """Return the megabytes of each distribution, pip and setuptools excepted."""
    found = {
        dist.metadata["Name"]: sum(
            Path(str(dist.locate_file(file))).stat().st_size
            for file in dist.files or ()
            if Path(str(dist.locate_file(file))).is_file()
        )
        for dist in importlib.metadata.distributions()
    }
    return {
        name: size / 1e6
        for name, size in found.items()
        if name not in ("pip", "setuptools")
    }


def required_by(name: str) -> set[str]:
    """Return a distribution and all that it requires without extras."""
    names = {name}
    for line in importlib.metadata.requires(name) or ():
        requirement, _, marker = line.partition(";")
        if "extra" not in marker:
            match = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert match
            names |= required_by(match[0])
    return {name.lower().replace("_", "-") for name in names}


def check_size() -> None:
    """Print a table of what is installed; compare what JAX does not require."""
    jax, beside = required_by("jax"), 0.0
    for name, size in sorted(sizes().items(), key=lambda item: -item[1]):
        of_jax = name.lower().replace("_", "-") in jax
        beside += 0.0 if of_jax else size
        print(f"{size:8.1f} MB  {name}{'  (JAX)' if of_jax else ''}")
    total = sum(sizes().values())
    print(f"{total:8.1f} MB  in all, of which {beside:.1f} MB beside JAX")
    assert beside <= MOST_MEGABYTES_BESIDE_JAX, beside


check_names()
check_use()
check_size()
