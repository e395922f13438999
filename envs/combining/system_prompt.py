"""`system_prompt=TEXT` or `system_prompt=@FILE` for any task: a system message before every prompt."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from envs.combining.wrapper import TaskWrapper
from envs.errors import EnvError
from envs.problem import Problem, read_problem
from envs.task import Task


class SystemPrompt(TaskWrapper):
    """Shows each prompt of `task` as a chat that begins with a system message. Problems stay in their splits."""

    def __init__(self, task: Task, system_prompt: str) -> None:
        """Raises EnvError for a file that cannot be read, and for an empty text.

        system_prompt: the message, or "@" and the path of a file with the message, in UTF-8; a line break at its end
            is left out.
        """
        super().__init__(task)
        self.system_prompt = system_prompt
        self._file_origin: dict[str, str] = {}
        if isinstance(system_prompt, str) and system_prompt.startswith("@"):
            path = system_prompt.removeprefix("@")
            file = Path(path).expanduser()
            try:
                raw = file.read_bytes()
                self.system_prompt = raw.decode().removesuffix("\n").removesuffix("\r")
            except (OSError, UnicodeDecodeError) as error:
                raise EnvError(
                    f"{task.spec_name}: system_prompt={system_prompt} cannot be read: {error}. Name a file with the "
                    f"text of the system message, from {Path.cwd()}."
                ) from error
            self._file_origin = {path: f"sha256 {hashlib.sha256(raw).hexdigest()}"}
        if not isinstance(self.system_prompt, str) or not self.system_prompt.strip():
            raise EnvError(
                f"{task.spec_name}: system_prompt={system_prompt!r:.80} has no text. Give the system message, or "
                "@FILE for a file with it."
            )

    @property
    def origin(self) -> Mapping[str, str]:  # type: ignore[override]
        return {**self.inner.origin, **self._file_origin}

    def problem(self, index: int) -> Problem:
        problem = read_problem(self.inner, index)
        prompt = problem.prompt
        chat = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        if chat and chat[0]["role"] == "system":
            raise EnvError(
                f"{self.spec_name}: problem {index} has a system message of its own, so it takes no system_prompt."
            )
        return replace(problem, prompt=[{"role": "system", "content": self.system_prompt}, *chat])
