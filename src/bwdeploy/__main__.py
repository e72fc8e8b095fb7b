"""`python -m bwdeploy`."""

from bwdeploy.cli import main

main()
