"""The program ``layerdex``, also as ``python -m layerdex``."""

from __future__ import annotations

import sys

from layerdex.cli.streams import open_streams


def run() -> None:
    """Run the command line; an interrupt may come while it is still being imported."""
    open_streams()
    try:
        from layerdex.cli.main import main
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted\n")
        sys.exit(130)
    main()


if __name__ == "__main__":
    run()
