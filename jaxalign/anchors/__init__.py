"""Paired rows as a stream: from arrays, from stores, or straight from two models."""
