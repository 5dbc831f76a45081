"""The torch engine: any model on a CPU or on several GPUs, with or without padding.

Imports `engines` (protocol, devices) and `models`. Start reading at `engine`, then `replica` for
one device, `hidden_states` for the layers, and `packing` for batches without padding.
"""

from __future__ import annotations

import sys

from layerdex.errors import OptionError

_WITHOUT_DOCSTRINGS = 2

# Here, as every use of transformers begins with an import from this package, and transformers fails
# in its own imports (huggingface/transformers#36045).
if sys.flags.optimize >= _WITHOUT_DOCSTRINGS:
    raise OptionError(
        "transformers does not work without docstrings, which python -OO and PYTHONOPTIMIZE=2 "
        "remove: use -O or neither (a model that OpenVINO has already converted needs no "
        "transformers)"
    )
