"""One question a file, each written against the contract's ports alone."""
