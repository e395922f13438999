"""One environment class for each OpenEnv server: `openenv:http://127.0.0.1:8000`.

The server's environment plays, scores and keeps its data; only prompts, completions and numbers are exchanged. A
problem is the episode that `reset` begins with the problem's seed, so the environment must depend on its seed alone.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np

from envs.adapters.openenv.client import Client, Result, ask, need_websockets
from envs.authoring.async_calls import Limits, call_all, value_of
from envs.core import TextEnv
from envs.errors import EnvError, check_choice
from envs.problem import Problem, Prompt, Score, check_index, is_full
from envs.splits import SPLITS
from verifiers.errors import did_you_mean, shown

SIZES = {"train": 1_000_000, "validation": 256, "test": 256}
"""How many seeds each split has, if the server does not say how many problems it has."""
MAX_TURNS = 10
"""The most turns of an episode, if the server does not say."""
TEXT_FIELDS = (
    "reply",
    "prompt",
    "text",
    "message",
    "messages",
    "response",
    "question",
    "observation",
    "content",
    "output",
)
"""Fields of observations that hold what the model is to read, the likeliest first."""


class OpenEnv(TextEnv):
    """The environment of the OpenEnv server at `address`.

    Rewards: if the server is `python -m envs serve`, those that the server names; if it is another one,
        correct (0 or 1): the reward is 1 or more.
        reward: the sum of the rewards of all steps.
    """

    reward_weights: Mapping[str, float] = {"correct": 0.0, "reward": 1.0}
    reward_ranges: Mapping[str, tuple[float, float]] = {"reward": (-np.inf, np.inf)}
    address: ClassVar[str] = ""

    def __init__(
        self,
        split: str = "train",
        action: str | None = None,
        observation: str | None = None,
        max_turns: int | None = None,
        num_problems: int | None = None,
        sessions: int = 16,
        timeout: float = 60.0,
    ) -> None:
        """Opens one split; raises EnvError if no such server answers, or if it shows no text.

        Args:
            action: the field of an action that takes the completion; None = the only text field that the
                server requires.
            observation: the field of an observation that the model reads; None = the first of `TEXT_FIELDS` that holds
                something.
            max_turns: the most completions of an episode; None = what the server says, else 10.
            num_problems: how many problems this split has; None = what the server says, else a million seeds for
                training and 256 others for each other split.
            sessions: the most episodes that each process of a run plays at once.
            timeout: the seconds that an answer of the server may take.
        """
        check_choice(self._shown_name, "split", split, SPLITS)
        for name, value in (("max_turns", max_turns), ("num_problems", num_problems), ("sessions", sessions)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise EnvError(
                    f"{self._shown_name}: {name}={value!r:.80} must be a whole number, at least 1."
                )
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise EnvError(
                f"{self._shown_name}: timeout={timeout!r:.80} must be a number of seconds above 0."
            )
        need_websockets()
        self.split, self.observation = split, observation
        self.score_concurrency, self.score_timeout = sessions, float(timeout)
        self._length, self._by_index = _size(self.address, split, num_problems)
        self._client = Client(self.address, _action_field(self._shown_name, self.address, action), sessions)
        first_index = 0
        first = self._await(self._client.result(self._reset_arguments(first_index), turns=()))
        self._read_first(first, first_index)  # raises if there is no text to read
        metadata = first.metadata
        self.max_turns = max_turns or int(metadata.get("max_turns", MAX_TURNS))
        # Only `python -m envs serve` gives weights.
        self._is_ours = isinstance(metadata.get("reward_weights"), dict)
        if self._is_ours:
            weights = metadata["reward_weights"]
            self.reward_weights = {name: float(weight) for name, weight in weights.items()}
            # JSON has no infinity: None stands for an end that is infinite.
            self.reward_ranges = {
                name: (-np.inf if low is None else low, np.inf if high is None else high)
                for name, (low, high) in metadata.get("reward_ranges", {}).items()
            }
        about = ask(self.address, "/metadata") or {}
        self.origin = {self.address: f"{about.get('name', 'no name')}, version {about.get('version')}"}

    @property
    def _shown_name(self) -> str:
        """The name in messages."""
        return f"openenv:{self.address}"

    @property
    def spec_name(self) -> str:
        """The address without its scheme, and the arguments that shape the task."""
        parts = urlsplit(self.address)
        hidden = ("split", "sessions", "timeout")  # arguments that do not shape the task
        shown_arguments = [
            f"{name}={value}" for name, value in self._env_arguments.items() if name not in hidden
        ]
        where = f"openenv:{parts.netloc}{parts.path}"
        return f"{where}[{','.join(shown_arguments)}]" if shown_arguments else where

    def __len__(self) -> int:
        return self._length

    def problem(self, index: int) -> Problem:
        number = check_index(self, index)
        first = self._await(self._client.result(self._reset_arguments(number), turns=()))
        return self._read_first(first, number)

    def _read_first(self, result: Result, index: int) -> Problem:
        """The problem that the answer to a `reset` shows, with its number `index` in the split."""
        texts = [result.observation.get(name) or "" for name in ("completion_prefix", "completion_template")]
        prefix, template = (text if isinstance(text, str) else "" for text in texts)
        prompt = self._text(result)
        if not prompt:
            raise EnvError(f"{self._shown_name}: reset() shows no text. {self._advice(result)}")
        return Problem(prompt, {"index": index}, prefix, completion_template=template)

    def _reset_arguments(self, index: int) -> dict[str, Any]:
        """The arguments of `reset` for a problem: split and index if the server takes them, or else a seed."""
        if self._by_index:
            return {"split": self.split, "index": index}
        # The seed modulo 3 is the place of the split in SPLITS, so no seed is in two splits.
        return {"seed": len(SPLITS) * index + SPLITS.index(self.split)}

    def _await(self, awaitable: Any) -> Any:
        """The result of an awaitable, awaited in the event loop of all `async` methods; its errors become EnvError."""
        limits = Limits(concurrency=1, seconds=self.score_timeout)
        # `call_all` takes functions: one that gives the name in messages, and those whose awaitables are awaited.
        (outcome,) = call_all(lambda: self._shown_name, [lambda: awaitable], limits)
        if outcome.error is not None:
            raise EnvError(f"{self._shown_name}: {outcome.error}.") from outcome.error
        return value_of(outcome)

    def _text(self, result: Result) -> Prompt:
        """The text or chat of an observation that the model reads; "" if there is none."""
        names = TEXT_FIELDS if self.observation is None else (self.observation,)  # the fields to look at
        if self.observation is not None and self.observation not in result.observation:
            raise EnvError(
                f"{self._shown_name}: observation={self.observation} is no field. {self._advice(result)}"
            )
        found = next((result.observation[name] for name in names if result.observation.get(name)), None)
        if found is None and self.observation is None:
            # A field of another name is read if it alone holds a text.
            fields = result.observation.items()
            texts = [text for name, text in fields if isinstance(text, str) and text and name != "metadata"]
            if len(texts) > 1:
                raise EnvError(f"{self._shown_name}: which text is the model to read? {self._advice(result)}")
            found = texts[0] if texts else ""
        if isinstance(found, str) or self.observation_space.contains(found):
            return found
        return str(found) if found is not None else ""

    def _advice(self, result: Result) -> str:
        """Advice on the argument `observation`, with the fields that the server shows."""
        fields = ", ".join(f"{k}={v!r:.40}" for k, v in result.observation.items() if k != "metadata")
        near = (
            did_you_mean(self.observation, result.observation, "observation={}") if self.observation else ""
        )
        return f"{near}Give --env-args observation=FIELD; the server shows {fields or 'no fields'}."

    async def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:  # type: ignore[override]
        result = await self._client.result(self._reset_arguments(problem.reference["index"]), turns)
        if result.done and not result.metadata.get("truncated"):
            return None
        # An episode that the server has cut off gets the reply "", since None would mean that the task is over.
        text = "" if result.done else self._text(result)
        return text if isinstance(text, str) else "\n".join(message["content"] for message in text)

    async def score_turns(self, problem: Problem, turns: Sequence[str]) -> Score:  # type: ignore[override]
        reset = self._reset_arguments(problem.reference["index"])
        # The client remembers results, so this plays nothing again, unless newer results have displaced them.
        results = [await self._client.result(reset, turns[: n + 1]) for n in range(len(turns))]
        if self._is_ours:
            if not results[-1].done:
                # The episode was cut off here, by max_turns or by a prompt that was too long, and not by the server.
                return Score(dict.fromkeys(self.reward_weights, 0.0), "unfinished")
            metadata = results[-1].metadata
            rewards = {
                name: np.nan if value is None else value for name, value in metadata["rewards"].items()
            }
            return Score(rewards, metadata["reason"], metadata["extracted"])
        total = sum(result.reward for result in results)
        is_right = is_full(total)
        if is_right:
            reason = "ok"
        else:
            reason = "wrong" if results[-1].done else "unfinished"
        return Score({"correct": float(is_right), "reward": total}, reason)


def _action_field(shown_name: str, address: str, chosen: str | None) -> str:
    """The field of an action that takes the completion.

    shown_name: the environment's name in messages. chosen: the field that the user named; None = the only field that
    can take it. Raises EnvError if the server does not know `chosen`, or if several fields can take it, or none.
    """
    schema = (ask(address, "/schema") or {}).get("action") or {}
    fields = {name: value for name, value in schema.get("properties", {}).items() if name != "metadata"}
    # A field that has no type, or may have several, counts as a text if a string is possible.
    texts = [
        name
        for name, value in fields.items()
        if "string" in str(value.get("type", value.get("anyOf", "string")))
    ]
    if chosen is not None:
        if fields and chosen not in fields:
            near = did_you_mean(chosen, fields, "action={}")
            raise EnvError(
                f"{shown_name}: action={chosen} is no field of an action. {near}It has {', '.join(fields)}."
            )
        return chosen
    required_texts = [name for name in schema.get("required", []) if name in texts]
    candidates = required_texts or texts
    if len(candidates) == 1:
        return candidates[0]
    has = f"its actions have {', '.join(fields)}" if fields else "it does not say what its actions are"
    raise EnvError(
        f"{shown_name}: which field of an action takes the completion? Give --env-args action=FIELD; {has}."
    )


def _size(address: str, split: str, chosen: int | None) -> tuple[int, bool]:
    """(how many problems a split has, whether `reset` takes a split and the number of a problem in it)."""
    for name in ask(address, "/list_environments") or []:
        answer = ask(address, f"/{name}/num_tasks", {"split": split})
        if isinstance(answer, dict) and isinstance(answer.get("num_tasks"), int):
            known = answer["num_tasks"]
            if known < 1:
                raise EnvError(f"openenv:{address} has no problems for {split}.")
            takes_index = True
            return min(known, chosen or known), takes_index
    takes_index = False  # `reset` takes a seed instead
    return chosen or SIZES[split], takes_index


@cache
def class_of(address: str) -> type[OpenEnv]:
    """The environment class of a server, which is not contacted before it is opened; EnvError for a bad address."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EnvError(
            f"openenv:{address}: write the address of the server, e.g. openenv:http://127.0.0.1:8000."
        )
    if "@" in parts.netloc:
        raise EnvError(
            f"openenv:{parts.scheme}://...@{parts.hostname}: a token in the address would be written into the files of "
            "the run; set the environment variable SPG_SERVE_TOKEN in its place."
        )
    address = address.rstrip("/")
    doc = f"The environment of the OpenEnv server at {shown(address)}."
    return type("OpenEnv", (OpenEnv,), {"address": address, "__doc__": doc, "__module__": __name__})
