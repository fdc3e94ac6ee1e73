"""Closed forms and baselines: from moments to a map's matrix."""
