"""For authors of drivers: a package to begin with (`scaffold`), and the conformance suite on a bay (`checking`)."""
