"""The values of encoder options that the user left out: the model's own, else Layerdex's."""

from __future__ import annotations

from dataclasses import replace

from layerdex.choices import LongText, Pooling
from layerdex.errors import OptionError
from layerdex.indexer.engines.protocol import ModelSpec
from layerdex.indexer.models.model_folder import ModelFolder
from layerdex.indexer.models.transformer_settings import NO_LIMIT
from layerdex.indexer.text.templates import MASK, PLAIN, TEXT
from layerdex.options import EncoderOptions

# Attention is quadratic in the length, so long-context models get more only by --max-length.
_DEFAULT_MAX_LENGTH = 512


def resolve_options(
    options: EncoderOptions, folder: ModelFolder, spec: ModelSpec
) -> EncoderOptions:
    """Return ``options`` with every None replaced (but revision and adapter, which may be none).

    Raises `OptionError` for a maximum length beyond the model's positions, and as `resolve_pooling`
    does.
    """
    return replace(
        options,
        model=folder.name,
        revision=folder.revision,
        adapter=None if folder.adapter is None else str(folder.adapter),
        pooling=resolve_pooling(options, folder),
        template=_resolve_template(options, folder),
        max_length=_resolve_max_length(options.max_length, folder, spec),
        long=options.long or LongText.TRUNCATE,
    )


def resolve_pooling(options: EncoderOptions, folder: ModelFolder) -> Pooling:
    """Return the pooling of the options, else the model's own, else the mean.

    Raises `OptionError` where the model's own is not supported.
    """
    if options.pooling is not None:
        return options.pooling
    if not folder.pools_prompt and _resolve_template(options, folder) != PLAIN:
        raise OptionError(
            f"the model {folder.name!r} was made to pool a text without its prompt "
            "(include_prompt is false), which is not supported: choose one of "
            f"{', '.join(Pooling)} with --pooling for the text with its prompt, or leave the "
            f"prompt out with --template '{PLAIN}'"
        )
    if folder.pooling is None:
        return Pooling.MEAN
    if not isinstance(folder.pooling, Pooling):
        raise OptionError(
            f"the model {folder.name!r} was made for pooling {folder.pooling!r}, which is not "
            f"supported: choose one of {', '.join(Pooling)} with --pooling"
        )
    return folder.pooling


def notes(
    options: EncoderOptions, folder: ModelFolder, spec: ModelSpec, *, query_template: str | None
) -> list[str]:
    """Return what a user should know of a model: what its files ask for and is not followed.

    ``query_template`` is what the index puts around queries, None for the documents' template.
    """
    found = list(folder.notes)
    if spec.tokenizer.keeps_end:
        found.append("its tokenizer keeps the end of long texts; Layerdex keeps the beginning")
    if not spec.pads:
        found.append(
            "padding changes its vectors: only texts of equal length are encoded together, which "
            "is slower"
        )
    if not folder.pools_prompt:
        found.append("it was made to pool a text without its prompt; here a prompt is pooled too")
    prompts = folder.prompts
    if options.template is None and prompts.default:
        found.append(
            f"its default prompt {prompts.default_name!r} is put before every document: "
            f"{prompts.default!r}"
        )
    given = {"--template": options.template, "--query-template": query_template}
    unused = {name: text for name, text in prompts.others.items() if given[_option(name)] is None}
    if unused:
        texts = ", ".join(f"{name} {text!r}" for name, text in unused.items())
        ways = [way for way in given if way in map(_option, unused)]
        found.append(
            f"it has prompts that are not used by default ({texts}): give them with "
            f"{' and '.join(ways)}, {'each ' if len(ways) > 1 else ''}followed by {PLAIN}"
        )
    return [f"the model {folder.name!r}: {note}" for note in found]


def _option(prompt: str) -> str:
    """Return the option for a prompt of this name, such as ``s2p_query`` or ``passage``."""
    return "--query-template" if "query" in prompt.lower() else "--template"


def _resolve_template(options: EncoderOptions, folder: ModelFolder) -> str:
    if options.template is not None:
        return options.template
    prompt = folder.prompts.default
    if any(name in prompt for name in (TEXT, MASK)):
        raise OptionError(
            f"the default prompt of the model {folder.name!r} is {prompt!r}, in which {TEXT} or "
            f"{MASK} would be replaced: give a --template"
        )
    return prompt + PLAIN


def _resolve_max_length(wanted: int | None, folder: ModelFolder, spec: ModelSpec) -> int:
    n_positions = spec.n_positions
    if wanted is None:
        # As in sentence-transformers, its file comes before the tokenizer's.
        own = folder.max_length or min(_DEFAULT_MAX_LENGTH, spec.tokenizer.max_length or NO_LIMIT)
        return min(own, n_positions)
    if not 1 <= wanted <= n_positions:
        raise OptionError(f"maximum length {wanted} is not between 1 and {n_positions} tokens")
    return wanted
