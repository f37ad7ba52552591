"""What a run leaves, what follows from it, and how sure one may be of it.

`folder` keeps and reads the record, `derive` makes the result of it, `stats` says what the numbers bear, `model` is the
result as every report and `--json` know it. Nothing here knows a COE, a scenario or a report.
"""
