"""A Mesos framework with Marathon's REST API.  This is not Marathon.

No Marathon server can be had from Debian or PyPI, so coebench brings a scheduler of its own that speaks enough of
Marathon's API for Marathon's clients.  It is named ``coebench-marathon-compatible`` wherever it shows itself, and its
times are not Marathon's.

    python3 marathon --master IP:5050 --listen IP:8080 --state DIR

runs it from this folder with Python 3.11 and nothing else.
"""
