"""Progress bars for notebooks and scripts, by tqdm."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any


def progress_bar(description: str | None = None) -> ProgressBar:
    """Return a callback for ``on_progress`` that shows a bar: in a notebook as a widget.

    As in ``index.add(rows, on_progress=progress_bar("Indexing"))``. The bar ends with the work; as
    a context manager, it also ends where the work fails.
    """
    return ProgressBar(description)


class ProgressBar:
    """A callback that shows how much is done; see `progress_bar`."""

    def __init__(self, description: str | None = None) -> None:
        self._description = description
        self._bar: Any = None
        self._told: tuple[int, int | None] | None = None

    def __call__(self, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` is done; less than before is the start of more work.

        A call equal to the last one changes nothing: the end of a part is often that of the whole.
        """
        if (done, total) == self._told:
            return
        self._told = (done, total)
        if self._bar is not None and done < self._bar.n:
            self.close()
        if self._bar is None:
            self._bar = _import_tqdm()(desc=self._description, total=total)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        """End the bar, which stays where it is; the next call starts another."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _import_tqdm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets gets a bar of text
        from tqdm.auto import tqdm
    return tqdm
