"""Prompt templates: the text around a document's text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from layerdex.errors import OptionError

TEXT = "{text}"
MASK = "{mask}"
PLAIN = TEXT

_FIELD = re.compile(r"\{[\w.-]+\}")


def other_fields(template: str) -> list[str]:
    """Return what looks like a field in a template but is not replaced, such as ``{title}``."""
    return [each for each in dict.fromkeys(_FIELD.findall(template)) if each not in (TEXT, MASK)]


@dataclass(frozen=True, slots=True)
class Template:
    """``prefix + text + suffix``, parsed from a string such as ``A question: {text}``.

    ``{mask}`` stands for the tokenizer's mask token; other braces have no meaning.
    """

    prefix: str
    suffix: str

    @classmethod
    def parse(cls, template: str, *, mask_token: str | None) -> Template:
        """Parse a template. Raises `OptionError` unless it contains ``{text}`` exactly once."""
        if template.count(TEXT) != 1:
            raise OptionError(
                f"template {template!r} must contain {TEXT} exactly once, "
                f"as in 'A question: {TEXT}'"
            )
        if MASK in template and mask_token is None:
            raise OptionError(f"template {template!r} has {MASK}, but this model has no mask token")
        prefix, suffix = template.replace(MASK, mask_token or "").split(TEXT)
        return cls(prefix, suffix)

    def render(self, text: str) -> str:
        """Return the template with ``text`` in place of ``{text}``."""
        return f"{self.prefix}{text}{self.suffix}"

    def mask_is_last(self, mask_token: str | None) -> bool:
        """Return whether the template's mask comes after the text.

        Raises `OptionError` unless the template has exactly one mask.
        """
        n_masks = 0 if mask_token is None else (self.prefix + TEXT + self.suffix).count(mask_token)
        if mask_token is None or n_masks != 1:
            raise OptionError(
                f"pooling 'mask' needs a template with one {MASK}, such as "
                f"'\"{TEXT}\" means {MASK}.' (this one has {n_masks})"
            )
        return mask_token in self.suffix
