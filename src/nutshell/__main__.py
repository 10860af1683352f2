"""`python -m nutshell`, which is what `accelerate launch -m nutshell` runs."""

import sys

from nutshell.cli import main

sys.exit(main())
