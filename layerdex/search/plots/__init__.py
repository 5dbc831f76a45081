"""Pictures of results, from plain figures: start with `figures.py`, then `layer_curves.py`."""
