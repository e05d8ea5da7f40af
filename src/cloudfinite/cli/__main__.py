"""`python -m cloudfinite.cli`: the command without its script."""

from cloudfinite.cli import main

main()
