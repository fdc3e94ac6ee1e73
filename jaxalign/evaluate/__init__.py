"""Metrics and the protocol of the paper."""
