"""Why and how a redo child ended, for its callers, the log and the metrics."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from walstream.errors import RedoProcessDied

CAUSES = ("exited", "timeout", "protocol", "pipe", "startup", "closed", "killed")
"""Why a process ended: the child went away, a deadline passed, it broke the protocol, a pipe
failed, it never answered its first ping, we asked it to end, or its supervisor was cancelled."""


@dataclass(slots=True)
class Death:
    """Why and how a process ended. ``in_flight`` is the input that was not answered."""

    cause: str
    reason: str
    in_flight: bytes = field(default=b"", repr=False)
    returncode: int | None = None
    stderr: tuple[str, ...] = ()
    dump: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether we ended the process because it was not needed any more."""
        return self.cause in ("closed", "killed")

    @property
    def at_head(self) -> bool:
        """Whether only the first request in flight can have been the reason.

        A child that exits by itself has written the replies before the one it failed at. One that
        hangs, or that a signal killed, may hold replies that it did not get to write.
        """
        return self.cause == "exited" and self.returncode is not None and self.returncode >= 0

    def describe(self) -> str:
        """Returns the reason, how the child ended, and the last line of its stderr."""
        text = self.reason
        if self.returncode is not None:
            text += f"; {describe_exit(self.returncode)}"
        if self.stderr:
            text += f"; its last words: {self.stderr[-1]}"
        return text

    def error(self) -> RedoProcessDied:
        """Returns the error for a request that the child never saw."""
        return RedoProcessDied(self.describe(), cause=self.cause)


def describe_exit(returncode: int) -> str:
    """Returns how a child ended, in words."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    why = {
        "SIGSYS": " (a system call that the sandbox forbids)",
        "SIGXCPU": " (CPU time limit)",
        "SIGKILL": " (killed from outside, or out of memory)",
    }
    return f"killed by {name}{why.get(name, '')}"
