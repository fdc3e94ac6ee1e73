# SPDX-License-Identifier: Apache-2.0
"""Nothing is printed by importing, nor by loading and embedding."""

import logging
import subprocess
import sys
import threading

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


@pytest.mark.slow
def test_importing_loading_and_embedding_print_nothing(folders, hub_folders):
    read = [*folders.values(), hub_folders["siglip2"]]
    command = [sys.executable, "-c", SCRIPT, *map(str, read)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Messages(logging.Handler):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def emit(self, record):
        self.kept.append(record.getMessage())


@pytest.fixture
def messages():
    """What reaches handlers of `transformers` and of a logger of the user's."""
    handler = Messages()
    loggers = [logging.getLogger(name) for name in ("transformers", "user")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler.kept
    for logger in loggers:
        logger.removeHandler(handler)


def _warn(where):
    for name in ("transformers", "transformers.models.clip", "user"):
        logging.getLogger(name).warning("%s %s", where, name)


def test_only_warnings_of_transformers_in_this_thread_are_held_back(messages):
    library = logging.getLogger("transformers")
    before = library.level, library.propagate, logging.root.manager.disable

    def inside():
        with quiet_transformers(), quiet_transformers():
            _warn("inside")
            library.error("error")
            other = threading.Thread(target=_warn, args=["thread"])
            other.start()
            other.join()
            raise KeyError

    with pytest.raises(KeyError):
        inside()
    assert (library.level, library.propagate, logging.root.manager.disable) == before
    _warn("after")
    everything = ["transformers", "transformers.models.clip", "user"]
    assert messages == [
        "inside user",
        "error",
        *[f"thread {name}" for name in everything],
        *[f"after {name}" for name in everything],
    ]
