"""Measurements; nothing here is a test. Run as ``python -m benchmarks.NAME``."""
