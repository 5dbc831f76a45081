"""Importing OpenVINO."""

from __future__ import annotations

import sys
from typing import Any


def import_openvino() -> Any:
    """Import OpenVINO with its telemetry disabled."""
    if "openvino" not in sys.modules:
        # The import of the optional telemetry then fails, and OpenVINO uses a stub.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
