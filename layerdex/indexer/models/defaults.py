"""What an encoder takes where its user chose nothing: the model's own, or ours."""

from __future__ import annotations

from layerdex.choices import Pooling
from layerdex.errors import OptionError
from layerdex.indexer.models.model_folder import ModelFolder

# Longer inputs are rarely what a user of a long-context model wants unasked: attention is
# quadratic. --max-length goes up to what the model allows.
_DEFAULT_MAX_LENGTH = 512


def choose_max_length(folder: ModelFolder, limit: int, wanted: int | None) -> int:
    """Return the number of tokens a text may have, special ones included.

    Left out, that is the model's own (sentence-transformers) value, else at most 512. Raises
    `OptionError` for more than the model has positions for.
    """
    if wanted is None:
        return min(folder.max_length or _DEFAULT_MAX_LENGTH, limit)
    if not 1 <= wanted <= limit:
        raise OptionError(f"maximum length {wanted} is not between 1 and {limit} tokens")
    return wanted


def own_pooling(folder: ModelFolder) -> Pooling:
    """Return the pooling that a model was made for, else the mean; `OptionError` for another."""
    if isinstance(folder.pooling, Pooling):
        return folder.pooling
    if folder.pooling is not None:
        raise OptionError(
            f"the model {folder.name!r} was made for pooling {folder.pooling!r}, which is none of "
            f"{', '.join(Pooling)}: choose one with --pooling"
        )
    return Pooling.MEAN
