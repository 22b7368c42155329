"""``python -m ommatidia.cli``."""

from ommatidia.cli.app import main

main()
