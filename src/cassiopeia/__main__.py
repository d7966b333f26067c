"""`python -m cassiopeia`: the same as the command `cassiopeia`."""

from cassiopeia.cli.main import main

main()
