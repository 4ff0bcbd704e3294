"""`python -m ondol.cli`: the same as the `ondol` script."""

from ondol.cli.main import main

main()
