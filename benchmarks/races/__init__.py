"""The seed's four races, in numbers: the old tracker, the old one with the seed's remedy, and trio-progress.

`schedule` decides what happens, `drive_asyncio` and `drive_trio` replay it, `old` and `remedied` are the models,
`outcome` is what is written down, `summary` what it comes to, `plot` draws it, `suite` is the command line.
"""

from . import suite as suite
