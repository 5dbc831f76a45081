"""Measurements, not tests. Run one with ``python -m benchmarks.NAME``."""
