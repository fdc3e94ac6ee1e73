"""Image and text encoders in Flax NNX, and their checkpoints."""

from jaxalign.encoders.quiet import quiet_transformers

with quiet_transformers():
    # This submodule imports transformers a second time, notice included.
    import transformers.processing_utils as _processing_utils  # noqa: F401
