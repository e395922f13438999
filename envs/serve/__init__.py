"""Environments over HTTP and WebSocket, by the protocol of OpenEnv. See docs/environments/serve.md.

`openenv_front` speaks with clients and keeps their episodes; `playing` runs in worker processes. Problems, replies and
scores are pure functions, so any worker can take any step, and episodes survive the death of a worker.
"""
