"""Opening the index of a run, or making it, and taking an unused one away again."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path
from typing import Any

from layerdex.cli.output import progress
from layerdex.errors import IndexExistsError, LayerdexError


def open_or_create(
    path: Path, *, dry_run: bool, running: dict[str, Any], **settings: Any
) -> tuple[Any, bool]:
    """Return the index, and whether it is new; ``running`` says on what the encoder runs.

    A dry run makes none. Raises `IndexMismatchError` where ``settings``, as given on the command
    line or None, are not those that the index was made with.
    """
    from layerdex.index import Index
    from layerdex.indexer.models.compatibility import check_options
    from layerdex.options import EncoderOptions
    from layerdex.storage.directory import CATALOG

    if dry_run or (path / CATALOG).exists():
        moved = {"model": _folder(settings["model"]), "adapter": settings["adapter"]}
        target = Index.open(path, **moved, **running)
        store = target.store
        check_options(
            store.settings,
            store.layers,
            store.precision,
            EncoderOptions(**{one.name: settings[one.name] for one in fields(EncoderOptions)}),
            layers=settings["layers"],
            precision=settings["precision"],
            query_template=settings["query_template"],
            stored_query_template=store.query_template,
        )
        return target, False
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        with progress("Loading the model"):
            return Index.create(path, **running, **given), True
    except IndexExistsError:
        if not (path / CATALOG).exists():
            raise
        # Another first run was faster; this one extends what that one made.
        return open_or_create(path, dry_run=dry_run, running=running, **settings)


def _folder(model: str | None) -> str | None:
    """Return the model if it is a folder, which may have moved."""
    from layerdex.indexer.models.model_folder import to_folder

    return model if model is not None and to_folder(model).is_dir() else None


def discard_if_unused(target: Any, *, had_folder: bool) -> None:
    """Leave no empty index in the way of a second try with other options."""
    with contextlib.suppress(LayerdexError, OSError):
        target.store.discard_if_unused()
        if not had_folder:
            target.store.path.rmdir()
