"""``python3 FOLDER`` and ``python3 -m …`` both begin here."""

import sys
from importlib import import_module
from pathlib import Path

if __package__:
    from .server import main
else:  # run as a folder: make it the package that it is
    folder = Path(__file__).resolve().parent
    sys.path[0] = str(folder.parent)
    main = import_module(f"{folder.name}.server").main

main()
