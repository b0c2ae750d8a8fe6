"""`python -m runner` is the command `run`."""

from runner.cli import main

main()
