"""Image and text encoders in Flax NNX, and their checkpoints."""

from jaxalign.encoders.quiet import quiet_transformers

with quiet_transformers():
    import transformers as transformers
