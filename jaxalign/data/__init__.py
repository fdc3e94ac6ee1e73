"""Paired image-text examples: data sets, prompts and the input pipeline."""
