"""PostgreSQL's own programs: found by version, and a server of theirs that walstream starts."""
