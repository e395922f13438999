"""Verdicts over HTTP: `python -m verifiers serve`. See docs/verifiers/serve.md.

`running` starts and ends a server, `connection` speaks HTTP, and `front` says who may ask what; none of them judges.
`workers` are the processes that do, and `judging` is what such a process does. `envs.serve` puts other work into the
same front and the same kind of worker.
"""
