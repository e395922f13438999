"""The addresses of `python -m verifiers serve`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from verifiers.serve.front import Front
from verifiers.serve.queue import Queue
from verifiers.serve.request_forms import task_name

_ADDRESSES = "POST /verify/TASK, /verl, /openrlhf/TASK, or NeMo-Gym's /verify; GET /health or /metrics"


class VerdictsFront(Front):
    """Answers requests for verdicts."""

    def __init__(self, queue: Queue, token: str, max_body: int) -> None:
        forms = {
            "/verify/{name:path}": "verify",
            "/openrlhf/{name:path}": "openrlhf",
            "/verl": "verl",
            "/verify": "nemo_gym",
            "/aggregate_metrics": "aggregate_metrics",
        }
        routes = [Route(path, self._endpoint(form), methods=["POST"]) for path, form in forms.items()]
        # NeMo-Gym opens a session before it samples completions; a verdict needs no session.
        routes.append(Route("/seed_session", self.seed_session, methods=["POST"]))
        nothing = f"Nothing is served at this address. There are: {_ADDRESSES}."
        super().__init__(queue, token, max_body, routes, lambda _: nothing)

    def _endpoint(self, form: str) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint for requests of a form of `request_forms`."""

        async def endpoint(request: Request) -> Response:
            name = request.path_params.get("name", "")
            # Workers get the task's own name, so that requests under its other names are judged in the same batch.
            task = task_name(name.strip("/")) if name else ""
            return await self.answer(f"{form}/{task}", await self.body(request))

        endpoint.__name__ = form  # the address in metrics
        return endpoint

    async def seed_session(self, request: Request) -> Response:
        await self.body(request)
        return JSONResponse({})
