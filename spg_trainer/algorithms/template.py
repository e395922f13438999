"""The file that `python -m spg_trainer algorithms new` writes: a whole algorithm, short and explained line by line."""

from pathlib import Path

from spg_trainer.errors import ConfigError

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
