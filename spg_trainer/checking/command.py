"""`python -m spg_trainer algorithms list | new | check`: lists algorithms, writes a file for a new one, checks one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spg_trainer.algorithms.registry import ALGORITHMS, FOR_USE
from spg_trainer.errors import ConfigError
from spg_trainer.settings.flags import Parser
from spg_trainer.settings.types import parse_pairs

PROG = "python -m spg_trainer algorithms"
EPILOG = """\
examples:
  python -m spg_trainer algorithms new my_algorithm.py
  python -m spg_trainer algorithms check ./my_algorithm.py:MyAlgorithm
  python -m spg_trainer algorithms check spg wd1 --algorithm-args num_masks=4

Exit status: 0 when all is well, 1 when a check fails, 2 when a name, a file or a flag cannot be used.
"""
TEMPLATE = '''\
"""{name}: REINFORCE with the ELBO as log-likelihood. Train with it: --algorithm ./{file}:{name}"""

from dataclasses import dataclass

from spg_trainer.algorithms import Algorithm, Loss, Metric
from spg_trainer.likelihood.bounds import elbo


@dataclass(frozen=True)
class {name}(Algorithm):
    """Each completion's ELBO, weighed by its advantage over the mean of its group."""

    # Every field is a hyper-parameter: --algorithm-args strength=2. Those of `Algorithm` are there too: `masking` says
    # how completions are masked, `num_masks` how often, `advantage` what a reward is compared with.
    masking: str = "random"
    strength: float = 1.0

    # Say what the loss needs: `needs: ClassVar[frozenset[str]] = frozenset({{"old", "reference"}})` fills
    # batch.old_logps (under the model that sampled) and batch.ref_logps (under the model that training started from).
    # If the loss compares the completions of a group, `compares: ClassVar[str] = "group"` keeps them in one
    # micro-batch.

    def loss(self, logps, masks, batch) -> Loss:
        # logps (B, M, T): log-probability of each scored token of M masked copies of B completions; 0 where not scored.
        # masks.scored (B, M, T) bool, masks.weight (B, M, T): the importance weight of a token.
        # batch.advantages (B,), batch.length (B,): tokens, batch.group (B,), batch.completion_mask (B, T).
        bound = elbo(logps, masks)  # (B,)
        terms = self.strength * batch.advantages.to(logps) * bound
        # Divide by batch.totals, the sums over the whole update on all processes, never by counts of this micro-batch.
        loss = -terms.sum() / batch.totals["completions"]
        # What metrics.jsonl shows: a sum, and what the sum over all completions is divided by.
        shown = Metric((bound / batch.length).detach().sum(), "scored_completions")
        return Loss(loss, {{"bound/elbo": shown}})
'''


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status. Raises ConfigError for a name, file or flag that cannot be used."""
    options = parser().parse_args(list(arguments) or ["--help"])
    if options.command == "list":
        for_comparison = [name for name in ALGORITHMS if name not in FOR_USE]
        for heading, names in {"For use": FOR_USE, "For comparison": for_comparison}.items():
            sys.stdout.write(f"{heading}:\n" + "".join(f"  {name}\n" for name in names))
        return 0
    if options.command == "new":
        name = write_algorithm(options.file)
        sys.stdout.write(
            f"{options.file} holds {name}, with every line explained. Check it, then train with it:\n"
            f"  {PROG} check ./{options.file}:{name}\n"
            f"  python -m spg_trainer --env sudoku --algorithm ./{options.file}:{name}\n"
        )
        return 0
    from spg_trainer.checking.checks import check_algorithm  # torch takes seconds

    failed = False
    for name in options.names:
        sys.stdout.write(f"{name}\n")
        for finding in check_algorithm(name, parse_pairs(options.algorithm_args, where="--algorithm-args")):
            failed |= not finding.ok
            sys.stdout.write(f"{'ok' if finding.ok else 'FAILS':6} {finding.name:14} {finding.figure}\n")
    return int(failed)


def parser() -> Parser:
    """The parser of the command's words and flags."""
    result = Parser(
        prog=PROG,
        description="Lists algorithms, writes a file for one of your own, and checks its loss.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = result.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("list", help="names the algorithms of this package: for use, and for comparison")
    new = commands.add_parser("new", help="writes a working algorithm with every line explained")
    new.add_argument(
        "file", metavar="FILE.py", help="the file to write, e.g. my_algorithm.py; it must not exist"
    )
    check_help = (
        "tries, without a model, whether a loss is pure, has the right gradient and "
        "does not depend on micro-batches"
    )
    check = commands.add_parser("check", help=check_help)
    names_help = "algorithms of this package, or files: ./my_algorithm.py:MyAlgorithm"
    check.add_argument("names", metavar="NAME", nargs="+", help=names_help)
    args_help = "the hyper-parameters to check with, e.g. num_masks=4"
    check.add_argument("--algorithm-args", metavar="KEY=VALUE", nargs="+", default=[], help=args_help)
    return result


def write_algorithm(file: str) -> str:
    """Writes a working starting file; returns the name of the class in it, "MyAlgorithm" for my_algorithm.py.

    Raises ConfigError if the file exists, its folder does not, or its name is no Python name with ".py".
    """
    path = Path(file)
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ConfigError(f"{file}: the file needs a name like my_algorithm.py.")
    if path.exists():
        raise ConfigError(f"{file} exists. Choose another name, or remove it.")
    if not path.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {path.parent}. Make it first.")
    name = "".join(part.capitalize() for part in path.stem.split("_"))
    path.write_text(TEMPLATE.format(name=name, file=path.name), encoding="utf-8")
    return name
