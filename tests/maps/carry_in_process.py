# SPDX-License-Identifier: Apache-2.0
"""Carry rows, and kill this process at one of the moments that matter.

    python -m tests.maps.carry_in_process MAP SOURCE MOMENT OUT...

A moment is a call that changes the disk: a write, of which half is done, a sync or a
new name. Without a kill their number is printed.
"""

import os
import shutil
import signal
import sys

import jaxalign as ja
from jaxalign.rows import flat_writer

_seen = 0


def at_moment(function, last, before=lambda *arguments: None):
    """Count the calls of a function; die at the last, after part of it is done."""

    def counted(*arguments, **options):
        global _seen
        _seen += 1
        if _seen == last:
            before(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return counted


def main(map_path, source, moment, *outs):
    last = int(moment)
    flat_writer._SYNC_BYTES = 20_000
    write_all = flat_writer._write_all
    flat_writer._write_all = at_moment(
        write_all, last, lambda file, data: write_all(file, data[: len(data) // 2])
    )
    for module, name in ((os, "fsync"), (os, "replace"), (shutil, "rmtree")):
        setattr(module, name, at_moment(getattr(module, name), last))
    amap = ja.AlignmentMap.load(map_path)
    for out in outs:
        ja.maps.carry(amap, source, out, batch_size=1024)
    sys.stdout.write(str(_seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
