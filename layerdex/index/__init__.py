"""The facade: what the command line and Python users see."""

from layerdex.index.facade import Index

__all__ = ["Index"]
