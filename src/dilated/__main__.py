"""`python -m dilated`, also from a source tree without an install."""

from dilated.cli.main import main

main()
