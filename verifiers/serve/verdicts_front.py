"""The addresses of `python -m verifiers serve`."""

from __future__ import annotations

from functools import partial

from verifiers.serve.front import Front, Handler, Reply, error
from verifiers.serve.request_forms import Refused, form_of, task_name

_ADDRESSES = "POST /verify/TASK, /verl, /openrlhf/TASK, or NeMo-Gym's /verify; GET /health or /metrics"


class VerdictsFront(Front):
    """Answers requests for verdicts."""

    def handler(self, method: str, path: str, query: str) -> Handler | Reply:
        if path == "/seed_session":
            reply_to, label = self._seed_session, path
        elif path == "/aggregate_metrics":
            reply_to, label = partial(self._worker_reply, path), path
        elif (form := form_of(path)) is not None:
            form_name, task_or_data_source = form
            # Workers get the task's own name, so that requests under its other names are judged in the same batch.
            try:
                address = f"/{form_name}/{task_name(task_or_data_source)}" if task_or_data_source else path
            except Refused as refusal:
                return error(refusal.status, str(refusal))
            # The label in metrics is the form alone: clients may write any name behind it, and each would be a label.
            reply_to, label = partial(self._worker_reply, address), form_name
        else:
            return error(404, f"Nothing is served at this address. There are: {_ADDRESSES}.")
        if method != "POST":
            return error(405, "This address takes POST.", (b"allow", b"POST"))
        return Handler(reply_to, label)

    async def _worker_reply(self, address: str, body: bytes) -> Reply:
        answer = await self.ask(address, body)
        return Reply(answer.status, answer.body)

    async def _seed_session(self, _: bytes) -> Reply:
        """Answers NeMo-Gym, which opens a session before it samples completions; a verdict needs no session."""
        return Reply(200, b"{}\n")
