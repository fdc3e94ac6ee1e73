# SPDX-License-Identifier: Apache-2.0
"""Print the path of the newest Python that this machine has; users get its packages."""

import os
import re
import subprocess
from pathlib import Path

_PROBE = "import sys, ensurepip; print(sys.version_info[0], sys.version_info[1])"

folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
folders += sorted(Path(os.environ.get("PYENV_ROOT", "/nowhere")).glob("versions/*/bin"))
found = {}
for folder in filter(Path.is_dir, folders):
    for program in folder.iterdir():
        if not re.fullmatch(r"python3\.\d+", program.name):
            continue
        # A name may stand for a version that is not installed.
        told = subprocess.run([program, "-c", _PROBE], capture_output=True, text=True)
        if told.returncode == 0:
            found.setdefault(tuple(map(int, told.stdout.split())), program)
print(found[max(found)])
