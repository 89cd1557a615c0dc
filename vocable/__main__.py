"""`python -m vocable` is the command `vocable`."""

from vocable.cli import main

main()
