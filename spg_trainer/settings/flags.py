"""Reads the words of a command line: which setting of a dataclass in `fields.py` each word belongs to.

`values.py` converts the words to the types of the settings, and `help.py` makes the text of --help with tyro.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from itertools import chain, dropwhile
from typing import Any, get_origin

from spg_trainer.errors import SETTINGS, ConfigError, as_flag, did_you_mean
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.decoding import steps_at_rate
from spg_trainer.settings.fields import CompareCommand, Config
from spg_trainer.settings.misplaced import place_of
from spg_trainer.settings.rows_arguments import ARGUMENTS, refuse_rows_arguments
from spg_trainer.settings.task import is_rows, join_tasks, parse_tasks
from spg_trainer.settings.values import convert, parse_pairs, settings_of, settings_value

PROG = "python -m spg_trainer"
HELP = {"-h", "--help"}
ELSEWHERE = {
    "learning-rate": "lr",
    "max-steps": "steps epochs num-train-epochs",
    "prompts-per-step": "batch-size",
    "per-device-batch-size": "per-device-train-batch-size",
    "model": "model-name-or-path",
    "env": "dataset dataset-name task",
    "max-completion-length": "max-new-tokens gen-length",
}
"""{our flag: its names in TRL and published code}, for the advice after an unknown flag."""
SHORT = ARGUMENTS
"""Flags that are short for an argument of the environment: `--verifier gsm8k` is `--env-args verifier=gsm8k`."""
# Messages name these flags as `$verifier`, too; `errors.py` writes them as a flag or as a keyword of Python.
SETTINGS.update(dict.fromkeys(SHORT, str))
RATE = "tokens_per_step"
"""The flag that is short for a number of denoising steps: `--tokens-per-step 2` is `--diffusion-steps length/2`."""


def read_words(cls: Any, words: Sequence[str]) -> dict[str, Any]:
    """{name of a setting: the word or words behind its flag, or its KEY=VALUE pairs} from a command line.

    A flag may be typed several times: the last one counts, but pairs are merged. Raises ConfigError for an unknown
    flag, a flag without its value, and words that belong to no flag.
    """
    words = [word for word in words if word not in HELP]
    kinds = kinds_of_flags(cls)
    typed, left_over = words_of_flags(kinds, words)
    parsed: dict[str, Any] = {}
    for name, occurrences in typed.items():
        # An occurrence of a switch is whether it was turned on; that of any other flag is the list of its words.
        kind, last = kinds[name], occurrences[-1]
        if kind is bool:
            parsed[name] = last
            continue
        if not last:
            how_many = "at least one argument" if kind in (dict, tuple) else "one argument"
            raise ConfigError(f"{as_flag(name)}: expected {how_many}. {all_flags(cls)}")
        if "" in last:  # an empty word, as from `--env ""`
            raise ConfigError(f"{as_flag(name)} '': expected a value. Leave the flag out for its default.")
        if kind is dict:
            parsed[name] = parse_pairs([*chain(*occurrences)], as_flag(name))
        elif kind is tuple:
            parsed[name] = last
        elif name == "env":
            parsed[name] = join_tasks(last)
        else:
            parsed[name], *more = last
            left_over += more
    refuse_unknown(cls, left_over, parsed)
    if left_over and cls.positional:
        _, hint = settings_of(cls)[cls.positional]
        if kind_of(hint) is tuple:  # the positional setting takes all words
            parsed[cls.positional], left_over = left_over, []
        else:
            parsed[cls.positional], *left_over = left_over
    if left_over:
        refuse_without_flag(cls, left_over[0], words)
    return without_short(parsed)


def read_keywords(cls: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """As `read_words`, from keywords: {name of a setting: value}, without keywords that are None.

    A user's function or class is replaced by its name in its file, as a run records it. Raises ConfigError for a
    function or class that is not in a file.
    """
    given = {
        name: as_name(name, settings_value(value)) for name, value in keywords.items() if value is not None
    }
    if isinstance(args := given.get("env_args"), Mapping):
        given["env_args"] = {name: as_name(name, value) for name, value in args.items()}
    short = {name for name in (*SHORT, RATE) if name in given}
    # If a command has no such flag, the name stays, and `resolve` refuses it as unknown.
    return without_short(given) if short <= kinds_of_flags(cls).keys() else given


def as_name(setting: str, value: Any) -> Any:
    """The name of a function or class, `FILE.py:NAME`; of several rewards, their names; any other value as it is."""
    if setting == "reward" and not isinstance(value, str):  # a function, or a list of functions and names
        name_of = packages.envs.authoring.reward_functions.name_of
    elif isinstance(value, type) or inspect.isroutine(value):
        name_of = packages.envs.own_files.name_in_file
    else:
        return value
    try:
        return name_of(value)
    except packages.envs.EnvError as error:
        raise ConfigError(f"{setting}: {error}") from error


def without_short(given: dict[str, Any]) -> dict[str, Any]:
    """The given settings, with each flag that is short for another setting replaced by that setting."""
    for name in SHORT:
        if name in given:
            add_argument_of_rows(given, name, given.pop(name))
    if RATE in given:
        given["diffusion_steps"] = steps_at(given.pop(RATE), given)
    return given


def kinds_of_flags(cls: Any) -> dict[str, Any]:
    """{name of a flag, without dashes: the kind of its value} of a command, also of flags that are short for others."""
    settings = {name: kind_of(hint) for name, (_, hint) in settings_of(cls).items() if name != cls.positional}
    short = dict.fromkeys(SHORT, str) if "env_args" in settings else {}
    if "diffusion_steps" in settings:
        short[RATE] = str
    return settings | short


def kind_of(hint: Any) -> Any:
    """`dict` for `dict[str, object]`, `tuple` for `tuple[int, ...]`; another type as it is."""
    return get_origin(hint) or hint


def words_of_flags(kinds: Mapping[str, Any], words: Sequence[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """({name of a flag: its values, one for each time that it was typed}, the words that belong to no flag).

    The value of any flag but a switch is the list of all words up to the next flag; of `--flag=WORD`, that word alone.
    The value of a switch is whether it was typed without `no-`.

    tyro, which writes the help, could read the words, too. But its import takes 0.2 s, it does not say which values
    were typed, and it answers a mistake with a box of many lines.
    """
    typed: dict[str, list[Any]] = {}
    left_over: list[str] = []
    takes_next = left_over  # the list that takes the next word if that is no flag
    for word in words:
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            name = flag[2:].replace("-", "_")
        else:
            name = "output" if flag == "-o" else ""  # no other flag has a short form
        switch, is_on = switch_of(kinds, name)
        if switch:
            typed.setdefault(switch, []).append(is_on)
            takes_next = left_over
            left_over += [value] if equals else []
        elif name in kinds:
            occurrence = [value] if equals else []
            typed.setdefault(name, []).append(occurrence)
            takes_next = left_over if equals else occurrence
        else:
            if looks_like_flag(word):  # it is unknown, and the words behind it are not the last flag's
                takes_next = left_over
            takes_next.append(word)
    return typed, left_over


def looks_like_flag(word: str) -> bool:
    """Whether a word looks like a flag, known or not: one or two dashes before a letter; `-1` is a number."""
    return re.match(r"--?[A-Za-z]", word) is not None


def switch_of(kinds: Mapping[str, Any], name: str) -> tuple[str, bool]:
    """(the switch that a flag's name turns on or off, whether it turns it on); ("", False) if it is no switch.

    Of the switch `force`, `force` turns it on and `no_force` turns it off.
    """
    if kinds.get(name) is bool:
        return name, True
    positive = name.removeprefix("no_")
    if positive != name and kinds.get(positive) is bool:
        return positive, False
    return "", False


def refuse_without_flag(cls: Any, word: str, words: Sequence[str]) -> None:
    """Raises ConfigError for a word that belongs to no flag.

    For the word `yes` of `--dry-run=yes`, the message says that a switch takes no value.
    """
    switch = next((typed.partition("=")[0] for typed in words if typed.endswith(f"={word}")), "")
    advice = f" {switch} takes none: write it alone, or --no-{switch[2:]}." if switch else ""
    raise ConfigError(f"{word!r} belongs to no flag.{advice} {all_flags(cls)}")


def add_argument_of_rows(parsed: dict[str, Any], name: str, value: Any) -> None:
    """Adds an argument for files of rows, e.g. their verifier, to the arguments of the tasks that are such files."""
    env = parsed.get("env", "")
    refuse_rows_arguments(env, {name: value}, parsed.get("data"))
    tasks = parse_tasks(env)
    # Among several tasks, an argument begins with the name of its task. A single task has no name, so no prefix.
    prefixes = [f"{task.name}." for task in tasks if task.name and is_rows(task)] or [""]
    arguments = {f"{prefix}{name}": value for prefix in prefixes}
    parsed["env_args"] = {**parsed.get("env_args", {}), **arguments}


def steps_at(tokens: Any, parsed: Mapping[str, Any]) -> str:
    """The number of denoising steps, `length/2`, for `--tokens-per-step 2`; ConfigError if steps are given, too."""
    flag = as_flag(RATE)
    rate = convert(tokens, float, flag)
    if rate <= 0:
        raise ConfigError(f"{flag} {rate}: should be above 0.")
    if "diffusion_steps" in parsed:
        raise ConfigError(f"{flag} {tokens} and --diffusion-steps say the same thing. Leave one of them out.")
    return steps_at_rate(rate)


def refuse_unknown(cls: Any, left_over: Sequence[str], parsed: Mapping[str, Any]) -> None:
    """Raises ConfigError if a word that belongs to no flag looks like a flag; the error says where its name belongs.

    The name may be that of a hyper-parameter or of an argument of the task, or similar to a flag's. parsed: the known
    flags that were typed.
    """
    # The words from the first one on that looks like a flag.
    words = [*dropwhile(lambda word: not looks_like_flag(word), left_over)]
    if not words:
        return
    flag, _, value_behind_equals = words[0].partition("=")
    typed = flag.lstrip("-").replace("_", "-")
    dashes = "-" if len(typed) == 1 else "--"
    our_flags = {theirs: our_flag for our_flag, names in ELSEWHERE.items() for theirs in names.split()}
    ours = our_flags.get(typed, "")  # "" unless another tool's name of one of our flags was typed
    meant = ours or typed
    known = kinds_of_flags(cls)
    value = value_behind_equals
    if not value:
        has_value = len(words) > 1 and not words[1].startswith("--")
        value = words[1] if has_value else "..."
    nearest = "" if ours else place_of(typed.replace("-", "_"), value, parsed, known)
    nearest = nearest or did_you_mean(meant, [as_flag(name).removeprefix("--") for name in known], "--{}")
    if cls is CompareCommand and (meant in SHORT or meant.replace("-", "_") in settings_of(Config)):
        nearest += "Flags of training stand last, behind ` -- `. "
    raise ConfigError(f"No flag {dashes}{typed}. {nearest}{all_flags(cls)}")


def all_flags(cls: Any) -> str:
    """A sentence that says where the flags of a command are listed."""
    return f"All flags: {program(cls)} --help"


def program(cls: Any) -> str:
    """The words that start a command, e.g. `python -m spg_trainer eval`."""
    return f"{PROG} {cls.word}".rstrip()
