"""``python -m walstream``, and the ``walstream`` script."""

from __future__ import annotations

import gc

from walstream.restore_command import is_restore_command, run_as_restore_command


def _run() -> None:
    from walstream.cli import main as command_line

    command_line()


def main() -> None:
    """Runs the command line."""
    if is_restore_command():
        run_as_restore_command(_run)
    try:
        _run()
    finally:
        # Else Python's end looks for garbage among all that was imported: a fifth of a short run.
        gc.freeze()


if __name__ == "__main__":
    main()
