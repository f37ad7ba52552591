"""`python -m coebench`."""

from .cli.main import main

main()
