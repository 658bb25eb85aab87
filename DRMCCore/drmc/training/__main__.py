"""`torchrun --nproc-per-node=N -m drmc.training CONFIG`."""

import sys

from drmc.cli.main import main

sys.exit(main(["train", *sys.argv[1:]]))
