# SPDX-License-Identifier: Apache-2.0
"""Drawing many renderings at once, in worker processes.

Resvg holds Python's lock while it draws, so threads gain nothing. The workers are plain
subprocesses of this module: nothing of the caller is forked, nor is its main module
imported again, as a process pool would do.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from typing import BinaryIO, cast

from jaxalign.data.renderings import Rendering, Style, draw_png, read_svg, svg_folder


def draw_all(
    jobs: Sequence[tuple[str, Rendering]], *, processes: int
) -> Generator[tuple[bytes, Style], None, None]:
    """Draw many pictures in worker processes; yield (PNG, style) in the jobs' order.

    A worker whose reader has died or lost interest ends at its next write.

    Args:
      jobs: (emoji stem, rendering) pairs.
      processes: how many workers.

    Raises:
      RuntimeError: if a worker dies before its last picture.
    """
    svg_folder()  # a missing wheel is reported here, not from a worker
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with contextlib.ExitStack() as stack:
        outputs: list[BinaryIO] = []
        for first in range(processes):
            worker = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "jaxalign.data.render_workers"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=environment,
                )
            )
            stack.callback(worker.kill)
            share = [
                (stem, dataclasses.asdict(rendering))
                for stem, rendering in jobs[first::processes]
            ]
            # A worker reads its whole share before it writes: no deadlock on the pipes.
            with cast(BinaryIO, worker.stdin) as jobs_stream:
                jobs_stream.write(json.dumps(share).encode())
            outputs.append(cast(BinaryIO, worker.stdout))
        for number in range(len(jobs)):
            yield _read_picture(outputs[number % processes])


def _read_picture(stream: BinaryIO) -> tuple[bytes, Style]:
    header = stream.readline()
    if not header:
        raise RuntimeError(
            "A process that drew OpenMoji pictures ended early; its message is above. "
            "Preparing can simply be started again."
        )
    length, style = header.split()
    return stream.read(int(length)), cast(Style, style.decode())


def _work(jobs_stream: BinaryIO, pictures_stream: BinaryIO) -> None:
    """Draw the JSON list of jobs: per picture a line "length style", then its PNG."""
    markup: dict[str, str] = {}
    for stem, fields in json.load(jobs_stream):
        fields["shift"] = tuple(fields["shift"])
        if stem not in markup:
            markup = {stem: read_svg(stem)}  # jobs come emoji by emoji
        png, style = draw_png(markup[stem], Rendering(**fields))
        pictures_stream.write(f"{len(png)} {style}\n".encode() + png)
    pictures_stream.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the reader answers Ctrl-C
    try:
        _work(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:  # the reader has gone; leave without another flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
