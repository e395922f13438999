"""Verdicts over HTTP: `python -m verifiers serve`. See docs/verifiers/serve.md.

`command` starts it. uvicorn speaks HTTP, and starlette finds the address. `front` checks who may ask what, and `queue`
hands requests to worker processes, which read and judge them by `judging`. `envs.serve` uses the same front and queue
for other work.
"""
