# SPDX-License-Identifier: Apache-2.0
"""Run a module in two real processes that join one another."""

import subprocess
import sys
from pathlib import Path

from tests.free_port import free_port


def run_in_two_processes(module: str, folder: Path) -> None:
    """Run ``python -m module PORT NUMBER FOLDER`` twice, side by side.

    Args:
      module: joins the other by the port, and writes to the folder.
      folder: for what the two find.
    """
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, port, str(number), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors[-2000:]
