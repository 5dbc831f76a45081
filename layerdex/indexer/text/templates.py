"""Prompt templates: text around a document's text that steers the encoder."""

from __future__ import annotations

from dataclasses import dataclass

from layerdex.errors import OptionError

TEXT = "{text}"
MASK = "{mask}"
PLAIN = TEXT


@dataclass(frozen=True, slots=True)
class Template:
    """``prefix + text + suffix``, parsed from for example ``A question: {text}``.

    ``{mask}`` stands for the tokenizer's mask token; no other braces mean anything.
    """

    prefix: str
    suffix: str

    @classmethod
    def parse(cls, template: str, *, mask_token: str | None) -> Template:
        """Read a template. Raises `OptionError` unless ``{text}`` stands in it once."""
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
        """Return the template with ``text`` in its place."""
        return f"{self.prefix}{text}{self.suffix}"

    def mask_is_last(self, mask_token: str | None) -> bool:
        """Say whether the template's one mask comes after the text.

        Raises `OptionError` unless there is exactly one mask.
        """
        n_masks = 0 if mask_token is None else (self.prefix + TEXT + self.suffix).count(mask_token)
        if mask_token is None or n_masks != 1:
            raise OptionError(
                f"pooling 'mask' needs a template with one {MASK}, such as "
                f"'\"{TEXT}\" means {MASK}.' (this one has {n_masks})"
            )
        return mask_token in self.suffix
