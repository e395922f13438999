"""Algorithms by name, and their hyper-parameters from the text that people type."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import cache
from pathlib import Path

from spg_trainer.algorithms.base import Algorithm
from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.types import read_nested

ALGORITHMS = {
    "spg": "spg_trainer.algorithms.spg:SPG",
    "spg_repro": "spg_trainer.algorithms.spg:SPGRepro",
    "spg_eubo": "spg_trainer.algorithms.spg:SPGEUBO",
    "raft": "spg_trainer.algorithms.raft:RAFT",
    "diffu_grpo": "spg_trainer.algorithms.diffu_grpo:DiffuGRPO",
    "diffu_grpo_repro": "spg_trainer.algorithms.diffu_grpo:DiffuGRPO",
    "wd1": "spg_trainer.algorithms.wd1:WD1",
    "wd1_repro": "spg_trainer.algorithms.wd1:WD1",
    "unigrpo": "spg_trainer.algorithms.unigrpo:UniGRPO",
    "unigrpo_repro": "spg_trainer.algorithms.unigrpo:UniGRPORepro",
    "gdpo": "spg_trainer.algorithms.gdpo:GDPO",
    "gdpo_repro": "spg_trainer.algorithms.gdpo:GDPORepro",
    "bgpo": "spg_trainer.algorithms.bgpo:BGPO",
    "espo": "spg_trainer.algorithms.espo:ESPO",
    "espo_repro": "spg_trainer.algorithms.espo:ESPORepro",
    "justgrpo": "spg_trainer.algorithms.justgrpo:JustGRPO",
    "justgrpo_repro": "spg_trainer.algorithms.justgrpo:JustGRPORepro",
    "vrpo": "spg_trainer.algorithms.vrpo:VRPO",
    "agrpo": "spg_trainer.algorithms.agrpo:AGRPO",
    "d2_stepmerge": "spg_trainer.algorithms.d2_stepmerge:D2StepMerge",
    "cj_grpo": "spg_trainer.algorithms.cj_grpo:CJGRPO",
    "forkgrpo": "spg_trainer.algorithms.forkgrpo:ForkGRPO",
    "tracerl": "spg_trainer.algorithms.tracerl:TraceRL",
    "coupled_grpo": "spg_trainer.algorithms.coupled_grpo:CoupledGRPO",
    "stabledrl": "spg_trainer.algorithms.stabledrl:StableDRL",
    "slim_rl": "spg_trainer.algorithms.slim_rl:SlimRL",
    "maxrl": "spg_trainer.algorithms.maxrl:MaxRL",
    "rspo": "spg_trainer.algorithms.rspo:RSPO",
    "mapg": "spg_trainer.algorithms.mapg:MAPG",
}
"""{name: where its class is}. A class is imported only when it is asked for, so that names and help cost nothing."""
OWN_VALUES: dict[str, dict[str, object]] = {
    "diffu_grpo_repro": {
        "masking": "all",
        "advantage": "mean",
        "normalizer": "tokens",
        "end_tokens": "eos",
    },
    "wd1_repro": {"masking": "all", "advantage": "mean", "normalizer": "groups", "end_tokens": "eos"},
}
"""{name: its fixed hyper-parameters}, for reproductions that share the class of another name. Other values are refused,
since the result would no longer be the reproduction that the name promises."""
FOR_USE = (
    *("spg", "raft", "justgrpo", "d2_stepmerge"),
    *("forkgrpo", "slim_rl"),
    *("wd1", "gdpo", "bgpo", "diffu_grpo", "unigrpo", "vrpo"),
)
"""The algorithms to use; all others are here to be compared with. First line: each leads a row of the table "Which
algorithm should I use?" (docs/algorithms/README.md). Second line: these two need far fewer passes than others of their
kind. Third line: these are used by the systems of published tables."""
ELSEWHERE = {"diffu_grpo": "grpo d1", "vrpo": "dpo"}
"""{our name: other names, divided by spaces, by which a user may look for the algorithm or for what it replaced}."""
TRIED_AND_LEFT = {
    "egspo": "agrpo",
    "egspo_sa": "agrpo",
    "rldf": "agrpo",
    "mdpo": "d2_stepmerge",
    "d_treerpo": "d2_stepmerge",
    "dispo": "spg",
    "opsd": "raft",
    "distil": "raft",
}
"""{an algorithm that this package had: the nearest one that it has}. docs/project/tried_and_left.md has what was
measured with each."""
LISTED = 8
"""How many algorithms a message names."""
OF_DEMONSTRATIONS = {"mle": "spg_trainer.algorithms.mle:MLE"}
"""As `ALGORITHMS`, for algorithms that learn from demonstrations alone (the command `sft`), not in an RL run."""


def is_known(name: str) -> bool:
    """Whether a name is an algorithm of this package, or says where to find one (FILE:CLASS)."""
    return ":" in name or name in ALGORITHMS | OF_DEMONSTRATIONS


def replacement(name: str) -> str:
    """Our name for an algorithm that others call `name`, or for what replaces it here; "" if there is none."""
    elsewhere = (ours for ours, theirs in ELSEWHERE.items() if name.lower() in theirs.split())
    return TRIED_AND_LEFT.get(name.lower(), "") or next(elsewhere, "")


def find_algorithm(name: str) -> tuple[str, str]:
    """(file or module, class name) of an algorithm, which is not imported.

    E.g. `./mine.py:Mine` gives ("./mine.py", "Mine"). name: a name of `ALGORITHMS`, `./file.py:MyClass`, or
    `package.module:MyClass`. Raises ConfigError for an unknown name or file; the message names the nearest known name.
    """
    where, _, class_name = (ALGORITHMS | OF_DEMONSTRATIONS).get(name, name).rpartition(":")
    if not where:
        if name.endswith(".py"):
            raise ConfigError(
                f"$algorithm={name}: a file may hold several. Name the class in it: $algorithm={name}:MyClass."
            )
        if "," in name:
            hint = f"`compare` takes several, divided by spaces: {name.replace(',', ' ')}. "
        elif nearest := TRIED_AND_LEFT.get(name.lower()):
            raise ConfigError(
                f"$algorithm={name} is not in this package any more; the page 'Algorithms that we tried and left' has "
                f"what was measured. The nearest one that stays is $algorithm={nearest}."
            )
        elif name.lower() == "sft":
            hint = "`python -m spg_trainer sft` trains by maximum likelihood, on demonstrations. "
        elif ours := replacement(name):
            hint = f"Did you mean '{ours}'? "
        else:
            hint = did_you_mean(name, ALGORITHMS)
        raise ConfigError(
            f"$algorithm={name}: no such algorithm. {hint}For use: {', '.join(FOR_USE)}. For comparison: "
            f"{', '.join(other for other in ALGORITHMS if other not in FOR_USE)}. "
            "For your own: $algorithm=./my_algorithm.py:MyClass or $algorithm=my_package.my_module:MyClass."
        )
    if where.endswith(".py") and not Path(where).is_file():
        raise ConfigError(f"$algorithm={name}: there is no file {Path(where)} (looked in {Path.cwd()}).")
    return where, class_name


def exit_is_error() -> AbstractContextManager[None]:
    """Inside, an author's code that exits raises an error; as `verifiers.user_code.exit_is_error`."""
    return packages.verifiers.user_code.exit_is_error()


def get(name: str) -> type[Algorithm]:
    """The class of an algorithm, by a name as for `find_algorithm`; ConfigError if it cannot be loaded."""
    where, class_name = find_algorithm(name)
    is_file = where.endswith(".py")
    try:
        with exit_is_error():
            module = packages.envs.own_files.import_file(where) if is_file else importlib.import_module(where)
    except packages.errors() as error:
        raise ConfigError(f"$algorithm={name}: {error}") from error
    except Exception as error:
        hint = "" if is_file else f"; for a file write ./{where.replace('.', '/')}.py:MyClass"
        text = f"$algorithm={name}: importing {where} raised {type(error).__name__}: {error}{hint}"
        raise ConfigError(text) from error
    cls = getattr(module, class_name, None)
    if cls is None:
        nearest = did_you_mean(
            class_name, [known for known, value in vars(module).items() if inspect.isclass(value)]
        )
        raise ConfigError(f"$algorithm={name}: {where} has no class {class_name}. {nearest}".rstrip())
    if not (inspect.isclass(cls) and issubclass(cls, Algorithm)):
        raise ConfigError(
            f"$algorithm={name}: {class_name} is no class derived from spg_trainer.algorithms.Algorithm."
        )
    if inspect.isabstract(cls):
        raise ConfigError(f"$algorithm={name}: {class_name} lacks {', '.join(cls.__abstractmethods__)}.")
    if unread := next(unread_fields(cls), ""):
        raise ConfigError(f"$algorithm={name}: {unread}")
    return cls


def has_hyper_parameter(algorithm: str, name: str) -> bool:
    """Whether an algorithm has a hyper-parameter of this name; False if it cannot be loaded, which `get` refuses."""
    if ":" not in algorithm and not _is_written_here(name):
        return False  # without an import of the class
    try:
        return name in {field.name for field in fields(get(algorithm))}
    except ConfigError:
        return False


@cache
def _is_written_here(name: str) -> bool:
    """Whether a class in a file of this folder has a line `name: TYPE`.

    The files are read as text, because loading the classes loads torch, which takes seconds.
    """
    return any(
        f"\n    {name}: " in file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("*.py")
    )


def algorithms_with(name: str) -> str:
    """The algorithms that have a hyper-parameter of this name, up to `LISTED` of them; "" if none has it."""
    having_it = [algorithm for algorithm in ALGORITHMS if has_hyper_parameter(algorithm, name)]
    more = [f"{len(having_it) - LISTED} more"] if len(having_it) > LISTED else []
    return ", ".join(having_it[:LISTED] + more)


def unread_fields(cls: type[Algorithm]) -> Iterator[str]:
    """Yields a message for hyper-parameters that a class sets in its body, but that its constructor would ignore."""
    known = {field.name: field.type for field in fields(cls)}
    derived_from_algorithm = cls.__mro__[: cls.__mro__.index(Algorithm)]
    for body in derived_from_algorithm:
        own, hints = vars(body), vars(body).get("__annotations__", {})
        new_fields = [name for name, hint in hints.items() if "ClassVar" not in str(hint)]
        if new_fields and "__dataclass_fields__" not in own:
            yield (
                f"{body.__name__} sets {', '.join(new_fields)}, which counts only in a dataclass. Write "
                f"@dataclass(frozen=True) above class {body.__name__}."
            )
        for name in known.keys() & (own.keys() - hints.keys()):
            yield (
                f"{body.__name__} sets {name} without its type, so that it would keep its old value. Write "
                f"`{name}: {known[name]} = ...` in a class with @dataclass(frozen=True)."
            )


def name_in_recipes(name: str) -> str:
    """The name under which an algorithm finds its recipe: its own, or the name of the nearest class it derives from.

    Returns "" for a class from outside that derives from no class of `ALGORITHMS`, and for a class that cannot be
    loaded (`get` refuses it).
    """
    if ":" not in name:
        return name
    name_of_class = {where: ours for ours, where in ALGORITHMS.items() if ours not in OWN_VALUES}
    try:
        lineage = get(name).__mro__
    except ConfigError:
        return ""
    ancestors = (name_of_class.get(f"{cls.__module__}:{cls.__qualname__}") for cls in lineage)
    return next((ancestor for ancestor in ancestors if ancestor), "")


WITH_WRONG_TOKENS = frozenset("mle raft wd1 espo spg diffu_grpo unigrpo gdpo bgpo vrpo".split())
"""The algorithms that may be shown wrong tokens (`edit_noise`). Each needs no more than a number for a completion, or
for each of its tokens, whatever hides them."""
WITH_RANDOM_TOKENS = WITH_WRONG_TOKENS | {"tracerl", "d2_stepmerge"}
"""The algorithms for models that hide a token by a random one; the last two replay the steps that the rollout
recorded."""


def check_algorithm_noise(name: str, noise: str) -> None:
    """Raises ConfigError for one of our algorithms that does not go with what a model shows at a hidden place."""
    if noise == "uniform" and ":" not in name and name not in WITH_RANDOM_TOKENS:
        raise ConfigError(
            f"$algorithm={name}: its loss is about tokens that are shown as [MASK], and this model hides a token by a "
            f"random one. Use one of: {', '.join(sorted(WITH_RANDOM_TOKENS))}."
        )


def check_edit_noise(name: str, edit_noise: float) -> None:
    """Raises ConfigError for `edit_noise` with one of our algorithms whose loss is about tokens shown as [MASK]."""
    if edit_noise and ":" not in name and name not in WITH_WRONG_TOKENS:
        raise ConfigError(
            f"$algorithm_args edit_noise={edit_noise:g}: the loss of $algorithm={name} is about tokens that are shown "
            f"as [MASK]. Leave it out, or use one of: {', '.join(sorted(WITH_WRONG_TOKENS))}."
        )


def build(name: str, args: Mapping[str, object] | None = None) -> Algorithm:
    """An algorithm from its name and the values of `--algorithm-args`.

    Raises ConfigError for an unknown name, key or value, naming what would be right.
    """
    cls, fixed, given = get(name), OWN_VALUES.get(name, {}), args or {}
    known = {field.name for field in fields(cls)}
    for key in fixed.keys() & given.keys():
        if given[key] != fixed[key]:
            raise ConfigError(f"$algorithm_args {key}={given[key]!r}: expected one of {fixed[key]}.")
    for key, value in given.items():
        # `read_nested` refuses a key that no algorithm has.
        if key not in known and (others := algorithms_with(key)):
            raise ConfigError(
                f"$algorithm_args {key}={value!r}: {name} has no such setting; these have it: {others}. Known: "
                f"{', '.join(field.name for field in fields(cls))}."
            )
    values = read_nested(cls, {**fixed, **given}, lambda key: f"$algorithm_args {key}")
    with exit_is_error():
        algorithm = cls(**values)
    check_edit_noise(name, algorithm.edit_noise)
    return algorithm
