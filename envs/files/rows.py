"""`--env rows.jsonl`: a task from a file of problems and one of the verifiers, without a line of code."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from envs.answer_block import only_answer
from envs.authoring.reward_functions import (
    NO_COLUMNS,
    RewardFunction,
    call_functions,
    columns_of,
    is_async,
    load_functions,
    takes_any_column,
    takes_optional_columns,
)
from envs.bases.published import ANSWER_FORMAT
from envs.core import TextEnv
from envs.errors import EnvError, NoDemonstration, check_choice, refused_rows
from envs.files.row_forms import FORM_COLUMNS, before_answer, last_answer, row_with_prompt
from envs.picklable_class import made_class
from envs.problem import Problem, Prompt, Scores, check_index, is_full, is_prompt
from envs.splits import SPLITS, question, split_of
from envs.task import limits_of
from envs.text.prompt_file import check_style
from envs.text.surrogates import half_character
from verifiers import Task, tasks, verify, verify_batch
from verifiers.command.read import LacksField, completions_in, has, integers_in, read_sample
from verifiers.errors import (
    CommandError,
    InvalidReferenceError,
    LineError,
    UnknownTaskError,
    VerifierError,
    did_you_mean,
    plural,
)
from verifiers.files import FORMATS, nearest_file, numbered_rows, read_line
from verifiers.references import how_read
from verifiers.registry import find, name_in_file, own_files

ARGUMENTS = (
    "verifier",
    "reward",
    "prompt",
    "prompt_style",
    "demonstration",
    "validation",
    "test",
    "bad_rows",
    "score_timeout",
)
"""The arguments of `Rows` besides `split` and `columns`."""
STYLES: dict[str, Callable[[Prompt], Prompt]] = {
    "plain": lambda prompt: prompt,
    "instruct": lambda prompt: f"{ANSWER_FORMAT}\n\n{prompt}" if isinstance(prompt, str) else prompt,
}
"""{prompt_style: a function from the content of the prompt's column to the prompt that the model is shown}. A chat is
shown as it is in both styles."""


class Entry(NamedTuple):
    """One usable row of a file."""

    prompt: Prompt
    reference: dict[str, Any]
    """{field: its value}, for the verifier's reference fields, e.g. "answer", and the reward functions' parameters."""
    demonstration: str | None
    """A right completion, from the column that `demonstration=` names. If it names none, a chat has the assistant's
    message at its end. None if there is neither."""
    where: str = ""
    """The file and the line, "rows.jsonl, line 3"."""
    columns: Mapping[str, Any] = MappingProxyType({})
    """All columns of the file, for functions that take more than the columns they need; {} if there are no such
    functions. A column that only other rows have is None."""


class ReadingRules(NamedTuple):
    """The rules by which a file is read."""

    verifier: str
    """The verifier's name; "" if only reward functions judge the rows."""
    columns_json: str
    """The result of `_columns` as JSON, because these rules are a key of `_read_version`'s cache and must be
    hashable."""
    all_columns: bool
    """Whether all columns are kept, because a function takes `**kwargs` or has optional parameters."""
    settings_json: str = "{}"
    """{setting of the verifier: its value for every row} as JSON, for settings that are no columns."""
    skips_bad: bool = False
    """Whether rows that cannot be used are left out."""
    main: str = ""
    """The file that `--env` names. If a column of demonstrations is named, only the rows of this file must have it: the
    rows of a file of validation or test are not imitated."""


class Rows(TextEnv):
    """Problems of a file, judged by one of the verifiers.

    Rewards:
        correct (0 or 1): the verifier's verdict in lenient mode; without a verifier, whether the first of `reward`'s
            functions pays 1 or more.
        format (0 or 1): exactly one closed `<answer>` block.
        score (0 to 1): the verifier's partial credit.
        NAME: what the function NAME of `reward` pays, with weight 1.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0, "score": 0.0}
    file: ClassVar[str] = ""
    """The file that `--env` names."""

    def __init__(
        self,
        verifier: str = "",
        split: str = "train",
        reward: str | RewardFunction | Sequence[str | RewardFunction] = "",
        prompt: str = "prompt",
        prompt_style: str = "plain",
        demonstration: str = "",
        validation: str = "",
        test: str = "",
        bad_rows: str = "refuse",
        score_timeout: float | None = None,
        **columns: str,
    ) -> None:
        """Opens one split; raises EnvError for a file that cannot be read, and for rows that cannot be used.

        Args:
            verifier: a task of `verifiers`, e.g. "gsm8k", or one that a file of yours registers, "./mine.py:parity".
            reward: your own functions, "./mine.py:brevity" or "./mine.py:brevity+tone", with TRL's signature. In
                Python, a function from a file may be given itself, and several as a list.
            prompt: the column that the model is shown, a text or a list of chat messages.
            prompt_style: "plain" shows it as it is; "instruct" puts a request for `<reasoning>` and `<answer>` before
                it.
            demonstration: a column with right completions, for `sft` and `check`. "" = the last message of a chat, if
                it is the assistant's; other rows have none.
            validation, test: files with the problems of these splits. A split without a file of its own is a tenth of
                the main file, picked by a hash of the prompt.
            bad_rows: "refuse" raises for a file with rows that cannot be used; "skip" leaves them out, says how many
                there are, and lists all of them in FILE.bad-rows.txt.
            score_timeout: seconds that an `async` function of `reward` may take for a batch; None = 60.
            columns: {reference field of the verifier, or parameter of a function: its column}, if the column has
                another name, e.g. answer="solution". For a setting of the verifier, such as decimal="," or
                choices=["spam", "ham"], the name of a column or, if the first row has none of this name, the value
                for all rows.
        """
        name = Path(self.file).name
        check_choice(name, "split", split, SPLITS)
        check_style(name, prompt_style, STYLES)
        check_choice(name, "bad_rows", bad_rows, ("refuse", "skip"))
        verifier = load_verifier(name, verifier)
        self.split, self.verifier, self.prompt_style = split, verifier, prompt_style
        self.names_demonstrations = bool(demonstration)
        self.skips_bad = bad_rows == "skip"
        self.functions = load_functions(reward) if reward else {}
        self.score_while_decoding = verifier == "code" and not self.functions
        if score_timeout is not None:
            if not any(map(is_async, self.functions.values())):
                raise EnvError(
                    f"{name}: score_timeout={score_timeout}: only `async` functions of `reward` can be stopped, and "
                    "there is none. Write `async def`, or leave score_timeout out."
                )
            self.score_timeout = score_timeout
        settings = settings_of(verifier, self.file, columns)
        column_of = _columns(
            name,
            verifier=verifier,
            prompt=prompt,
            demonstration=demonstration,
            columns={field: column for field, column in columns.items() if field not in settings},
            functions=self.functions,
        )
        self.fields = [*fields_of(verifier, column_of), *settings]
        all_columns = any(map(takes_optional_columns, self.functions.values()))
        rules = ReadingRules(
            verifier,
            columns_json=json.dumps(column_of),
            all_columns=all_columns,
            settings_json=json.dumps(settings),
            skips_bad=self.skips_bad,
            main=self.file,
        )
        if self.functions:
            verifier_weights = {"correct": 1.0, "score": 0.0} if verifier else {"correct": 0.0}
            function_weights = dict.fromkeys(self.functions, 1.0)
            self.reward_weights = {**verifier_weights, "format": 0.0, **function_weights}
            self.reward_ranges = dict.fromkeys(self.functions, (-np.inf, np.inf))
        files = {"train": self.file, "validation": validation, "test": test}
        for split_name, file in files.items():
            if file is not None and not isinstance(file, str | Path):
                raise EnvError(
                    f"{split_name}={file!r:.60}: should be the path of a file with the problems of this split."
                )
        self._entries, note_on_split = _entries_of(split, files, rules)
        self.notice = note_on_split
        if split == "train":  # said once, since every run opens this split
            conflicts = _conflicts(files, rules)
            empty = _empty_columns(files, rules, column_of, self.functions)
            skipped = " ".join(_content_of(file, rules).skipped for file in files.values() if file).strip()
            readings = " ".join(_readings(files, rules))
            self.notice = " ".join(
                text for text in (skipped, note_on_split, conflicts, readings, empty) if text
            )
        files_used = dict.fromkeys(file for file in files.values() if file)
        self.origin = {Path(file).name: f"sha256 {sha256(file)}" for file in files_used}

    def __len__(self) -> int:
        return len(self._entries)

    def problem(self, index: int) -> Problem:
        entry = self._entries[check_index(self, index)]
        metadata = {"demonstration": entry.demonstration, "where": entry.where, "columns": entry.columns}
        problem = Problem(STYLES[self.prompt_style](entry.prompt), entry.reference, metadata=metadata)
        return problem.copy()  # each access has lists and chats of its own, as in TRL

    def keep_demonstrated(self) -> None:
        """Leaves out the rows without a demonstration, which imitation cannot use, and says so in `notice`.

        Raises EnvError if no row has a demonstration; also if only some have one, unless `bad_rows` is "skip".
        """
        without = [entry.where for entry in self._entries if entry.demonstration is None]
        if not without:
            return
        if len(without) == len(self):
            self.demonstration(self.problem(0))  # raises NoDemonstration, which is an EnvError
        lacking = (
            f"{len(without):,} of {len(self):,} {self.split} rows of {self.spec_name} have no demonstration"
        )
        if not self.skips_bad:
            raise EnvError(
                f"{lacking} ({_listed(without)}): no right completion in the column that demonstration= names, or no "
                "assistant's message at the end of a chat. Complete these rows, or leave them out by --env-args "
                "bad_rows=skip."
            )
        self._entries = [entry for entry in self._entries if entry.demonstration is not None]
        self.notice = f"{self.notice} Left out: {lacking} ({_listed(without)}).".lstrip()

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        has_one_block = [only_answer(completion) is not None for completion in completions]
        rewards = call_functions(self.functions, problems, completions, limits_of(self))
        rewards["format"] = np.array(has_one_block, np.float64)
        if not self.verifier:
            first_function = next(iter(self.functions))
            solved = is_full(rewards[first_function])
            rewards["correct"] = solved.astype(np.float64)
            reasons = ["ok" if is_solved else "wrong" for is_solved in solved]
            return Scores(rewards, reasons, extracted=[None] * len(completions))
        references = {name: [problem.reference[name] for problem in problems] for name in self.fields}
        verdicts = verify_batch(self.verifier, completions, **references)
        rewards["correct"] = np.asarray(verdicts.correct, np.float64)
        rewards["score"] = np.asarray(verdicts.score, np.float64)
        return Scores(rewards, verdicts.reasons, verdicts.extracted)

    def demonstration(self, problem: Problem) -> str:
        text = problem.metadata["demonstration"]
        if text is None:
            raise NoDemonstration(
                f"{self.spec_name} has no demonstration for {problem.metadata['where']}. Name a column of right "
                "completions: --env-args demonstration=COLUMN. A chat needs no such column if its last message is the "
                "assistant's."
            )
        return text


def names_file(name: str) -> bool:
    """Whether the name of an environment names a file of rows."""
    return name.endswith(FORMATS)


def class_of(file: str) -> type[Rows]:
    """The environment class of a file; raises EnvError if the file does not exist.

    The class keeps the absolute path, so that a process in another folder can unpickle it.
    """
    if not Path(file).is_file():
        near = nearest_file(Path(file))
        advice = f"Did you mean {near}?" if near else "Give the path of a file of rows."
        raise EnvError(f"There is no file {file} (looked in {Path.cwd()}). {advice}")
    return _class_of_path(os.path.abspath(file))


@cache
def _class_of_path(file: str) -> type[Rows]:
    return made_class(_class_of_path, file, Rows, {"file": file, "__doc__": f"The problems of {file}."})


def id_of(file: str) -> str:
    """The id under which a file is registered. It has a hash of the path, since folders may have files of one name."""
    stem = re.sub(r"[^\w.-]+", "_", Path(file).name.partition(".")[0]).strip("._-") or "rows"
    path_hash = hashlib.sha256(str(Path(file).resolve()).encode()).hexdigest()[:8]
    return f"rows_{path_hash}/{stem}-v0"


def sha256(file: str) -> str:
    """The hash of a file's content, in hexadecimal digits."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _columns(
    name: str,
    verifier: str,
    prompt: str,
    demonstration: str,
    columns: Mapping[str, str],
    functions: Mapping[str, RewardFunction],
) -> dict[str, str]:
    """The columns that every row must have: {field: its column in the file}, e.g. {"prompt": "question"}.

    A field's column has the field's own name, unless `columns` gives another. These fields are always there: "prompt",
    the verifier's required reference fields, and the reward functions' parameters without a default. The verifier's
    optional fields and parameters with a default are there if `columns` names them. "demonstration" is there if
    `demonstration` names its column. Raises EnvError if nothing judges the rows, and for a field in `columns` that
    nothing takes.

    name: the file's, for messages. prompt, demonstration: the columns of these fields; demonstration="" if there is
    none. columns: {other field: its column}, as in `Rows`.
    """
    if not verifier and not functions:
        verifiers = ", ".join(tasks())
        raise EnvError(
            f"{name}: which verifier judges it? Give --verifier NAME, one of {verifiers}, or ./FILE.py:TASK of "
            "your own, or --reward ./FILE.py:FUNCTION."
        )
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    if verifier:
        task = find_verifier(name, verifier)
        needed, optional = task.fields, task.optional
    parameters = columns_of(functions)
    with_default = columns_of(functions, with_default=True)
    # A parameter with a default must have a column only if the user names one for it.
    parameters += [field for field in with_default if field in columns and field not in parameters]
    known = (*needed, *optional, *parameters, *with_default)
    any_is_taken = any(map(takes_any_column, functions.values()))  # some function has `**kwargs`
    for field, column in columns.items():
        if field not in known and not any_is_taken:
            check_choice(name, "column", field, (*known, *ARGUMENTS))  # raises, and names the nearest field
        elif field not in known:
            # `**kwargs` takes this column. But a field that is close to a known name is most likely misspelt, unless
            # its column has the same name, as in hint=hint.
            near = "" if column == field else did_you_mean(field, (*known, *ARGUMENTS))
            if near:
                raise EnvError(
                    f"{name}: {field}={column} is no argument. {near}A column that a reward function takes by **kwargs "
                    f"is given by its own name, {column}={column}, or the function has a parameter {field}."
                )
            parameters = [*parameters, field]
    column_of = {"prompt": prompt} | {field: columns.get(field, field) for field in (*needed, *parameters)}
    column_of |= {field: columns[field] for field in optional if field in columns}
    if demonstration:
        column_of["demonstration"] = demonstration
    # On a command line, `answer=1` is read as a number, but the name of a column is a text.
    return {field: str(column) for field, column in column_of.items()}


def settings_of(verifier: str, file: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """{setting of the verifier: its value for every row}, of `arguments` that name no column of the file's first row.

    Raises EnvError for an unknown verifier and for a file that cannot be read.
    """
    names = find_verifier(Path(file).name, verifier).settings if verifier else ()
    given = {name: value for name, value in arguments.items() if name in names}
    if not given:
        return {}
    try:
        first = next(iter(numbered_rows(file)))[1]
        row = read_line(first)
    except (CommandError, LineError):
        row = {}  # what is wrong is said when all rows are read
    return {
        name: value for name, value in given.items() if not (isinstance(value, str) and has(row, (value,)))
    }


def load_verifier(name: str, verifier: str) -> str:
    """The name of a verifier's task, also of "./mine.py:parity", whose file is run once.

    Raises EnvError, which begins with `name`, for a file that does not exist, that raises, or that has no such task.
    """
    try:
        return name_in_file(verifier)
    except VerifierError as error:
        raise EnvError(f"{name}: --verifier {verifier}: {error}") from error


def find_verifier(name: str, verifier: str) -> Task:
    """The task of a verifier; raises EnvError, which begins with `name`, if there is none."""
    try:
        return find(verifier)
    except UnknownTaskError as error:
        raise EnvError(f"{name}: {error}") from error


def fields_of(verifier: str, fields: Iterable[str]) -> list[str]:
    """Those of `fields` that are reference fields of the verifier; none if `verifier` is "".

    "prompt" is left out, even if the verifier has an optional reference of this name, as `code` has: in a file of rows
    it is always the question.
    """
    if not verifier:
        return []
    task = find(verifier)
    return [field for field in fields if field in (*task.fields, *task.optional) and field != "prompt"]


def _entries_of(split: str, files: Mapping[str, str], rules: ReadingRules) -> tuple[Sequence[Entry], str]:
    """(the problems of a split in the order of their file, a note on the rows of the file that are not in it, or "").

    files: {split: its file, or ""}. The main file, that of train, is divided by a hash of the prompt. If validation or
    test has a file, this file is the split, and the main file's rows of this split are for training. A row of the main
    file is in no split if a file of validation or test has the same prompt. Train also leaves out rows whose prompt
    differs from one of validation or test only in capitals and spaces.
    """
    if files[split] and split != "train":
        return _content_of(files[split], rules).entries, ""
    with_own_file = [other for other in ("validation", "test") if files[other]]
    entries_of_files = [
        entry for other in with_own_file for entry in _content_of(files[other], rules).entries
    ]
    keys_of_files = {_key(entry) for entry in entries_of_files}
    # The hash gives some rows of the main file to a split that has its own file: train takes these.
    splits_to_take = {split, *with_own_file} if split == "train" else {split}
    all_entries = _content_of(files["train"], rules).entries
    chosen, of_other_splits = [], []
    repeated = []  # entries whose prompt a file of validation or test has, too
    for entry in all_entries:
        key = _key(entry)
        if key in keys_of_files:
            repeated.append(entry)  # in no split
        elif split_of(key) in splits_to_take:
            chosen.append(entry)
        else:
            of_other_splits.append(entry)
    note = ""
    if split == "train":
        held_out = entries_of_files + of_other_splits  # all entries of validation and test
        place_of_question = {question(entry.prompt): entry.where for entry in held_out}
        # Rows that must not be trained on, since validation or test has their question.
        twins = repeated + [entry for entry in chosen if question(entry.prompt) in place_of_question]
        chosen = [entry for entry in chosen if question(entry.prompt) not in place_of_question]
        if twins:
            pairs = [f"{twin.where} (that of {place_of_question[question(twin.prompt)]})" for twin in twins]
            note = (
                f"Left out of training, as validation or test asks the same but for capitals and spaces: "
                f"{len(twins):,} of {len(all_entries):,} rows, {_listed(pairs)}."
            )
    if not chosen:
        for other in with_own_file:
            if os.path.samefile(files[other], files["train"]):
                raise EnvError(
                    f"--env-args {other}={files[other]}: this is the file of training itself, so that no problem is "
                    "left to train on. Leave it out, and a tenth of the file is taken; or name another file."
                )
        if all_entries and all(_key(entry) in keys_of_files for entry in all_entries):
            names = " and ".join(f"{other}={files[other]}" for other in with_own_file)
            raise EnvError(
                f"{files['train']}: all its {len(all_entries)} problems are in {names}, too, so that none is left for "
                f"{split}. Take the problems of each split out of the other files."
            )
        prompts = len({_key(entry) for entry in all_entries})
        only = f", which have only {plural(prompts, 'prompt')}," if prompts < len(all_entries) else ""
        raise EnvError(
            f"{files['train']}: of {len(all_entries)} problems{only} none is for {split} (a hash of the prompt divides "
            f"them 80/10/10). Give more {'prompts' if only else 'problems'}"
            + ("." if split == "train" else f", or a file of their own: --env-args {split}=FILE.")
        )
    if split != "train":
        note = (
            f"The split {split} is {len(chosen):,} of the {len(all_entries):,} rows of {Path(files['train']).name}, "
            f"picked by a hash of the prompt. --env-args {split}=FILE takes all rows of a file."
        )
    return chosen, note


def _conflicts(files: Mapping[str, str], rules: ReadingRules) -> str:
    """A sentence on questions (capitals and spaces aside) that rows answer differently; "" if there are none."""
    rows_of: dict[str, dict[str, str]] = {}  # {question: {reference as JSON: the first row that has both}}
    for file in dict.fromkeys(filter(None, files.values())):
        for entry in _content_of(file, rules).entries:
            values = {name: str(value) for name, value in sorted(entry.reference.items())}
            if not rules.verifier:  # a function of the user's may ignore what `question` ignores
                values = {name: question(value) for name, value in values.items()}
            reference = json.dumps(values)
            rows_of.setdefault(question(entry.prompt), {}).setdefault(reference, entry.where)
    differing = []
    for row_of_reference in rows_of.values():
        references = [json.loads(reference) for reference in row_of_reference]
        if len(references) > 1 and not _answers_agree(rules.verifier, references):
            differing.append(" and ".join(row_of_reference.values()))
    if not differing:
        return ""
    count = "1 question has" if len(differing) == 1 else f"{len(differing):,} questions have"
    at_most = ", of which at most one is right" if judges_an_answer(rules.verifier) else ""
    return f"{count} different answers{at_most}: {_listed(differing)}. Correct or remove these rows."


def judges_an_answer(verifier: str) -> bool:
    """Whether the reference of a verifier is one right answer, which can itself be judged.

    That of a verifier in a file of the user's need not be one: "even" for all even numbers.
    """
    is_own = any(verifier in names for names in own_files.values())
    return bool(verifier) and not is_own and find(verifier).fields == ("answer",)


def answer_text(answer: Any) -> str:
    """An answer of a row as a completion would have it: a text as it is, any other value as JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer)


def answer_is_right(verifier: str, answer: Any, reference: Mapping[str, Any]) -> bool:
    """Whether the answer of one row, or the part of it behind ####, is right by the reference of another row."""
    text = answer_text(answer)
    final = text.rpartition("####")[2].strip()  # without ####, the whole text
    # The answer as it stands, its final part in a box, and this part alone; one right form is enough.
    completions = (
        f"<answer>{text}</answer>",
        f"<answer>\\boxed{{{final}}}</answer>",
        f"<answer>{final}</answer>",
    )
    return any(verify(verifier, completion, **reference).correct for completion in completions)


def _answers_agree(verifier: str, references: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the verifier accepts all other answers with the first as the reference, e.g. 0.5 for 1/2.

    False if the verifier's reference is not a single answer: references that differ then count as different.
    """
    if not judges_an_answer(verifier):
        return False
    first, *others = references
    return all(answer_is_right(verifier, other["answer"], first) for other in others)


def _readings(files: Mapping[str, str], rules: ReadingRules) -> list[str]:
    """Sentences on how the verifier reads the references of all files."""
    entries = [
        entry
        for file in dict.fromkeys(filter(None, files.values()))
        for entry in _content_of(file, rules).entries
    ]
    fields = [*fields_of(rules.verifier, json.loads(rules.columns_json)), *json.loads(rules.settings_json)]
    if not fields:
        return []
    references = [(entry.where, {name: entry.reference[name] for name in fields}) for entry in entries]
    return how_read(rules.verifier, references)


def _empty_columns(
    files: Mapping[str, str],
    rules: ReadingRules,
    column_of: Mapping[str, str],
    functions: Mapping[str, RewardFunction],
) -> str:
    """A sentence on each column that functions use and that is empty in some rows; "" if no such column is.

    Such rows are not refused, since a function may handle an empty value. The verifier's columns are not looked at: a
    row with an empty reference has been refused before.
    """
    verifier_fields = fields_of(rules.verifier, column_of)
    entries = [entry for file in files.values() if file for entry in _content_of(file, rules).entries]
    sentences = []
    for name in columns_of(functions):
        empty = [entry.where for entry in entries if entry.reference[name] in (None, "", [])]
        if empty and name not in verifier_fields:
            sentences.append(
                f'Column "{column_of[name]}" holds nothing in {len(empty):,} of {len(entries):,} rows '
                f"({_listed(empty)}): the functions of --reward are given the empty value there."
            )
    return " ".join(sentences)


def _listed(texts: Iterable[str]) -> str:
    """The first three texts, and how many more there are, e.g. "a; b; c; 2 more"."""
    all_texts = list(texts)
    more = [f"{len(all_texts) - 3:,} more"] if len(all_texts) > 3 else []
    return "; ".join(all_texts[:3] + more)


def _key(entry: Entry) -> str:
    """The prompt as a text, whose hash picks the split, so that rows with the same prompt are in one split."""
    return json.dumps(entry.prompt, sort_keys=True)


class Content(NamedTuple):
    """What a file holds."""

    entries: tuple[Entry, ...]
    skipped: str
    """A sentence on rows that are left out because they cannot be used; "" if there are none."""


def _content_of(file: str, rules: ReadingRules) -> Content:
    """The rows of a file; raises EnvError if it cannot be read, or if rows cannot be used and are not skipped."""
    try:
        stat = Path(file).stat()
    except OSError:
        # Opening the file raises the error that says what is wrong.
        unknown_version = ()
        return _read_version(file, rules, unknown_version)
    return _read_version(file, rules, (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@cache
def _read_version(file: str, rules: ReadingRules, version: tuple[int, ...]) -> Content:
    """As `_content_of`, cached. `version` changes with the file, so a file corrected in a notebook is read again."""
    column_of: dict[str, str] = json.loads(rules.columns_json)
    settings: dict[str, Any] = json.loads(rules.settings_json)
    verifier = rules.verifier
    name = Path(file).name
    entries: list[Entry] = []
    line_numbers: list[int] = []  # the line of each entry
    wrong: dict[int, str] = {}  # {number of a line: what is wrong with it}
    try:
        # A column may be a path into nested data: "a.b" is the field b of the column a.
        columns_to_read = {column.partition(".")[0] for column in column_of.values()} | set(FORM_COLUMNS)
        for number, line in numbered_rows(
            file, None if rules.all_columns else columns_to_read, texts=[column_of["prompt"]]
        ):
            try:
                is_main = file == rules.main
                entry = _entry(f"{name}, line {number}", line, column_of, rules.all_columns, is_main)
                entries.append(entry._replace(reference={**entry.reference, **settings}))
                line_numbers.append(number)
            except EnvError as error:
                wrong[number] = error.written()
    except CommandError as error:
        raise EnvError(str(error)) from error
    fields = [*fields_of(verifier, column_of), *settings]
    for i, error in _invalid_references(name, verifier, entries, fields).items():
        column = column_of.get(error.argument, error.argument)
        why = f'column "{column}" cannot be judged by {verifier}: {error}'
        wrong[line_numbers[i]] = f"{entries[i].where}: {why}"
    skipped = ""
    if wrong:
        sentences = [wrong[number] for number in sorted(wrong)]
        count = len({*line_numbers, *wrong})  # an entry with an invalid reference is in both
        kept = [entry for number, entry in zip(line_numbers, entries, strict=True) if number not in wrong]
        if not (rules.skips_bad and kept):
            raise refused_rows(file, sentences, count)
        entries = kept
        skipped = note_skipped(file, sentences, count)
    # A row gets None for each column that only other rows have.
    empty_row: dict[str, Any] = {}
    for entry in entries:
        empty_row.update(dict.fromkeys(entry.columns))
    complete = tuple(entry._replace(columns={**empty_row, **entry.columns}) for entry in entries)
    return Content(complete, skipped)


def note_skipped(file: str, sentences: Sequence[str], count: int) -> str:
    """Writes a sentence on each row that is left out into FILE.bad-rows.txt; returns a sentence on all of them.

    If FILE.bad-rows.txt cannot be written, the result has the first three sentences. count: how many rows the file has.
    """
    list_file = f"{file}.bad-rows.txt"
    listed = f"{list_file} lists them."
    try:
        Path(list_file).write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    except OSError as error:
        listed = f"{list_file} cannot be written ({error.strerror}), the first are: {_listed(sentences)}"
    return f"Left out: {len(sentences):,} of {count:,} rows of {file}, which cannot be used; {listed}"


def _invalid_references(
    name: str, verifier: str, entries: Sequence[Entry], fields: Sequence[str]
) -> dict[int, InvalidReferenceError]:
    """{index in `entries`: the error of the entry's reference}, for all references that the verifier refuses.

    The verifier is asked to judge an empty completion with each reference. Raises EnvError, which begins with `name`,
    if the verifier cannot judge at all.
    """
    if not (fields and entries):
        return {}
    try:
        if _all_are_valid(verifier, entries, fields):
            return {}
        # Only the first wrong reference is known from a batch, so each entry is checked alone.
        wrong = {}
        for i, entry in enumerate(entries):
            try:
                verify(verifier, "", **{field: entry.reference[field] for field in fields})
            except InvalidReferenceError as error:
                wrong[i] = error
        return wrong
    except VerifierError as error:
        raise EnvError(f"{name}: {error}") from error


def _all_are_valid(verifier: str, entries: Sequence[Entry], fields: Sequence[str]) -> bool:
    """Whether the verifier takes the references of all entries; they are checked in one batch, which is fast."""
    references = {field: [entry.reference[field] for entry in entries] for field in fields}
    try:
        verify_batch(verifier, [""] * len(entries), **references)
    except InvalidReferenceError:
        return False
    return True


def text_or_none(answer: object) -> str | None:
    """An assistant's message, if a model can be taught it: a text without half characters (`half_character`).

    None for anything else, such as a call of a tool.
    """
    text = None if answer is None else completions_in(answer)[0]
    return text if isinstance(text, str) and not half_character(text) else None


def _entry(
    where: str, line: bytes | LineError, column_of: Mapping[str, str], all_columns: bool, is_main: bool
) -> Entry:
    """The row of one line; raises EnvError, which begins with `where`, for a row that cannot be used.

    is_main: whether the row must have the column of demonstrations, if one is named.
    """
    try:
        row = row_with_prompt(read_line(line, column_of.values()))
        # `read_sample` takes a tuple of possible names for each column; here each has one. The column of demonstrations
        # is wanted only if this row must have it or does.
        wanted = {
            field: (column,)
            for field, column in column_of.items()
            if is_main or field != "demonstration" or has(row, (column,))
        }
        values = read_sample(row, wanted)
    except LacksField as error:
        hint = " ".join(f"{field}=COLUMN" for field in column_of)
        remedy = (
            f"Name your columns: --env-args {hint}. If this line alone lacks it, correct or remove the line."
        )
        if "meant?" not in str(error):  # else `read_sample` names the column already
            remedy = did_you_mean(column_of[error.fields[0]], row) + remedy
        if error.fields == ["demonstration"]:
            remedy += (
                " A row without a right completion has null in this column: only rows that the model learns by "
                "imitation need one. A file of validation or test may lack the column."
            )
        raise EnvError(f"{where} {error} {remedy}") from error
    except LineError as error:
        raise EnvError(f"{where} {error} Correct or remove the line.") from error
    prompt_cell = values.pop("prompt")
    prompt = before_answer(prompt_cell)
    demonstration = values.pop("demonstration", None)
    if "demonstration" not in column_of:
        demonstration = text_or_none(last_answer(prompt_cell))
    if not is_prompt(prompt):
        raise EnvError(
            f"{where}: the prompt is {prompt!r:.80}; it must be a text or a list of chat messages."
        )
    has_words = question(prompt) != ""  # `question` makes "" of a prompt of white space
    if not has_words:
        raise EnvError(
            f'{where}: column "{column_of["prompt"]}" is empty. Write the question, or remove the row.'
        )
    if demonstration is not None:
        demonstration = completions_in(demonstration)[0]  # if a cell has several texts or chats, the first
        if not isinstance(demonstration, str):
            raise EnvError(f"{where}: the demonstration is {demonstration!r:.80}; it must be a text.")
        if not demonstration.strip():  # an empty cell of a table
            demonstration = None
    for name, value in ({"prompt": prompt, "demonstration": demonstration} | values).items():
        if what_is_broken := half_character(value):
            column = column_of.get(name, "messages")  # a demonstration may be the last message of a chat
            raise EnvError(f'{where}: column "{column}" {what_is_broken}')
    if "numbers" in values:
        values["numbers"] = integers_in(values["numbers"])  # Countdown's; in a CSV a text, "[1, 2, 3]"
    columns: dict[str, Any] = {}
    if all_columns:
        # NO_COLUMNS are names, such as "trainer_state", under which functions are given something else than a column.
        columns = {name: value for name, value in row.items() if name not in NO_COLUMNS}
    return Entry(prompt, values, demonstration, where, columns)
