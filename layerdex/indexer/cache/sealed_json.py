"""JSON files of the cache, each with a digest of its own content.

They decide vectors, so a changed one must be made again and never be believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_DIGEST = "sha256"


def dump_sealed(content: Mapping[str, Any]) -> bytes:
    """Return an object as JSON with its digest."""
    return json.dumps({**content, _DIGEST: _digest(content)}).encode()


def load_sealed(data: bytes) -> dict[str, Any]:
    """Return the object that `dump_sealed` wrote; raises ValueError if it has changed."""
    content = json.loads(data)
    if not isinstance(content, dict) or content.pop(_DIGEST, None) != _digest(content):
        raise ValueError("the content does not have its digest")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
