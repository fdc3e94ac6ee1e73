"""Encoders x batches -> streams of embedding batches, rows and ids together."""
