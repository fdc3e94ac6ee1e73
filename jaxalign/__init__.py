# SPDX-License-Identifier: Apache-2.0
"""jaxalign: one orthogonal map from one image-text model's space to another's.

Public names are loaded on first use, so that a numerical programmer who imports a
solver loads neither transformers nor an image library. They are written once, in
`__init__.pyi` of each package.
"""

from jaxalign._version import __version__ as __version__
from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
