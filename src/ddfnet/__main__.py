"""`python -m ddfnet` is `ddfnet`."""

import sys

from ddfnet.cli import main

sys.exit(main())
