"""`python -m nutshell`, which is what `accelerate launch -m nutshell` runs."""

import sys

from nutshell.cli.main import main

sys.exit(main())
