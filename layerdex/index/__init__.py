"""The facade: what the command line and Python users see of an index.

`Index` makes and opens an index, fills it and looks after it; `View` asks. May import `search`,
`indexer`, `storage` and the lowest floor. Start reading at `facade` and `view`.
"""

from layerdex.index.facade import Index
from layerdex.index.tasks import LabelTask, PairTask, RetrievalTask
from layerdex.index.view import View

__all__ = ["Index", "LabelTask", "PairTask", "RetrievalTask", "View"]
