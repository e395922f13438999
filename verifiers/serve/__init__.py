"""Verdicts over HTTP: `python -m verifiers serve`. See docs/verifiers/serve.md.

`front` holds the connections and never judges, `workers` are the processes that do, and `judging` is what such a
process does. `envs.serve` puts other work into the same front and the same kind of worker.
"""
