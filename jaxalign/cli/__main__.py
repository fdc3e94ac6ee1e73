# SPDX-License-Identifier: Apache-2.0
"""`python -m jaxalign.cli`, where the console script is not on the path."""

import sys

from jaxalign.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
