# SPDX-License-Identifier: Apache-2.0
"""Nothing is printed by importing, nor by loading and embedding."""

import logging
import subprocess
import sys

import pytest

from jaxalign.encoders.quiet import quiet_transformers

SCRIPT = """
import sys
import numpy as np
from jaxalign.encoders.pretrained import load_encoders
for folder in sys.argv[1:]:
    encoders = load_encoders(folder)
    encoders.space
    encoders.embed_texts(["a red apple"])
    encoders.embed_images([np.zeros((9, 9, 3), np.uint8)])
"""


def test_importing_loading_and_embedding_print_nothing(folders, hub_folders):
    read = [*folders.values(), hub_folders["siglip2"]]
    command = [sys.executable, "-c", SCRIPT, *map(str, read)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_errors_still_show_and_the_old_level_comes_back(caplog):
    before = logging.root.manager.disable

    def inside():
        with quiet_transformers():
            logging.getLogger("jaxalign.test").warning("hidden")
            logging.getLogger("jaxalign.test").error("shown")
            raise KeyError

    with pytest.raises(KeyError):
        inside()
    assert logging.root.manager.disable == before
    assert [record.message for record in caplog.records] == ["shown"]
