"""The conformance suite: what every driver must do, as small functions that each give their reason.

    from coebench.conformance import run
    report = run(MyDriver.connect, access, workload, generator)

`workload` is the http workload and `generator` the loadgen one: the suite asks instances through the generator's agent,
which the driver under test deploys. A behaviour is added by writing a function with `@behaviour(…)` in one of the modules.
"""

from .bench import Bench
from .registry import Behaviour, Failed, behaviour, behaviours, expect
from .suite import Outcome, Report, check, run, run_on

__all__ = ["Behaviour", "Bench", "Failed", "Outcome", "Report", "behaviour", "behaviours", "check", "expect", "run", "run_on"]
