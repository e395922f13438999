"""Verdicts over HTTP: `python -m verifiers serve`. See docs/verifiers/serve.md.

`running` starts and ends a server, in which uvicorn speaks HTTP, and `front` checks who may ask what. Judging is done
in processes: `workers` starts them, and `judging` is the code that they run. `envs.serve` uses the same front and the
same kind of worker for other work.
"""
