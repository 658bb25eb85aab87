"""`python -m drmc` is the command `drmc`."""

import sys

from drmc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
