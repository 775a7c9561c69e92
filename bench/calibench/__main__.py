"""`python -m calibench`: the command line."""

import sys

from calibench.cli import main

sys.exit(main(prog_name="calibench"))
