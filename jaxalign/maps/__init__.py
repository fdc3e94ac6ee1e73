"""The alignment map: how it is fitted, applied, composed and stored."""
