"""Whether texts suit the packaged model, which knows English."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerdex.index.checks import BuildReport
    from layerdex.index.facade import Index

ENGLISH_MODEL = "minilm"
MULTILINGUAL_MODEL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"

_COMMON_WORDS = frozenset(
    "the of and to a in is that it for i you with on was be this are as not have my".split()  # noqa: SIM905 - in one line
)
_WORD = re.compile(r"[^\W\d_]+")
_N_SAMPLED = 500
_LEAST_WORDS = 200  # fewer say little
# Of the words of six English sets, from questions to titles of papers, 22 to 37 % are common ones;
# of texts in 27 other languages at most 6 % (Dutch).
_LEAST_SHARE = 0.1
_MANY_UNKNOWN = 0.1


def is_english_model(model: str) -> bool:
    """Say whether a model, as an index stores its name, is the packaged one."""
    return model == ENGLISH_MODEL


def find_foreign_share(index: Index, report: BuildReport) -> float | None:
    """Return the share of common English words, where it says that the texts are not English.

    None where they may be English, where there are too few words to tell, or where the model is not
    the packaged one. The first texts of the index are looked at; a single-script test would not do,
    as the tokenizer splits Cyrillic and Greek into letters that it knows.
    """
    if not is_english_model(index.settings.model):
        return None
    n_words, share = count_common_words(_first_texts(index))
    n_encoded = report.n_new + report.n_updated
    is_enough = n_words >= _LEAST_WORDS or report.n_unknown > _MANY_UNKNOWN * n_encoded
    return share if n_words and is_enough and share < _LEAST_SHARE else None


def count_common_words(texts: Iterable[str]) -> tuple[int, float]:
    """Return how many words the texts have, and the share of common English ones among them."""
    words = [word for text in texts for word in _WORD.findall(text.lower())]
    n_common = sum(word in _COMMON_WORDS for word in words)
    return len(words), n_common / len(words) if words else 0.0


def _first_texts(index: Index) -> list[str]:
    return index._open.store.query(
        lambda snapshot: [
            document.text for document in islice(snapshot.in_input_order(), _N_SAMPLED)
        ]
    )
