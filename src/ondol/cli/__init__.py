"""The `ondol` command: thin functions that read options, call `compose` or a client, and print.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no platform is running, 4 not found.
"""
