"""Every error that Layerdex raises on purpose.

LayerdexError
├── OptionError            an option or argument has a value that cannot be used
│   ├── LayerError         a layer that the model or the index does not have
│   └── FilterError        a ``where`` expression that cannot be read or asked
│       └── FilterSyntaxError  one that cannot be read, with the place
├── SourceError            a source cannot be read at all
│   └── RowError           one row of a source is bad (and rows are not being skipped)
├── ModelError             a model is missing, unsafe, damaged or of an unsupported kind
├── MissingPackageError    an optional package is not installed; names the extra
├── IndexNotFoundError     the directory holds no index
├── IndexExistsError       the directory already holds something
├── IndexMismatchError     the index was made with another model, template, pooling, …
├── SchemaError            the catalog's schema is newer (or older) than this program's
├── DamagedIndexError      catalog and segment files disagree; names ``repair``
├── LockedIndexError       another process is writing, or has locked the catalog
├── StorageError           the operating system refused to read or write
├── ResourceError          this process may not use the memory or threads that it needs
├── DocumentNotFoundError  no live document has that id
├── RemovalError           more documents would be removed at once than is allowed
└── NoLabelsError          the question needs labelled documents and there are too few
"""


class LayerdexError(Exception):
    """Root of all errors raised on purpose; the message is one clear line.

    ``exit_code`` is the exit code of a command that fails with it.
    """

    exit_code = 1


class OptionError(LayerdexError):
    """An option has a value that cannot be used."""


class LayerError(OptionError):
    """The model or the index does not have this layer; the message gives the valid range."""


class FilterError(OptionError):
    """A ``where`` expression that cannot be read, or cannot be asked of an index."""


class FilterSyntaxError(FilterError):
    """A ``where`` expression that cannot be read.

    The message has three lines, all of them printable: what was expected, the expression, and a
    caret under the place.
    """


class SourceError(LayerdexError):
    """A source of documents cannot be read."""


class RowError(SourceError):
    """A row of a source is bad; the message gives source, line and reason."""


class ModelError(LayerdexError):
    """A model is missing, unsafe, damaged or of an unsupported kind."""


class MissingPackageError(LayerdexError):
    """An optional package is not installed; the message names the pip extra."""


class IndexNotFoundError(LayerdexError):
    """The directory holds no index."""


class IndexExistsError(LayerdexError):
    """The directory for a new index is not empty."""


class IndexMismatchError(LayerdexError):
    """The index was made with other settings than those asked for."""


class SchemaError(LayerdexError):
    """The catalog's schema is not the one that this version reads."""


class DamagedIndexError(LayerdexError):
    """Catalog and segment files disagree; ``reason`` says briefly what is wrong with a file."""

    reason: str | None = None


class LockedIndexError(LayerdexError):
    """Another process holds the writer lock or SQLite's; a later try may succeed (EX_TEMPFAIL)."""

    exit_code = 75


class StorageError(LayerdexError):
    """The operating system refused to read or write."""


class ResourceError(LayerdexError):
    """The process may not use the memory or the threads that it needs."""


class DocumentNotFoundError(LayerdexError):
    """No live document has that id."""


class RemovalError(LayerdexError):
    """More documents would be removed at once than is allowed; none was."""


class NoLabelsError(LayerdexError):
    """Too few labelled documents for the question."""
