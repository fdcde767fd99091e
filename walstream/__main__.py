"""``python -m walstream``."""

from walstream.cli import main

main()
