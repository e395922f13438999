"""Verdicts over HTTP: `python -m verifiers serve`. See docs/verifiers/serve.md.

uvicorn speaks HTTP, starlette finds the address, `front` checks who may ask what, and `queue` hands requests to worker
processes, which judge by `judging`. `envs.serve` uses the same front and queue for other work.
"""
