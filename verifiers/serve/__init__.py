"""Verdicts over HTTP: `python -m verifiers serve`. See docs/verifiers/serve.md.

`command` starts it. uvicorn speaks HTTP, starlette finds the address, `addresses` has what each address answers, and
`request_forms` the bodies that they take. `front` checks who may ask what, and `queue` hands requests to worker
processes, which judge by `judging`. `envs.serve` uses the same front and queue for other work.
"""
