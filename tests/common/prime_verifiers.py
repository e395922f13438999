"""A stand-in for Prime Intellect's package `verifiers`, with what `envs.adapters.verifiers_package.inside` asks of it.

Whether the real one answers alike is tried by a test that installs it.
"""

import sys
from pathlib import Path

MODULES = {
    "__init__": "__version__ = '0.4.0'\n",
    "v1/__init__": """
import inspect
from types import SimpleNamespace


class TaskData:
    image = system_prompt = prompt = None

    def __init__(self, **fields):
        self.__dict__.update(fields)


class Task:
    NEEDS_CONTAINER = False

    def __init__(self, data, config=None):
        self.data, self.config = data, config
        self.hash = self.key = str(sorted(vars(data).items(), key=str))

    async def setup(self, trace, runtime): ...

    async def finalize(self, trace, runtime): ...

    @classmethod
    def toolsets(cls, config):
        return []

    def plugged_judges(self):
        return []

    def hooks(self, attr):
        return [getattr(self, n) for n in sorted(dir(type(self))) if hasattr(getattr(type(self), n), attr)]

    async def score(self, trace, runtime=None):
        for reward in self.hooks("reward"):
            value, weight = await reward(trace), reward.weight
            trace.rewards[reward.__name__] = SimpleNamespace(value=value * weight)


class Taskset:
    def __init__(self, config):
        self.config = config

    def __iter__(self):
        return iter(self.load())

    @classmethod
    def toolsets(cls, config):
        return []


def reward(weight=1.0):
    def mark(function):
        function.reward, function.weight = True, weight
        return function

    return mark


class Trace:
    def __init__(self, task, state, agent):
        self.nodes, self.rewards = [], {}

    @property
    def last_reply(self):
        return [node.message.content for node in self.nodes if node.sampled][-1]

    @property
    def reward(self):
        return sum(reward.value for reward in self.rewards.values())


AgentInfo = AgentConfig = SimpleNamespace
""",
    "v1/configs/__init__": "",
    "v1/configs/taskset": """
class TasksetConfig:
    @classmethod
    def model_validate(cls, fields):
        config = cls()
        if unknown := set(fields) - {"id", "num_tasks"}:
            raise ValueError(f"unknown {unknown}")
        config.__dict__.update(fields)
        return config
""",
    "v1/utils/__init__": "",
    "v1/utils/generic": "def concrete_type(cls, bound):\n    return None\n",
    "v1/utils/loaders": """
import importlib


class SingleAgentEnv: ...


def taskset_class(name):
    module = importlib.import_module(name.replace("-", "_"))
    return getattr(module, module.__all__[0])


def environment_class(name):
    return getattr(importlib.import_module(name.replace("-", "_")), "Env", SingleAgentEnv)


def default_harness_id(name):
    return "bash"
""",
    "v1/graph": """
from types import SimpleNamespace


def MessageNode(message, parent=None, sampled=False):
    return SimpleNamespace(message=message, parent=parent, sampled=sampled)
""",
    "v1/state": "def state_cls(cls):\n    return object\n",
    "v1/trace": "from types import SimpleNamespace as TraceTask\n",
    "v1/types": "from types import SimpleNamespace as SystemMessage\nUserMessage = AssistantMessage = SystemMessage\n",
}
TASKSET = """
import time

import verifiers.v1 as vf


class SumTask(vf.Task):
    @vf.reward(weight=1.0)
    async def right(self, trace) -> float:
        if trace.last_reply == "raise":
            raise ValueError("not a number")
        while trace.last_reply == "hang":
            time.sleep(0.01)
        return float(trace.last_reply == str(self.data.answer))

    @vf.reward(weight=0.5)
    async def short(self, trace) -> float:
        return 1 / (1 + len(trace.last_reply))
{more}

{data}
class SumTaskset(vf.Taskset{typed}):
    def load(self):
        count = getattr(self.config, "num_tasks", 40)
        return [SumTask(SumData(prompt=f"{{i}} + {{i}}", answer=2 * i{fields}), None) for i in range(count)]


__all__ = ["SumTaskset"]
"""


def taskset(
    more: str = "", data: str = "SumData = vf.TaskData\n\n", typed: str = "", fields: str = ""
) -> str:
    """The source of a taskset."""
    return TASKSET.format(more=more, data=data, typed=typed, fields=fields)


def python_with(folder: Path, tasksets: dict[str, str], modules: dict[str, str] | None = None) -> str:
    """A program that is this Python, with the stand-in and some tasksets in place of what is on its path."""
    packages = folder / "packages"
    for name, code in (MODULES if modules is None else modules).items():
        file = packages / "verifiers" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    packages.mkdir(exist_ok=True)
    for name, code in tasksets.items():
        (packages / f"{name}.py").write_text(code)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return str(program)
