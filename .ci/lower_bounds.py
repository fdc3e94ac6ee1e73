# SPDX-License-Identifier: Apache-2.0
"""Print the lowest versions that setup.cfg allows, as constraints for pip."""

import configparser
import re
from pathlib import Path

config = configparser.ConfigParser()
config.read(Path(__file__).parents[1] / "setup.cfg")
extras = config["options.extras_require"]
lines = config["options"]["install_requires"] + extras["demo"] + extras["test"]
for line in lines.split("\n"):
    bound = re.match(r"([A-Za-z0-9_-]+)>=([0-9.]+)", line)
    if bound:
        print(f"{bound[1]}=={bound[2]}")
