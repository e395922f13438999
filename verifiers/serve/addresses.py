"""The addresses of `python -m verifiers serve`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from verifiers.errors import shown
from verifiers.serve.front import Front
from verifiers.serve.queue import Queue

NOTHING = (
    "There are POST /verify/TASK, /verl, /openrlhf/TASK and NeMo-Gym's /verify; GET /health and /metrics."
)


class VerdictsFront(Front):
    """Answers requests for verdicts."""

    def __init__(self, queue: Queue, token: str) -> None:
        forms = {
            "/verify/{name:path}": "verify",
            "/openrlhf/{name:path}": "openrlhf",
            "/verl": "verl",
            "/verify": "nemo_gym",
            "/seed_session": "seed_session",
            "/aggregate_metrics": "aggregate_metrics",
        }
        routes = [Route(path, self._endpoint(form), methods=["POST"]) for path, form in forms.items()]
        super().__init__(queue, token, routes, lambda path: f"{shown(path)} is no address. {NOTHING}")

    def _endpoint(self, form: str) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint for requests of a form of `request_forms`."""

        async def endpoint(request: Request) -> Response:
            name = request.path_params.get("name", "")
            return await self.answer(f"{form}/{name}", await self.body(request))

        endpoint.__name__ = form  # the address in metrics
        return endpoint
