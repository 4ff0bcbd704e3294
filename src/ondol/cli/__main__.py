"""The `ondol` script and `python -m ondol.cli`; a Ctrl-C while it loads ends it quietly."""

import signal


def main() -> None:
    """Load the command line and run it; a Ctrl-C while it loads ends the process as it ends any program."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ondol.cli.main import main as run  # noqa: PLC0415 - this takes the time that the line above is for

    signal.signal(signal.SIGINT, before)
    run()


if __name__ == "__main__":
    main()
