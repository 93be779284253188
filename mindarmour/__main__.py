"""`python -m mindarmour`: the same as the command `mindarmour`."""
import sys

from mindarmour.cli import main

if __name__ == "__main__":
    sys.exit(main())
