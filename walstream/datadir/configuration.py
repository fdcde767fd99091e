"""The configuration of a copied cluster, so that it touches nothing of its origin. Pure text.

What archives, streams, follows a recovery target, waits for standbys, loads libraries that run
jobs, or points to files outside is commented out in every file and overridden in
postgresql.auto.conf, which PostgreSQL reads last.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from walstream.state.control import Parameters

AUTO_CONF = "postgresql.auto.conf"
MARK = "#walstream: "


class Override(NamedTuple):
    """A setting that is given another value; in versions ``since`` to ``until`` (inclusive)."""

    name: str
    value: str
    since: int = 14
    until: int = 99


# Why: archiving and streaming would reach the original's archive and servers, commits would wait
# for standbys, workers would run jobs, connect to publishers or rewrite pages.
OVERRIDES = (
    Override("archive_mode", "off"),
    Override("archive_command", ""),
    Override("archive_library", "", 15),
    Override("archive_cleanup_command", ""),
    Override("restore_command", ""),
    Override("recovery_end_command", ""),
    Override("primary_conninfo", ""),
    Override("primary_slot_name", ""),
    Override("promote_trigger_file", "", 14, 15),
    Override("recovery_target", ""),
    Override("recovery_target_name", ""),
    Override("recovery_target_time", ""),
    Override("recovery_target_xid", ""),
    Override("recovery_target_lsn", ""),
    Override("recovery_target_timeline", "latest"),
    Override("synchronous_standby_names", ""),
    Override("shared_preload_libraries", ""),
    Override("session_preload_libraries", ""),
    Override("local_preload_libraries", ""),
    Override("max_logical_replication_workers", "0"),
    Override("sync_replication_slots", "off", 17),
    Override("summarize_wal", "off", 17),
    Override("event_triggers", "off", 17),
    Override("autovacuum", "off"),
    Override("listen_addresses", "localhost"),
    Override("ssl", "off"),
    Override("bonjour", "off"),
    Override("logging_collector", "off"),
    Override("log_destination", "stderr"),
)
# Settings that may point out of the directory, which only postgresql.conf can hold; they go away.
OUTSIDE = (
    "data_directory",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "config_file",
    "unix_socket_directories",
    "stats_temp_directory",
    "log_directory",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_crl_dir",
    "ssl_dh_params_file",
    "krb_server_keyfile",
    "oauth_validator_libraries",
)

HBA = """\
# Made by walstream: the base backup had no pg_hba.conf of its own.
local all all peer
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""

_SETTING = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(?:=|\s)\s*(.*)")
_INCLUDES = ("include", "include_if_exists", "include_dir")


def overrides(version: int, parameters: Parameters) -> list[tuple[str, str]]:
    """Returns name and value of every setting that is overridden in that version."""
    found = [(o.name, o.value) for o in OVERRIDES if o.since <= version <= o.until]
    # Off would delete the commit timestamps, and lower limits would refuse what was prepared.
    tracked = "on" if parameters.track_commit_timestamp else "off"
    found += [
        ("track_commit_timestamp", tracked),
        ("max_prepared_transactions", str(parameters.max_prepared_transactions)),
    ]
    return found


def neutral_file(text: str, version: int, parameters: Parameters) -> str:
    """Returns a configuration file with everything that is overridden commented out.

    Includes stay, but for files elsewhere: an absolute path is the original's.
    """
    gone = {name for name, _ in overrides(version, parameters)} | set(OUTSIDE)
    lines = []
    for line in text.removesuffix("\n").split("\n") if text else ():
        found = _SETTING.match(line)
        name = found[1].lower() if found else ""
        if found and name in _INCLUDES:
            drop = found[2].strip().strip("'\"").startswith("/")
        else:
            drop = name in gone
        lines.append(MARK + line if drop else line)
    return "\n".join(lines) + "\n" if lines else ""


def auto_conf(text: str, version: int, parameters: Parameters) -> str:
    """Returns postgresql.auto.conf: the original's, neutral, and the overrides behind it."""
    values = overrides(version, parameters)
    lines = [neutral_file(text, version, parameters)]
    lines.append("# Set by walstream, so that this cluster touches nothing of its origin.\n")
    lines += [f"{name} = '{value}'\n" for name, value in values]
    return "".join(lines)
