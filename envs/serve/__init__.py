"""Environments over HTTP and WebSocket, by the protocol of OpenEnv. See docs/environments/serve.md.

`openenv_front` speaks with clients and keeps their episodes, `playing` is what a worker process does. Because problems,
replies and scores are pure functions, any worker takes any step, and an episode outlives the worker that died.
"""
