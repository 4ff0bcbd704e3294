"""`python -m ondol_function [cloudevent] [func-python]`: serves the module `function` of the path."""

import sys

from .serving import main

sys.exit(main(sys.argv[1:]))
