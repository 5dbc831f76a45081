"""Which fields of a source of pairs are the two texts and the judgement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from shlex import quote

from layerdex.indexer.readers.fields import Fields
from layerdex.records import UNSET, Unset

SENTENCE1, SENTENCE2, SCORE, LABEL = "sentence1", "sentence2", "score", "label"


@dataclass(frozen=True, slots=True)
class PairFields(Fields):
    """The names of a pair's fields: the first text is ``text``; nothing else is kept.

    By default (None) ``score`` and ``label`` are the fields of these names; if one of them is named
    explicitly, it must exist and the other is not read.
    """

    text: str = SENTENCE1
    id: str | Unset | None = UNSET
    label: str | Unset | None = UNSET
    metadata: tuple[str, ...] | None = ()
    sentence2: str = SENTENCE2
    score: str | None = None
    pair_label: str | None = None

    @property
    def text_option(self) -> str:
        """The option that names the first text."""
        return SENTENCE1

    @property
    def judgements(self) -> dict[str, str]:
        """The fields that may judge a pair, by option."""
        named = {SCORE: self.score, LABEL: self.pair_label}
        given = {option: name for option, name in named.items() if name is not None}
        return given or {SCORE: SCORE, LABEL: LABEL}

    @property
    def kept_empty(self) -> None:
        """None: an empty cell is a missing text on either side."""

    @property
    def optional_names(self) -> tuple[str, ...]:
        """The other text and the judgements."""
        return (self.sentence2, *self.judgements.values())

    @property
    def required_names(self) -> list[tuple[str, str]]:
        """Both texts and a judgement, each as (option, name)."""
        texts = [(SENTENCE1, self.text), (SENTENCE2, self.sentence2)]
        return [*texts, next(iter(self.judgements.items()))]

    @property
    def stand_ins(self) -> Mapping[str, tuple[str, ...]]:
        """The other judgement, where neither is named."""
        return dict.fromkeys(self.judgements, tuple(self.judgements.values()))

    def suggest(self, option: str, name: str, names: Collection[object]) -> str:
        """Return the options for each part that is missing and has a likely name."""
        wanted = {option: name, **dict(self.required_names[:2])}
        if not {*self.judgements.values()} & {*names}:
            wanted |= self.judgements
        found: dict[str, str] = {}
        free = [name for name in names if name not in wanted.values()]
        for part, missing in wanted.items():
            likely = None if missing in names else self.likely_name(part, missing, free)
            if likely is not None:
                found[part] = f"--{part}-field {quote(likely)}"
                free.remove(likely)
        if SCORE in found:  # a pair has one judgement
            found.pop(LABEL, None)
        return " ".join(found.values())
