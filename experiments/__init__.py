"""Launches: one question each. Run as `python -m experiments.<name> --help`."""
