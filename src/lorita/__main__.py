"""``python -m lorita`` is the same as ``lorita``."""

from lorita.cli import main

if __name__ == "__main__":
    main()
