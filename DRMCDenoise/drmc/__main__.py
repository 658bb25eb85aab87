"""`python -m drmc` is the command `drmc`."""

import sys

from drmc.cli import main

if __name__ == "__main__":
    sys.exit(main())
