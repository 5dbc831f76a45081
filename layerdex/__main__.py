"""``python -m layerdex``."""

from layerdex.cli.main import main

if __name__ == "__main__":
    main()
