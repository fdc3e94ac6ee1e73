# SPDX-License-Identifier: Apache-2.0
"""Print the lowest versions that setup.cfg allows, as constraints for pip."""

import configparser
import re
from pathlib import Path

# Not of the tests: exact versions, and what only prepares data sets.
LEFT_OUT = {"lint", "parity", "tfds"}

config = configparser.ConfigParser()
config.read(Path(__file__).parents[1] / "setup.cfg")
extras = dict(config["options.extras_require"])
texts = [config["options"]["install_requires"]]
texts += [text for name, text in extras.items() if name not in LEFT_OUT]
bounds = re.findall(r"^([A-Za-z0-9_-]+)>=([0-9.]+)", "\n".join(texts), re.MULTILINE)
for name, version in sorted(set(bounds)):
    print(f"{name}=={version}")
