"""The addresses of `python -m envs serve`: the protocol of OpenEnv, and a page on which a person plays.

The clients of openenv-core 0.3 and of openenv 0.10 both work with these addresses. A session has a WebSocket with JSON
messages (`reset`, `step`, `state`, `close`). The same messages go over HTTP, where sessions are told apart by
`episode_id`. OpenEnv's own servers have no sessions over HTTP, and are not used here for three more reasons: the one of
openenv-core 0.3 does not send an observation's metadata, both send the text of any exception to the client, and if a
worker dies, its sessions are lost.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from envs.episodes import chat
from envs.problem import Problem
from envs.splits import SPLITS
from verifiers.errors import did_you_mean, shown
from verifiers.serve.front import Failed, Front
from verifiers.serve.judging import read_object
from verifiers.serve.queue import Queue

PAGE = Path(__file__).with_name("page.html")
MAX_SESSIONS = 10_000
IDLE_SECONDS = 3600.0  # an episode over HTTP that has not been used for so long may be forgotten
# {verb, the last part of an address: its HTTP method}
VERBS = {
    "reset": "POST",
    "step": "POST",
    "state": "GET",
    "schema": "GET",
    "metadata": "GET",
    "splits": "GET",
    "list_environments": "GET",
    "num_tasks": "POST",
}
# WebSocket's codes of errors, as OpenEnv names them.
INVALID_JSON, UNKNOWN_TYPE, VALIDATION = "INVALID_JSON", "UNKNOWN_TYPE", "VALIDATION_ERROR"
EXECUTION, CAPACITY = "EXECUTION_ERROR", "CAPACITY_REACHED"


def _object(title: str, required: list[str], **properties: Any) -> dict[str, Any]:
    """The JSON schema of an object. properties: {name: its schema}, to which `metadata` is added."""
    schemas = {**properties, "metadata": {"type": "object", "additionalProperties": True}}
    return {
        "title": title,
        "type": "object",
        "properties": {name: {"title": name, **schema} for name, schema in schemas.items()},
        "required": required,
    }


_TEXT: dict[str, Any] = {"type": "string"}
_CHAT = {"anyOf": [_TEXT, {"type": "array", "items": {"type": "object"}}]}
SCHEMA = {
    "action": {
        **_object(
            "CompletionAction",
            required=["completion"],
            completion={**_TEXT, "description": "What the model writes."},
        ),
        "additionalProperties": False,
    },
    "observation": _object(
        "PromptObservation",
        required=[],
        prompt={**_CHAT, "description": "What the model reads next; a text, or a chat."},
        reply={**_TEXT, "description": "What the environment answered."},
        completion_prefix={
            **_TEXT,
            "description": "The beginning of the completion, which the model continues.",
        },
        completion_template={**_TEXT, "description": "A text with holes, which the completion fills."},
        done={"type": "boolean"},
        reward={"anyOf": [{"type": "number"}, {"type": "null"}]},
    ),
    "state": _object("State", required=[], episode_id=_TEXT, step_count={"type": "integer"}),
}


@dataclass
class Session:
    """The episode of one client."""

    id: str
    split: str = "train"
    index: int = -1
    """The number of the problem in its split; -1 before the first `reset`."""
    problem: Problem | None = None
    """The problem that is played; None before the first `reset`."""
    turns: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    done: bool = False
    last_used: float = field(default_factory=time.monotonic)
    """In seconds, by `time.monotonic`."""
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the request that changes the episode."""


class OpenEnvFront(Front):
    """Answers clients of OpenEnv."""

    def __init__(self, queue: Queue, token: str, tasks: Mapping[str, str]) -> None:
        """tasks: {a task's name in addresses: its name as the user wrote it}."""
        super().__init__(queue, token)
        self.tasks = tasks
        # Episodes over HTTP, by task and id.
        self.sessions: dict[tuple[str, str], Session] = {}
        self.connected = 0  # how many WebSockets are open; each is a session, too
        routes: list[BaseRoute] = [
            Route("/", self._page),
            Route("/list_environments", self._list),  # all tasks; /TASK/list_environments has only that one
            Route("/schema", self._show_schema),  # the same for all tasks
        ]
        for task in tasks:
            # A client of OpenEnv's task API takes /TASK as its base and adds the task's name again: /TASK/TASK/splits.
            for base in (f"/{task}", f"/{task}/{task}", *([""] if len(tasks) == 1 else [])):
                routes += [
                    Route(f"{base}/{verb}", self._endpoint(verb, task), methods=[VERBS[verb]])
                    for verb in VERBS
                ]
                routes += [
                    Route(f"{base}/health", self.health),
                    WebSocketRoute(f"{base}/ws", partial(self._play, task)),
                ]
        self.router.routes += routes

    def _endpoint(self, verb: str, task: str) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint that answers by the method `_http_VERB`."""
        answer = getattr(self, f"_http_{verb}")

        async def endpoint(request: Request) -> Response:
            return JSONResponse(await answer(task, request.url.query, await self.body(request)))

        endpoint.__name__ = verb  # the address in metrics
        return endpoint

    def nothing_at(self, path: str) -> str:
        task, _, verb = path.strip("/").partition("/")
        if task in self.tasks:
            return f"There is no {verb!r:.40} of a task. There are: {', '.join(VERBS)}, and ws."
        addresses = ", ".join(f"/{task}/reset" for task in list(self.tasks)[:5])
        near = did_you_mean(task, self.tasks)
        return f"Nothing is served at this address. {near}There are, for example: {addresses}."

    async def _page(self, _: Request) -> Response:
        names = json.dumps(dict(self.tasks)).replace("<", "\\u003c")
        page = PAGE.read_text(encoding="utf-8").replace("{{tasks}}", names)
        policy = (
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
        )
        return HTMLResponse(page, headers={"content-security-policy": policy})

    async def _list(self, _: Request) -> Response:
        return JSONResponse(list(self.tasks))

    async def _show_schema(self, _: Request) -> Response:
        return JSONResponse(SCHEMA)

    # The methods `_http_VERB` answer requests over HTTP, one for each of VERBS. They return values that JSON has.

    async def _http_schema(self, task: str, query: str, body: bytes) -> dict[str, Any]:
        return SCHEMA

    async def _http_metadata(self, task: str, query: str, body: bytes) -> dict[str, Any]:
        about = await self._ask_worker(task, "about", {"split": "train"})
        return {
            "name": f"{about['id']} {about['name']}",
            "description": about["description"],
            "version": about["version"],
            "author": "spg-trainer",
            "readme_content": None,
        }

    async def _http_list_environments(self, task: str, query: str, body: bytes) -> list[str]:
        return [task]

    async def _http_splits(self, task: str, query: str, body: bytes) -> list[dict[str, str]]:
        return [{"name": split, "type": split} for split in SPLITS]

    async def _http_num_tasks(self, task: str, query: str, body: bytes) -> dict[str, int]:
        split = _split(read_object(body, "The body"))
        about = await self._ask_worker(task, "about", {"split": split})
        return {"num_tasks": about["problems"][split]}

    async def _http_reset(self, task: str, query: str, body: bytes) -> dict[str, Any]:
        request = read_object(body, "The body") if body.strip() else {}
        name = request.get("episode_id")
        session = Session(_valid_id(name) or uuid.uuid4().hex)
        if (task, session.id) in self.sessions:
            raise HTTPException(
                422, f'"episode_id" {shown(name)} is taken; choose another, or leave it out for a new one.'
            )
        self._forget_idle()
        if len(self.sessions) + self.connected >= MAX_SESSIONS:
            raise HTTPException(503, f"There are {MAX_SESSIONS:,} sessions already. Send this again later.")
        result = await self._reset(task, session, request)
        self.sessions[task, session.id] = session
        return result

    async def _http_step(self, task: str, query: str, body: bytes) -> dict[str, Any]:
        request = read_object(body, "The body")
        session = self._session(task, request.get("episode_id"))
        return await self._step(task, session, request.get("action"))

    async def _http_state(self, task: str, query: str, body: bytes) -> dict[str, Any]:
        ids = parse_qs(query).get("episode_id", [None])
        return self._state(task, self._session(task, ids[0]))

    def _session(self, task: str, name: Any) -> Session:
        """The episode that a request names, now the last used one; raises HTTPException if there is none."""
        if name is None:
            advice = "the one that /reset returned in the metadata; over a WebSocket none is needed"
            raise HTTPException(422, f'"episode_id" is missing: {advice}.')
        session = self.sessions.pop((task, _valid_id(name) or ""), None)
        if session is None:
            raise HTTPException(
                404,
                f'There is no episode {shown(name)} of this task; call /reset, which returns an "episode_id".',
            )
        self.sessions[task, session.id] = session  # at the end: they are in the order of their last use
        session.last_used = time.monotonic()
        return session

    def _forget_idle(self) -> None:
        """Forgets episodes that have not been used for long; they come first, since `_session` orders by last use."""
        limit = time.monotonic() - IDLE_SECONDS
        idle = list(takewhile(lambda name: self.sessions[name].last_used < limit, self.sessions))
        for name in idle:
            del self.sessions[name]

    async def _ask_worker(self, task: str, what: str, job: Mapping[str, Any]) -> Any:
        """A worker's answer about a task; raises `Failed`."""
        return json.loads(await self.answer(f"{task}/{what}", json.dumps(job).encode()))

    async def _reset(self, task: str, session: Session, given: Mapping[str, Any]) -> dict[str, Any]:
        """Starts an episode; returns the first observation as it goes over the wire."""
        index, seed = _whole_number(given, "index"), _whole_number(given, "seed")
        job = {"split": _split(given), "index": index, "seed": seed}
        known = ("split", "index", "seed", "episode_id")
        if unknown := [name for name in given if name not in known]:
            near = did_you_mean(unknown[0], known)
            raise HTTPException(
                422, f"reset() takes no {shown(unknown[0])}. {near}It takes: {', '.join(known)}."
            )
        async with session.one_at_a_time:
            first_answer = await self._ask_worker(task, "reset", job)
            about = await self._ask_worker(task, "about", {"split": job["split"]})
            session.split, session.index, session.done = job["split"], first_answer.pop("index"), False
            session.problem = Problem(first_answer["prompt"], {})
            session.turns, session.replies = [], []
        about_the_task = {
            name: about[name] for name in ("name", "version", "max_turns", "reward_weights", "reward_ranges")
        }
        observation = {**first_answer, "reply": ""}
        return self._result(task, session, observation, reward=None, further_metadata=about_the_task)

    async def _step(self, task: str, session: Session, action: Any) -> dict[str, Any]:
        """Takes a completion; returns the observation as it goes over the wire."""
        if not isinstance(action, dict) or not isinstance(action.get("completion"), str):
            raise HTTPException(
                422, f'The action must be {{"completion": "what the model wrote"}}, not {shown(action)}.'
            )
        if unknown := [name for name in action if name not in ("completion", "metadata")]:
            raise HTTPException(422, f"The action has no field {shown(unknown[0])}; it has completion.")
        async with session.one_at_a_time:
            if session.problem is None:
                raise HTTPException(422, "There is no episode yet: call reset first.")
            if session.done:
                raise HTTPException(422, "The episode is over: call reset for the next one.")
            turns = [*session.turns, action["completion"]]
            job = {"split": session.split, "index": session.index, "turns": turns, "replies": session.replies}
            step = await self._ask_worker(task, "step", job)
            # The session changes only now, so that after an error the step can be taken again.
            session.turns, session.done = turns, step.pop("done")
            reply = step.pop("reply", "")
            if not session.done:
                session.replies.append(reply)
            prompt = "" if session.done else chat(session.problem, session.turns, session.replies)
        observation = {"prompt": prompt, "reply": reply, "completion_prefix": "", "completion_template": ""}
        reward = step.pop("reward", 0.0)
        further_metadata = step  # what is left of the worker's answer
        return self._result(task, session, observation, reward, further_metadata)

    def _result(
        self,
        task: str,
        session: Session,
        observation: dict[str, Any],
        reward: float | None,
        further_metadata: Mapping[str, Any],
    ) -> dict[str, Any]:
        """An observation, with its metadata both inside and beside it: not all clients of OpenEnv read both places."""
        metadata = {
            "task": task,
            "split": session.split,
            "index": session.index,
            "episode_id": session.id,
            **further_metadata,
        }
        observation = {**observation, "metadata": metadata}
        return {"observation": observation, "reward": reward, "done": session.done, "metadata": metadata}

    def _state(self, task: str, session: Session) -> dict[str, Any]:
        """The answer to `state`."""
        our_fields = {"task": task, "split": session.split, "index": session.index, "done": session.done}
        return {"episode_id": session.id, "step_count": len(session.turns), **our_fields}

    async def _play(self, task: str, socket: WebSocket) -> None:
        """Answers the messages of a WebSocket, which is a session."""
        await socket.accept()
        if len(self.sessions) + self.connected >= MAX_SESSIONS:
            await socket.send_json(_error(CAPACITY, f"There are {MAX_SESSIONS:,} sessions already."))
            await socket.close(1013)
            return
        session = Session(uuid.uuid4().hex)
        self.connected += 1
        try:
            while (message := await socket.receive())["type"] == "websocket.receive":
                answer = await self._answer(task, session, message)
                if answer is None:
                    await socket.close()
                    return
                await socket.send_json(answer)
        finally:
            self.connected -= 1

    async def _answer(self, task: str, session: Session, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer to a message of a WebSocket; None for `close`."""
        began = time.perf_counter()
        label, status = "ws", 200
        try:
            try:
                request = read_object(message.get("text") or "", "The message")
            except HTTPException as refusal:
                status = refusal.status_code
                return _error(INVALID_JSON, refusal.detail)
            kind, data = request.get("type"), request.get("data", {})
            if kind not in ("reset", "step", "state", "close"):
                status = 422
                return _error(
                    UNKNOWN_TYPE,
                    f"There is no message of type {shown(kind)}; use reset, step, state or close.",
                )
            label = f"ws {kind}"
            if kind == "close":
                return None
            if kind == "state":
                return {"type": "state", "data": self._state(task, session)}
            if not isinstance(data, dict):
                status = 422
                return _error(VALIDATION, f'"data" must be an object, not {shown(data)}.')
            try:
                if kind == "step":
                    return {"type": "observation", "data": await self._step(task, session, data)}
                session.id = _valid_id(data.get("episode_id")) or uuid.uuid4().hex
                return {"type": "observation", "data": await self._reset(task, session, data)}
            except HTTPException as refusal:
                status = refusal.status_code
                return _error(EXECUTION if isinstance(refusal, Failed) else VALIDATION, refusal.detail)
        finally:
            self.count(label, status, began)


def _error(code: str, text: str) -> dict[str, Any]:
    """The message of an error over a WebSocket."""
    return {"type": "error", "data": {"message": text, "code": code}}


def _split(given: Mapping[str, Any]) -> str:
    """The split that a request names; "train" if it names none."""
    split = given.get("split")
    if split is None:
        return "train"
    if split not in SPLITS:
        raise HTTPException(422, f"split {shown(split)} is unknown; use {', '.join(SPLITS)}.")
    return split


def _whole_number(given: Mapping[str, Any], name: str) -> int | None:
    """The whole number that a request gives under a name; None if it gives none."""
    value = given.get(name)
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 63):
        raise HTTPException(
            422, f'"{name}" is {shown(value)}; it must be a whole number, at least 0 and below 2**63.'
        )
    return value


def _valid_id(name: Any) -> str | None:
    """Returns `name` if it is None or a valid id of an episode; raises HTTPException otherwise."""
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= 255):
        raise HTTPException(
            422, f'"episode_id" is {shown(name)}; it must be a text of at most 255 characters.'
        )
    return name
