"""What trio-progress costs, beside what one would use instead: `python -m benchmarks SUITE`.

Each module that measures something registers a suite (see `suites`); `harness` has the measuring,
`report` what is printed and written as JSON. Only ratios carry over to another machine, so a rival
always runs in the same run, round by round in turn.
"""
