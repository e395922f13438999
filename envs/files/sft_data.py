"""`sft --data FILE_OR_DATA_SET`: prompts and completions to be imitated as they are, from a file or from the hub."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from envs.core import TextEnv
from envs.errors import EnvError, check_choice, refused_rows
from envs.files.datasets import HubDataset, hub_rows, state_of
from envs.files.row_forms import BESIDE_CONTENT, LEARNED, common_form
from envs.files.rows import note_skipped
from envs.problem import Problem, Prompt, Score, check_index, is_prompt
from envs.splits import split_of
from envs.text.surrogates import half_character
from verifiers.errors import CommandError, LineError
from verifiers.files import FORMATS, numbered_rows, read_line

ADVICE = (
    "On a machine with a network, `hf download ORG/NAME --repo-type dataset --local-dir FOLDER`, bring the folder here "
    "and pass one of its files."
)
"""What an error adds if a data set on the hub cannot be reached."""
COLUMNS = ("prompt", "completion", "messages", "instruction", "input", "output", "conversations")
"""All columns that are read. A row has one of four forms:

- `prompt` and `completion`
- `messages`
- Alpaca's `instruction` and `output`, with `input` if there is one
- ShareGPT's `conversations`
"""
_MESSAGE = '{"role": ..., "content": ...}'  # the form of a message, for errors


class Texts(TextEnv):
    """The rows of a file, each a prompt with the completion to learn; a hash picks a tenth of them for validation."""

    reward_weights: Mapping[str, float] = {"correct": 1.0}

    def __init__(self, file: str, split: str = "train", bad_rows: str = "refuse") -> None:
        """Reads a .jsonl, .json, .csv, .tsv or .parquet file with `prompt` and `completion`, or with chat `messages`.

        The columns of Alpaca and ShareGPT are read too, and messages whose content is a list of text parts.

        file: its path; or a data set on the hub (its train split) as ORG/NAME, ORG/NAME:CONFIG or ORG/NAME@REVISION.
        bad_rows: "refuse" raises for rows that cannot be used; "skip" leaves them out, says how many there are, and
        lists all of them in FILE.bad-rows.txt.

        Raises EnvError for a file that cannot be read, for rows of another form, and for too few rows.
        """
        self.file, self.split = file, split
        check_choice(Path(file).name, "bad_rows", bad_rows, ("refuse", "skip"))
        lines, rows, self.origin, skipped = _read(file, skips_bad=bad_rows == "skip")
        self.notice = skipped if split == "train" else ""
        # A hash of the prompt decides, so that a prompt with several completions is in one split. If that puts all rows
        # into one split, e.g. because all have the same prompt, a hash of prompt and completion decides instead.
        for_validation = [_is_for_validation(prompt) for prompt, _ in rows]
        if len(set(for_validation)) < 2:
            for_validation = [_is_for_validation(row) for row in rows]
        wants_validation = split == "validation"
        chosen = [i for i, is_validation in enumerate(for_validation) if is_validation == wants_validation]
        self.rows = [rows[i] for i in chosen]
        self.lines = [lines[i] for i in chosen]
        if not self.rows:
            what = "for validation (a hash picks a tenth)" if split == "validation" else "left to train on"
            raise EnvError(f"{file}: of {len(rows)} rows none is {what}. Give more rows.")

    @property
    def spec_name(self) -> str:
        return Path(self.file).name

    def __len__(self) -> int:
        return len(self.rows)

    def problem(self, index: int) -> Problem:
        prompt, completion = self.rows[check_index(self, index)]
        where = f"{self.spec_name}, line {self.lines[index]}"
        return Problem(prompt, {}, metadata={"completion": completion, "where": where})

    def score(self, problem: Problem, completion: str) -> Score:
        return Score({"correct": float(completion == self.demonstration(problem))})

    def demonstration(self, problem: Problem) -> str:
        return problem.metadata["completion"]


def _is_for_validation(value: Any) -> bool:
    """Whether the hash of a prompt, or of a row, picks it for validation."""
    return split_of(value) == "validation"


class _Content(NamedTuple):
    """The content of a file or of a data set on the hub."""

    lines: tuple[int, ...]
    """The number of each row's line; the rows of a data set count as lines 1, 2, ..."""
    rows: tuple[tuple[Prompt, str], ...]
    """(prompt, completion) of each row."""
    origin: dict[str, str]
    """{name of the data set: its commit}; {} for a file."""
    skipped: str
    """A note on rows that are left out; "" = none are."""


@cache
def _read(file: str, skips_bad: bool = False) -> _Content:
    """The content of a file, or of a data set on the hub.

    Rows that cannot be used are left out with `skips_bad`; without it they raise EnvError.
    """
    if names_hub(file):
        return _read_from_hub(file, skips_bad)
    line_numbers: list[int] = []
    rows: list[tuple[Prompt, str]] = []
    wrong: list[str] = []
    try:
        for number, line in numbered_rows(file, set(COLUMNS), texts=("prompt", "completion")):
            if _add_row(f"{file}, line {number}", line, rows, wrong):
                line_numbers.append(number)
    except CommandError as error:
        raise EnvError(str(error)) from error
    return _Content(
        tuple(line_numbers), tuple(rows), origin={}, skipped=_skipped(file, wrong, rows, skips_bad)
    )


def _skipped(file: str, wrong: Sequence[str], rows: Sequence[tuple[Prompt, str]], skips_bad: bool) -> str:
    """A note on the rows that cannot be used, "" if there are none.

    Raises EnvError if such rows may not be skipped, or if there are no others.
    """
    if not wrong:
        return ""
    count = len(wrong) + len(rows)
    if not (skips_bad and rows):
        raise refused_rows(file, wrong, count)
    return note_skipped(file, wrong, count)


def _read_from_hub(data_set: str, skips_bad: bool) -> _Content:
    """`_read` for a data set on the hub."""
    name, _, revision = data_set.partition("@")
    repo, _, config = name.partition(":")
    hub = HubDataset(repo, config=config or None, split="train", num_rows=None, revision=revision or None)
    found, commit = hub_rows("--data", hub, ADVICE)
    rows: list[tuple[Prompt, str]] = []
    wrong: list[str] = []
    numbers: list[int] = []
    for number, (where, row) in enumerate(found, 1):
        if _add_row(where, row, rows, wrong):
            numbers.append(number)
    skipped = _skipped(data_set, wrong, rows, skips_bad)
    return _Content(tuple(numbers), tuple(rows), {repo: state_of(found, commit)}, skipped)


def names_hub(file: str) -> bool:
    """Whether `--data` names a data set on the hub: ORG/NAME that cannot be meant as the path of a file."""
    has_form = re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@[\w./-]+)?", file) is not None
    may_be_file = Path(file).exists() or Path(file).parent.is_dir() or file.endswith(FORMATS)
    return has_form and not may_be_file


def _add_row(
    where: str, row: bytes | LineError | Mapping[str, Any], rows: list[tuple[Prompt, str]], wrong: list[str]
) -> bool:
    """Appends (prompt, completion) of a row to `rows`, or, if it cannot be used, a sentence that says why to `wrong`.

    Returns whether the row can be used. row: a line of a file, or a row of a data set on the hub. For a line that
    cannot be read, `numbered_rows` yields the LineError, which `read_line` then raises.
    """
    try:
        if isinstance(row, bytes | LineError):
            row = read_line(row, ("prompt", "completion"))
        rows.append(_row(where, row))
    except LineError as error:
        wrong.append(f"{where} {error}")
    except EnvError as error:
        wrong.append(str(error))
    else:
        return True
    return False


def _row(where: str, row: Mapping[str, Any]) -> tuple[Prompt, str]:
    """(prompt, completion) of a row. The last of chat `messages` is the completion, and must be the assistant's."""
    values = common_form({name: _unpacked(row[name]) for name in COLUMNS if row.get(name) is not None})
    if "messages" in values and "completion" not in values:
        messages = values["messages"]
        if not messages or not _is_chat(messages):
            raise EnvError(
                f"{where} has messages {messages!r:.80}; it must be a list of them, each {_MESSAGE}."
            )
        *before, last = messages
        values |= {"prompt": before, "completion": [last]}  # as a chat: the role of `last` is looked at below
        if not before:
            values["prompt"] = ""
        elif len(before) == 1 and before[0]["role"] == "user":  # a chat of one user message is its text
            values["prompt"] = before[0]["content"]
    # `common_form` makes a prompt of an instruction and its input, but only if the input is text.
    if "prompt" not in values and "instruction" in values and not isinstance(values.get("input", ""), str):
        raise EnvError(f"{where} has the input {values['input']!r:.60}. Write it as a text, or leave it out.")
    if not values.keys() >= {"prompt", "completion"}:
        columns = [f"{name} (null)" if value is None else name for name, value in row.items()]
        has = ", ".join(columns) or "nothing"
        raise EnvError(f"{where} has {has}. Each row needs `prompt` and `completion`, or chat `messages`.")
    prompt, completion = values["prompt"], values["completion"]
    # An empty instruction is a mistake, while an empty prompt may be meant.
    if "instruction" in values and isinstance(prompt, str) and not prompt.strip():
        raise EnvError(f"{where} has an empty instruction. Write what is asked, or leave the row out.")
    if _is_chat(completion) and len(completion) == 1:  # TRL writes a completion as a chat of one message
        (message,) = completion
        if message["role"] != "assistant":
            raise EnvError(
                f"{where}: the last message is the {message['role']}'s; it must be the assistant's."
            )
        _refuse_unlearned(where, message)
        completion = message["content"]
    if not is_prompt(prompt) or prompt == [] or not isinstance(completion, str) or not completion:
        shown = f"the prompt {prompt!r:.60} and the completion {completion!r:.60}"
        raise EnvError(f"{where} has {shown}; give two texts, the completion not empty, or chat messages.")
    for name, value in (("prompt", prompt), ("completion", completion)):
        if what_is_broken := half_character(value):
            raise EnvError(f"{where}: the {name} {what_is_broken}")
    return prompt, completion


def _refuse_unlearned(where: str, message: Mapping[str, Any]) -> None:
    """Raises EnvError if the message to learn says that it is not to be learned, or has more than its content."""
    for name in LEARNED:
        value = message.get(name)
        if value is not None and value != 1:
            raise EnvError(
                f"{where}: the last message has {name} {value!r:.20}, and what is learned of a row is its last "
                "message. Leave the row out, or end it with the message to learn."
            )
    for name in BESIDE_CONTENT:
        if message.get(name):
            raise EnvError(
                f"{where}: the last message has {name} {message[name]!r:.40}, and only its content is learned. Write "
                "what the model should write into its content."
            )


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and is_prompt(value)


def _unpacked(value: Any) -> Any:
    """Chat messages that are written as JSON text, as in a table (.csv, .tsv), parsed; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed = json.loads(value)
        except ValueError:
            return value
        return parsed if _is_chat(parsed) else value
    return value
