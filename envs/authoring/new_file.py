"""The files that `python -m envs new` writes: a short working task, explained line by line."""

import keyword
import os
from pathlib import Path

from envs.errors import EnvError

TEMPLATE = '''\
"""A task for text models: which of five digits is the largest?"""

import envs


class {name}(envs.TextEnv):
    """The largest of five digits ("{id}")."""

    # The reward is the weighted sum of these components. "correct" must be among them; a weight of 0 measures only.
    reward_weights = {{"correct": 1.0, "format": 0.0}}

    def __init__(self, split="train"):
        self.split = split  # "train", "validation" or "test"

    def __len__(self):
        # How many problems the split has. They are made when they are asked for, so a large number costs nothing.
        return 100_000 if self.split == "train" else 256

    def problem(self, index):
        # The same index must always give the same problem. `draw_for` calls `draw` with a random generator that it
        # makes from the index, again and again until the result belongs to this split. A hash of the result says which
        # split that is, so that no problem is both trained and tested on.
        digits = envs.draw_for(self.split, index, self.draw)
        # What the model reads, and what its answer is judged by.
        return envs.Problem(prompt="largest of " + " ".join(digits), reference={{"digits": digits}})

    def draw(self, rng):
        # The random content of a problem, of plain strings, numbers, lists and dicts. `rng` is a generator of numpy.
        return [str(digit) for digit in rng.integers(0, 10, 5)]

    def score(self, problem, completion):
        # `completion` may be any text at all: never trust it. `judge` reads its last <answer>...</answer>, and asks the
        # function that you pass whether that answer is right. It returns a reason and two components, each 0 or 1:
        # "correct", and "format", which is 1 if the completion has exactly one <answer> block and closes it.
        truth = max(problem.reference["digits"])
        return envs.judge(completion, lambda answer: answer == truth)

    def demonstration(self, problem):
        # A completion that is always right; `sft` learns from it.
        return f"<answer>{{max(problem.reference['digits'])}}</answer>"

    def habits(self, problem):
        # Plausible completions that are often wrong, by name. `sft` can teach a base model a mix of these and of
        # demonstrations, and RL then has to prefer the right way. This makes 40% of its texts demonstrations (`right`):
        # python -m spg_trainer sft --env {file}:{id} --mix right=0.4 first=0.6
        return {{"first": f"<answer>{{problem.reference['digits'][0]}}</answer>"}}


envs.register("{id}", {name})
'''


TURNS = '''\
"""A task of up to three turns: the largest of five digits, then the smallest, then the difference of the two."""

import envs


class {name}(envs.TextEnv):
    """Three questions about five digits, each asked after the answer to the one before ("{id}")."""

    # The reward is the weighted sum of these components. "correct" must be among them; a weight of 0 measures only.
    reward_weights = {{"correct": 1.0, "format": 0.0}}

    # The most completions that the model writes in an episode. Before each it is shown the chat so far.
    max_turns = 3

    def __init__(self, split="train"):
        self.split = split  # "train", "validation" or "test"

    def __len__(self):
        # How many problems the split has. They are made when they are asked for, so a large number costs nothing.
        return 100_000 if self.split == "train" else 256

    def problem(self, index):
        # The same index must always give the same problem. `draw_for` calls `draw` with a random generator that it
        # makes from the index, again and again until the result belongs to this split. A hash of the result says which
        # split that is, so that no problem is both trained and tested on.
        digits = envs.draw_for(self.split, index, self.draw)
        # What the model reads first, and what its answers are judged by.
        return envs.Problem(prompt="largest of " + " ".join(digits), reference={{"digits": digits}})

    def draw(self, rng):
        # The random content of a problem, of plain strings, numbers, lists and dicts. `rng` is a generator of numpy.
        return [str(digit) for digit in rng.integers(0, 10, 5)]

    def reply(self, problem, turns):
        # What the model reads next; None ends the episode. `turns` holds its completions so far, any text at all. The
        # same problem and completions must always give the same reply: keep no state, draw no random number.
        if envs.read_answer(turns[-1]) != self.answers(problem)[len(turns) - 1]:
            return None  # the last answer is wrong: there is nothing more to ask
        if len(turns) == 1:
            return "smallest?"
        if len(turns) == 2:
            return "largest - smallest?"
        return None  # all three questions are answered

    def answers(self, problem):
        # The right answers to the three questions.
        digits = problem.reference["digits"]
        return [max(digits), min(digits), str(int(max(digits)) - int(min(digits)))]

    def score_turns(self, problem, turns):
        # Scores the whole episode. `reply` goes on only after a right answer, so the episode is right if it has a third
        # answer and this one is right. Where the last completion alone is enough to score an episode, write
        # `score(self, problem, completion)` instead. `judge` reads the last <answer>...</answer> of a text, and asks
        # the function that you pass whether it is right. It returns a reason, "correct", and "format", which is 1 if
        # the text has exactly one <answer> block and closes it.
        difference = self.answers(problem)[2]
        return envs.judge(turns[-1], lambda answer: len(turns) == 3 and answer == difference)

    def demonstration(self, problem):
        # Completions that are always right, a list with one for each turn; `sft` learns from them.
        return [f"<answer>{{answer}}</answer>" for answer in self.answers(problem)]

    def habits(self, problem):
        # Plausible completions that are often wrong, by name. A list has a text for each turn, and a single text is
        # written at every turn until the episode ends. Here `sft` learns 40% demonstrations and 60% "biggest":
        # python -m spg_trainer sft --env {file}:{id} --mix right=0.4 biggest=0.6
        return {{"biggest": f"<answer>{{max(problem.reference['digits'])}}</answer>"}}


envs.register("{id}", {name})
'''


def with_folder(file: str) -> str:
    """The name of a file for --env, with its folder: my_task.py becomes ./my_task.py."""
    return file if os.path.isabs(file) else os.path.join(".", file)


def write_task(file: str, turns: bool = False) -> str:
    """Writes a file with a working task to start from; returns the task's id, "my/MyTask-v0" for my_task.py.

    turns: whether the task has several turns, in which it replies to the model. Raises EnvError if the file exists or
    cannot be written, if it does not end in .py, and if no class can be named after it: none.py would need a class
    `None`.
    """
    path = Path(file)
    words = path.stem.replace("-", "_").split("_")
    name = "".join(word[:1].upper() + word[1:] for word in words)  # my_task -> MyTask
    advice = "Choose a name like my_task.py, whose task is my/MyTask-v0."
    if path.suffix != ".py":
        raise EnvError(f'"{file}" does not end in .py. {advice}')
    may_name_class = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    if not may_name_class:
        raise EnvError(
            f'"{file}" would name the class of the task "{name}", which Python does not allow. {advice}'
        )
    id = f"my/{name}-v0"
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write((TURNS if turns else TEMPLATE).format(name=name, id=id, file=with_folder(file)))
    except OSError as error:
        raise EnvError(f"{file} cannot be written: {error.strerror}. Choose another file.") from error
    return id
