"""Runs in another Python, which has the package `verifiers` of Prime Intellect, and gives its tasks and their rewards.

It is started as `PYTHON -P inside.py NAME SETTINGS COUNT PIPE`, imports nothing of ours, and answers like a worker of
our `verifiers.worker`. In this file `verifiers` is the other package, in version 0.4.0. Tasks of one turn, whose
rewards only need the trace (the record of an episode), are scored without a runtime, as in the package's own `replay`.
"""

import asyncio
import inspect
import itertools
import json
import os
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from queue import SimpleQueue


class Refused(Exception):
    """Tasks that cannot be used here; the text ends the sentence "verifiers:NAME ..."."""


def find_package():
    """The module `verifiers.v1`; raises Refused if the package is missing, ours, or too old to have it."""
    advice = "Give the Python of an environment with it: --env-args python=OTHER/bin/python"
    try:
        import verifiers
    except ModuleNotFoundError:
        raise Refused(
            f"needs the package verifiers, which {sys.executable} does not have. {advice}"
        ) from None
    if hasattr(verifiers, "__spg_trainer__"):
        raise Refused(
            f"cannot be opened by {sys.executable}, whose `verifiers` is that of spg-trainer. {advice}"
        )
    try:
        import verifiers.v1 as package
    except ModuleNotFoundError as error:
        if error.name != "verifiers.v1":
            raise
        has = getattr(verifiers, "__version__", "unknown")
        raise Refused(
            f"needs verifiers 0.4 or newer, which has `verifiers.v1`; {sys.executable} has {has}"
        ) from None
    return package


def open_tasks(name, settings, count):
    """The first `count` tasks; raises Refused if they cannot be scored by a reply alone."""
    package = find_package()
    from verifiers.v1.configs.taskset import TasksetConfig
    from verifiers.v1.utils import loaders
    from verifiers.v1.utils.generic import concrete_type

    taskset_class = loaders.taskset_class(name)
    config_class = concrete_type(taskset_class, TasksetConfig) or TasksetConfig
    config = config_class.model_validate({"id": name, **settings})
    environment = loaders.environment_class(name)
    if environment is not loaders.SingleAgentEnv:
        raise Refused(
            f"is refused: it has an environment of its own, {environment.__name__}, not a single agent"
        )
    if loaders.default_harness_id(name) == name:
        raise Refused("is refused: it has a harness of its own, so a reply alone is no rollout of it")
    tasks = list(itertools.islice(iter(taskset_class(config)), count))
    if not tasks:
        raise Refused("has no tasks")
    task_class = type(tasks[0])
    if task_class.toolsets(tasks[0].config) or taskset_class.toolsets(config):
        raise Refused("is refused: its tasks have tools")
    if task_class.NEEDS_CONTAINER or any(getattr(task.data, "image", None) for task in tasks):
        raise Refused("is refused: its tasks need a container")
    for hook in ("setup", "finalize"):
        if getattr(task_class, hook) is not getattr(package.Task, hook):
            raise Refused(f"is refused: its tasks have a {hook} hook, which needs a runtime")
    if tasks[0].plugged_judges():
        raise Refused("is refused: its tasks are scored by a judge, which needs a network")
    rewards = tasks[0].hooks("reward")
    if not rewards:
        raise Refused("has no rewards")
    for reward in (*rewards, *tasks[0].hooks("metric")):
        runtime = inspect.signature(reward).parameters.get("runtime")
        if runtime is not None and runtime.default is inspect.Parameter.empty:
            raise Refused(f"is refused: {reward.__name__} needs a runtime")
    return tasks


def prompt_of(task):
    """A task's prompt, a text or a list of {"role", "content"}; raises Refused if it is none of these."""
    data = task.data
    if data.prompt is None:
        raise Refused("is refused: the conversation is opened by a user whom a model plays")
    messages = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
    if isinstance(data.prompt, str):
        return [*messages, {"role": "user", "content": data.prompt}] if messages else data.prompt
    for message in data.prompt:
        content = message.content
        if isinstance(content, list) and all(getattr(part, "type", "") == "text" for part in content):
            content = "".join(part.text for part in content)
        if message.role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise Refused("is refused: a prompt holds more than texts of a system, a user and an assistant")
        messages.append({"role": message.role, "content": content})
    return messages


def describe(name, tasks):
    """The reply with all that the environment needs to know of the tasks; its outcome is "", which means success."""
    versions = {}
    package_of_taskset = name.rsplit("/", 1)[-1].split("@", 1)[0]  # "owner/gsm8k@1.0" -> "gsm8k"
    for distribution in ("verifiers", package_of_taskset):
        try:
            versions[distribution] = f"version {version(distribution)}"
        except PackageNotFoundError:
            pass
    return {
        "outcome": "",
        "prompts": [prompt_of(task) for task in tasks],
        "hashes": [task.hash for task in tasks],
        "versions": versions,
    }


def score(task, completion):
    """The reply with each of the task's rewards for a completion ("paid"), and the package's weighted sum of them."""
    import verifiers.v1 as package
    from verifiers.v1.graph import MessageNode
    from verifiers.v1.state import state_cls
    from verifiers.v1.trace import TraceTask
    from verifiers.v1.types import AssistantMessage, SystemMessage, UserMessage

    kinds = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}
    trace = package.Trace(
        task=TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        state=state_cls(type(task))(),
        agent=package.AgentInfo(config=package.AgentConfig(), name="agent"),
    )
    prompt = prompt_of(task)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    # A trace is a tree of messages; here each message is the only child of the one before it.
    for number, message in enumerate(messages):
        typed_message = kinds[message["role"]](content=message["content"])
        trace.nodes.append(MessageNode(parent=number - 1 if number else None, message=typed_message))
    reply = AssistantMessage(content=completion)
    trace.nodes.append(MessageNode(parent=len(messages) - 1, message=reply, sampled=True))
    asyncio.run(task.score(trace, runtime=None))
    paid = {name: reward.value for name, reward in trace.rewards.items() if reward is not None}
    return {"outcome": "", "reward": float(trace.reward), "paid": paid}


def answer(name, tasks, job):
    """The reply to a job: all tasks, or the rewards of a completion of one."""
    if job["ask"] == "tasks":
        return describe(name, tasks)
    task = tasks[job["index"]]
    if task.hash != job["hash"]:  # each process opens the tasks by itself
        return {"outcome": "error", "detail": "its tasks are others in another process"}
    return score(task, job["completion"])


def read_jobs(pipe, jobs):
    """Puts jobs from the pipe into the queue; ends this process at once when the other end of the pipe is closed."""
    try:
        while True:
            jobs.put(pipe.recv())
    finally:
        os._exit(0)


def main():
    """Opens the tasks, reports success or the reason of failure, and then answers one job after the other."""
    name, settings, count, pipe_number = sys.argv[1:]
    pipe = Connection(int(pipe_number))
    try:
        tasks = open_tasks(name, json.loads(settings), int(count))
        for task in tasks:
            prompt_of(task)  # raises for a prompt that cannot be used
    except Refused as refused:
        pipe.send_bytes(json.dumps({"unavailable": str(refused)}).encode())
        return
    except Exception as error:  # whatever the package, a taskset and its data can raise
        why = f"cannot be opened ({type(error).__name__}: {str(error)[:300]})"
        pipe.send_bytes(json.dumps({"unavailable": why}).encode())
        return
    pipe.send_bytes(b'{"ready": true}')
    jobs = SimpleQueue()
    threading.Thread(target=read_jobs, args=(pipe, jobs), daemon=True).start()
    while True:
        job = jobs.get()
        try:
            reply = answer(name, tasks, job)
        except Exception as error:
            reply = {"outcome": "error", "detail": f"{type(error).__name__}: {str(error)[:300]}"}
        pipe.send_bytes(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
