"""What a server's error means for us: it passes, or a person must act (pure).

Decided by SQLSTATE alone: messages are in the server's language. What only a message would tell
("requested starting point is ahead of the WAL flush position", XX000) is computed from facts
instead, before the server is asked (``behind`` of ``walstream.store.start_plan``).

A walsender can send far more codes than are listed (walsender.c, slot.c, auth.c, postgres.c,
whatever a hook raises), so the rule is: **what is not in the table passes**. An error that is tried
again in vain costs a line in the log; one that ends the receiver costs WAL.
"""

from __future__ import annotations

from typing import NamedTuple

from walstream.errors import ConnectionLost, ServerRefused

WAL_REMOVED = "58P01"
DUPLICATE_OBJECT = "42710"
NO_SUCH_SLOT = "42704"
SLOT_UNUSABLE = "55000"


class Rule(NamedTuple):
    """What a SQLSTATE, or a class of them (two characters), means."""

    code: str
    permanent: bool
    reason: str


# The longest code that fits decides. A class that passes as a whole is listed where a reader would
# look for it, so that the reason is said.
RULES = (
    Rule("08", False, "connection exceptions, also those that a pooler or proxy makes up"),
    Rule("0A", True, "the server does not know the command or option: another program or version"),
    Rule("22", True, "a value in our command, such as a slot name, is not allowed"),
    Rule("25", False, "a transaction state or a timeout on idle sessions; a new session has none"),
    Rule("28", True, "role, password or pg_hba.conf: somebody has to change one of them"),
    Rule("2F", False, "raised by code in the server while it does something else"),
    Rule("3D", True, "the database that was named does not exist"),
    Rule("40", False, "a conflict with recovery, a deadlock: gone when it is tried again"),
    Rule("42", True, "the command is not understood or not allowed"),
    Rule("42501", True, "the role has no REPLICATION attribute"),
    Rule("42704", True, "the replication slot does not exist"),
    Rule("42710", True, "the replication slot exists already"),
    Rule("53", False, "no connection, memory or disk left just now"),
    Rule("53300", False, "too many connections or walsenders just now"),
    Rule("53400", True, "all replication slots are taken: raise max_replication_slots or drop one"),
    Rule("54", True, "a limit of the server that another attempt meets again"),
    Rule("55", False, "something is in use or not ready"),
    Rule("55000", True, "the slot was invalidated, or is of another kind; wal_level is too low"),
    Rule("55006", False, "the slot is in use: another receiver, or our own session not yet ended"),
    Rule("57", False, "an operator or the server itself ended the session"),
    Rule("57014", False, "the walsender was cancelled (pg_cancel_backend)"),
    Rule("57P01", False, "the server shuts down, or the walsender was terminated"),
    Rule("57P02", False, "the server crashed and restarts"),
    Rule("57P03", False, "the server starts up, shuts down or recovers"),
    Rule("57P04", False, "the database of the session was dropped"),
    Rule("57P05", False, "the session was idle for too long"),
    Rule("58", False, "the server's own files or devices: an I/O error may be mended meanwhile"),
    Rule("58P01", True, "a file is gone: WAL was removed before we had it"),
    Rule("F0", False, "a configuration or lock file is being changed"),
    Rule(
        "XX", False, "a state that nobody gave a code: start ahead of a standby, timeline changing"
    ),
    Rule("XX001", True, "the server's own data are damaged"),
    Rule("XX002", True, "the server's own data are damaged"),
)
_BY_CODE = {rule.code: rule for rule in RULES}
_UNKNOWN = Rule("", False, "not known to be permanent")


def rule_of(sqlstate: str | None) -> Rule:
    """Returns the rule for a SQLSTATE; None (the error has none) and unknown ones pass."""
    code = sqlstate or ""
    return _BY_CODE.get(code) or _BY_CODE.get(code[:2]) or _UNKNOWN


def refusal(message: str, sqlstate: str | None) -> ConnectionLost | ServerRefused:
    """Returns the error to raise for an error of the server."""
    kind = ServerRefused if rule_of(sqlstate).permanent else ConnectionLost
    return kind(message, sqlstate)
