"""Talks to an OpenEnv server: a few questions over HTTP, and episodes over WebSockets, which are reused.

Written from the sources of openenv-core 0.3 and openenv 0.10, which need not be installed here.
"""

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from envs.errors import EnvError, MissingPackage
from verifiers.serve.command import TOKEN_VARIABLE, is_loopback

ATTEMPTS = 4
"""How often a message is tried if the connection is lost, so that a restart of the server goes unnoticed."""
MAX_RESULTS = 20_000
"""How many results of steps are remembered."""
MAX_ANSWER_BYTES = 100 << 20
"""The most bytes of an answer."""


class ServerError(Exception):
    """The server answered with an error."""


class NotReproducible(Exception):
    """The server gave another result than before."""


class Result(NamedTuple):
    """An observation: its fields, the reward, whether the episode is over, and the metadata."""

    observation: Mapping[str, Any]
    reward: float
    done: bool
    metadata: Mapping[str, Any]


Place = tuple[str, tuple[str, ...]]
"""The state of an episode: the arguments of its `reset` as JSON, and the completions so far."""


def ask(address: str, path: str, body: Any = None, seconds: float = 30.0) -> Any:
    """The JSON at an address; None if the server has nothing there (404, 405, 501). Raises EnvError on failure."""
    request = urllib.request.Request(address + path, headers=_headers())
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    # A server on this machine is asked directly, even if the environment variables name a proxy.
    direct = [urllib.request.ProxyHandler({})] if is_loopback(urlsplit(address).hostname or "") else []
    try:
        with urllib.request.build_opener(*direct).open(request, timeout=seconds) as reply:
            return json.loads(reply.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        if error.code in (404, 405, 501):
            return None
        if error.code == 401:
            raise EnvError(
                f"{address} wants a token; set the environment variable {TOKEN_VARIABLE}."
            ) from error
        raise EnvError(f"{address}{path} answers with status {error.code}.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise EnvError(f"No OpenEnv server answers at {address}: {reason}. Is it running there?") from error


def _headers() -> dict[str, str]:
    token = os.environ.get(TOKEN_VARIABLE)
    return {"Authorization": f"Bearer {token}"} if token else {}


@dataclass(eq=False)
class Session:
    """A connection to the server, and the state of its episode."""

    socket: Any
    at: Place | None = None
    """The state of the episode; None before the first episode."""

    async def say(self, kind: str, data: Mapping[str, Any]) -> Result:
        """The observation that answers a message; raises `ServerError`."""
        await self.socket.send(json.dumps({"type": kind, "data": data}))
        answer = json.loads(await self.socket.recv())
        value = answer.get("data") or {}
        if answer.get("type") == "error":
            text = f"{value.get('message', 'no message')} ({value.get('code', 'no code')})"
            if value.get("code") == "CAPACITY_REACHED":
                text += "; give --env-args sessions=N as many as the server takes, divided by the processes of the run"
            raise ServerError(text)
        observation = value.get("observation") or {}
        # Servers put the metadata beside the observation or inside it.
        metadata = value.get("metadata") or observation.get("metadata") or {}
        return Result(observation, float(value.get("reward") or 0.0), bool(value.get("done")), metadata)


@dataclass
class Connections:
    """The sessions of this process at a server, which all splits share: some servers take only one."""

    address: str
    idle: list[Session] = field(default_factory=list)
    """The sessions that are not in use; the last used one is at the end."""
    open: int = 0
    """How many sessions there are."""
    loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def session(self, wanted: Place | None, most: int) -> AsyncIterator[Session]:
        """An unused session: one that is at `wanted` (None = anywhere), a new one, or the one unused for longest.

        most: how many sessions there may be. Any error inside closes the session, since an answer may still be coming.
        """
        # The loop is another one at the first call, after a fork, and after a loop was given up.
        if self.loop is not asyncio.get_running_loop():
            self.loop, self.idle, self.open = asyncio.get_running_loop(), [], 0
        fitting = [session for session in self.idle if wanted is None or session.at == wanted]
        may_open_another = self.open < most
        if fitting or (self.idle and not may_open_another):
            session = (fitting or self.idle)[0]  # the first has been unused for longest
            self.idle.remove(session)
        else:
            self.open += 1
            try:
                session = Session(await self._connected())
            except BaseException:
                self.open -= 1
                raise
        try:
            yield session
        except BaseException:
            self.open -= 1
            session.socket.transport.abort()
            raise
        self.idle.append(session)

    async def _connected(self) -> Any:
        """A new WebSocket to the server."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus

        parts = urlsplit(self.address)
        uri = self.address.replace("http", "ws", 1) + "/ws"
        proxy = None if is_loopback(parts.hostname or "") else True
        try:
            return await connect(
                uri, additional_headers=_headers(), max_size=MAX_ANSWER_BYTES, proxy=proxy, open_timeout=30
            )
        except InvalidStatus as error:
            raise ServerError(f"{uri} refuses a WebSocket (status {error.response.status_code})") from error


connections = cache(Connections)  # {address of a server: its connections}


@dataclass
class Client:
    """Episodes at a server. A problem is a `reset` that can be repeated; a step depends only on the steps before it.

    So an episode needs no connection between its turns. If its connection is lost, it is played again in another one,
    and the server must then give the same results as before.

    address: http:// or https://. action: the field of an action that holds a completion. sessions: the most connections
    of this process at once.
    """

    address: str
    action: str
    sessions: int
    results: OrderedDict[Place, Result] = field(default_factory=OrderedDict)

    async def result(self, reset: Mapping[str, Any], turns: Sequence[str]) -> Result:
        """The server's answer to the last of `turns` in the episode of a `reset`; without turns, to the `reset`."""
        reset_json, played = json.dumps(reset), tuple(turns)
        place = (reset_json, played)
        if place in self.results:
            self.results.move_to_end(place)
            return self.results[place]
        from websockets.exceptions import ConnectionClosed

        for attempt in range(ATTEMPTS):
            wanted = (reset_json, played[:-1]) if played else None
            try:
                async with connections(self.address).session(wanted, self.sessions) as session:
                    await self._play_to(session, place)
                return self.results[place]
            except (ConnectionClosed, OSError) as error:
                if attempt == ATTEMPTS - 1:
                    raise ConnectionError(f"the server at {self.address} is gone: {error}") from error
                await asyncio.sleep(2**attempt / 2)
        raise AssertionError("unreachable")

    async def _play_to(self, session: Session, place: Place) -> None:
        """Brings a session's episode to a place; it continues from its present state if that is on the way."""
        reset, turns = place
        is_on_the_way = False
        if session.at is not None:
            present_reset, present_turns = session.at
            is_earlier = len(present_turns) < len(turns) and present_turns == turns[: len(present_turns)]
            is_on_the_way = present_reset == reset and is_earlier
        if not is_on_the_way:
            session.at = None  # unknown until the episode has begun
            self._remember((reset, ()), await session.say("reset", json.loads(reset)))
            session.at = (reset, ())
        _, played = session.at
        for num_played in range(len(played), len(turns)):
            if session.at in self.results and self.results[session.at].done:
                raise NotReproducible(f"the episode was over after {num_played} of {len(turns)} completions")
            result = await session.say("step", {self.action: turns[num_played]})
            session.at = (reset, turns[: num_played + 1])
            self._remember(session.at, result)

    def _remember(self, place: Place, result: Result) -> None:
        """Remembers a result; raises `NotReproducible` if there was another result before."""
        before = self.results.setdefault(place, result)  # `result` itself if there was none
        parts_before = (_without_metadata(before), before.reward, before.done)
        if parts_before != (_without_metadata(result), result.reward, result.done):
            reset, turns = place
            raise NotReproducible(
                f"the same reset({reset}) and the same {len(turns)} completions gave something else the second "
                "time; an environment must depend on its seed alone"
            )
        self.results.move_to_end(place)
        while len(self.results) > MAX_RESULTS:
            self.results.popitem(last=False)


def _without_metadata(result: Result) -> dict[str, Any]:
    """The fields of an observation, without its metadata, which may name the episode."""
    return {name: value for name, value in result.observation.items() if name != "metadata"}


def need_websockets() -> None:
    """Raises MissingPackage if the package `websockets` is not installed."""
    try:
        import websockets.asyncio.client  # noqa: F401
    except ImportError as error:
        raise MissingPackage("openenv: needs the package websockets; run: pip install websockets") from error
