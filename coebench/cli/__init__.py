"""The command line: each command parses, calls and prints. What it calls is imported when it is called."""
