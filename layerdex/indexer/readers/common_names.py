"""What fields are called in other data sets."""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT_TEXT_NAME = "text"
TEXT = "text"
"""The option that names the text, without ``--`` and ``-field``."""

COMMON_NAMES: Mapping[str, tuple[str, ...]] = {
    TEXT: (
        DEFAULT_TEXT_NAME,
        "body",
        "content",
        "sentence",
        "question",
        "review",
        "comment",
        "message",
        "description",
        "document",
        "passage",
        "title",
    ),
    "sentence1": (
        *("sentence1", "sentence_1", "sentence_a", "sentence1_text", "sent1", "question1"),
        *("text1", "text_1", "text_a", "s1", "premise", "anchor", "source", "query"),
    ),
    "sentence2": (
        *("sentence2", "sentence_2", "sentence_b", "sentence2_text", "sent2", "question2"),
        *("text2", "text_2", "text_b", "s2", "hypothesis", "positive", "target", "passage"),
    ),
    "score": (
        *("score", "similarity_score", "similarity", "relatedness_score", "relatedness"),
        *("gold_score", "human_score", "sim", "rating", "grade"),
    ),
    "label": ("label", "labels", "is_duplicate", "is_paraphrase", "gold_label", "class", "target"),
}
"""Names of a field in other data sets by the option that names it, likeliest first."""
