"""The command line: runs the command, turns our errors into one line and an exit code.

The commands are those of ``walstream/cli/group.py``; the two that a server starts once a segment
also go a shorter way (``server_commands.py``), so nothing here imports click.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from walstream.cli.exit_codes import FAILED, exit_code
from walstream.cli.output import OUTPUT_ERRORS, flush_output, output_failed, say
from walstream.cli.server_commands import SERVER_COMMANDS, run_server_command
from walstream.errors import WalstreamError
from walstream.restore_command import is_restore_command, run_as_restore_command
from walstream.text import ERRORS, readable

# Written by the build where kernels could not be compiled (setup.py).
KERNELS_NOTE = Path(__file__).parent.parent / "kernels_failed.txt"


def uncompiled_kernels() -> str:
    """Returns the words for kernels that the installation could not compile."""
    reason = KERNELS_NOTE.read_text(errors="replace").strip()
    return (
        f"kernels are not compiled, so reading WAL is many times slower ({reason}). "
        "Install a C compiler and install walstream again with pip --force-reinstall --no-deps; "
        "with WALSTREAM_KERNELS=skip in the environment that installation accepts it"
    )


def main() -> None:
    """Runs the command line and ends the process; the entry point of ``walstream``."""
    if is_restore_command():
        run_as_restore_command(_main)
    _main()


def _main() -> None:
    code: int | str | None = 0
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding has no sign for is written as an escape, never an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    # The server keeps what its commands say in its log.
    if command not in SERVER_COMMANDS and KERNELS_NOTE.exists():
        with contextlib.suppress(OSError):
            say(f"walstream: warning: {uncompiled_kernels()}")
    try:
        try:
            _run_command()
        except SystemExit as ended:
            code = ended.code
        flush_output()
    except (WalstreamError, ModuleNotFoundError, BaseExceptionGroup) as error:
        code = _tell(error, command)
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        code = output_failed(error)
    try:
        flush_output()
    except OSError as error:
        code = output_failed(error)
    sys.exit(code)


def _run_command() -> None:
    if run_server_command(sys.argv[1:]):
        return
    from walstream.cli.group import cli  # click takes longer than all of a server's command

    cli.main(prog_name="walstream", standalone_mode=True)


def _tell(error: BaseException, command: str) -> int:
    """Says what went wrong, a line for each error of ours; returns the exit code.

    Raises:
        BaseException: ``error`` itself, where it is not ours to explain.
    """
    from walstream.extras import missing_extra

    found: list[BaseException] = [error]
    if isinstance(error, BaseExceptionGroup):
        from walstream.tasks.supervise import leaves  # imports trio, which is slow to import

        found = leaves(error)
    missing = [leaf for leaf in found if isinstance(leaf, ModuleNotFoundError)]
    ours = [leaf for leaf in found if isinstance(leaf, WalstreamError)]
    if missing and (line := missing_extra(missing[0], command)):
        lines, code = [line], FAILED
    elif len(ours) == len(found):
        lines, code = list(dict.fromkeys(map(str, ours))), exit_code(ours[0])
    else:
        raise error
    for line in lines:
        with contextlib.suppress(OSError):  # the exit code says it too
            say(f"walstream: error: {readable(line)}")
    return code
