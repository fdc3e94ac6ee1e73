# SPDX-License-Identifier: Apache-2.0
"""Reads batches from two workers, slowly; tells when the first is there."""

import signal
import sys
import time

import numpy as np

from jaxalign.data.ordered import ordered_batches


class Numbers:
    """Many examples."""

    def __len__(self):
        return 100_000

    def __getitem__(self, index):
        # Large enough for shared memory.
        return {"id": str(index), "value": np.full(20_000, index)}


def main() -> None:
    """Read for a while."""
    # A shell's background job has Ctrl-C ignored, and so has what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for batch in ordered_batches(Numbers(), batch_size=2, num_workers=2):
        sys.stdout.write(f"{batch['index'][0]}\n")
        sys.stdout.flush()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
