"""Image and text encoders in Flax NNX, and their checkpoints."""
