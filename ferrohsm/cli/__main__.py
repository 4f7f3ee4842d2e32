"""``python -m ferrohsm.cli``."""

import sys

from ferrohsm.cli import main

sys.exit(main())
