"""`python -m vlv_core` is the command `vlv`."""

from vlv_core.cli import main

main()
