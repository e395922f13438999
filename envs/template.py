"""The files that `python -m envs new` writes: a whole task, short and explained line by line."""

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
        # The same index must always give the same problem. `draw_for` calls `digits` with a random generator of that
        # index until the problem belongs to this split, so that no problem is both trained and tested on.
        digits = envs.draw_for(self.split, index, self.digits)
        # What the model reads, and what its answer is judged by.
        return envs.Problem(prompt="largest of " + " ".join(digits), reference={{"digits": digits}})

    def digits(self, rng):
        # Random content of a problem, made of plain strings, numbers, lists and dicts.
        return [str(digit) for digit in rng.integers(0, 10, 5)]

    def score(self, problem, completion):
        # `completion` is any text at all: never trust it. `judge` reads the last <answer>...</answer> and returns the
        # components "correct" and "format", with a reason. Your own check is the function given to it.
        truth = max(problem.reference["digits"])
        return envs.judge(completion, lambda answer: answer == truth)

    def demonstration(self, problem):
        # A completion that is always right; `sft` learns from it.
        return f"<answer>{{max(problem.reference['digits'])}}</answer>"

    def habits(self, problem):
        # Plausible completions that are often wrong. A base model that knows one of them and the right way gives RL
        # something to choose from: spg_trainer sft --mix right=0.4 first=0.6
        return {{"first": f"<answer>{{problem.reference['digits'][0]}}</answer>"}}


envs.register("{id}", {name})
'''


TURNS = '''\
"""A task of up to three turns: the largest of five digits, then the smallest, then what is between the two."""

import envs


class {name}(envs.TextEnv):
    """Three questions about five digits, each asked after the answer to the one before ("{id}")."""

    # The reward is the weighted sum of these components. "correct" must be among them; a weight of 0 measures only.
    reward_weights = {{"correct": 1.0, "format": 0.0}}

    # The model writes at most so many completions in an episode. What it is shown is the chat so far.
    max_turns = 3

    def __init__(self, split="train"):
        self.split = split  # "train", "validation" or "test"

    def __len__(self):
        # How many problems the split has. They are made when they are asked for, so a large number costs nothing.
        return 100_000 if self.split == "train" else 256

    def problem(self, index):
        # The same index must always give the same problem. `draw_for` calls `digits` with a random generator of that
        # index until the problem belongs to this split, so that no problem is both trained and tested on.
        digits = envs.draw_for(self.split, index, self.digits)
        # What the model reads first, and what its answers are judged by.
        return envs.Problem(prompt="largest of " + " ".join(digits), reference={{"digits": digits}})

    def digits(self, rng):
        # Random content of a problem, made of plain strings, numbers, lists and dicts.
        return [str(digit) for digit in rng.integers(0, 10, 5)]

    def reply(self, problem, turns):
        # What the model reads next; None ends the episode. `turns` holds its completions so far, any text at all. The
        # same problem and completions must always give the same reply: keep no state, draw no random number.
        if envs.read_answer(turns[-1]) != self.answers(problem)[len(turns) - 1]:
            return None  # wrong: there is nothing more to ask
        return ["smallest?", "largest - smallest?", None][len(turns) - 1]

    def answers(self, problem):
        digits = problem.reference["digits"]
        return [max(digits), min(digits), str(int(max(digits)) - int(min(digits)))]

    def score_turns(self, problem, turns):
        # Scores the whole episode. Where the last completion says it all, write `score(self, problem, completion)`
        # instead. `judge` reads the last <answer>...</answer> and returns "correct" and "format", with a reason.
        truth = self.answers(problem)[len(turns) - 1]
        return envs.judge(turns[-1], lambda answer: answer == truth and len(turns) == 3)

    def demonstration(self, problem):
        # Completions that are always right, turn by turn; `sft` learns from them.
        return [f"<answer>{{answer}}</answer>" for answer in self.answers(problem)]

    def habits(self, problem):
        # Plausible completions that are often wrong. A base model that knows one of them and the right way gives RL
        # something to choose from: spg_trainer sft --mix right=0.4 biggest=0.6. A text that stands alone, without a
        # list, is written at every turn until the episode ends.
        return {{"biggest": f"<answer>{{max(problem.reference['digits'])}}</answer>"}}


envs.register("{id}", {name})
'''


def write_task(file: str, turns: bool = False) -> str:
    """Writes a working starting file; returns the id of the task in it, "my/MyTask-v0" for my_task.py.

    turns: whether it is of a task that answers back. Raises EnvError if the file exists, cannot be written, or its
    name does not make a Python name.
    """
    path = Path(file)
    name = "".join(word[:1].upper() + word[1:] for word in path.stem.replace("-", "_").split("_"))
    if path.suffix != ".py" or not (name.isascii() and name.isidentifier()):
        raise EnvError(f'"{file}" gives the task no name; call it like my_task.py, for my/MyTask-v0.')
    id = f"my/{name}-v0"
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write((TURNS if turns else TEMPLATE).format(name=name, id=id))
    except OSError as error:
        raise EnvError(f"{file} cannot be written: {error.strerror}. Choose another file.") from error
    return id
