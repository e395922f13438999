"""Shows a completion while it is denoised: what is written so far, what the newest step wrote, and what is masked."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch import Tensor

from spg_trainer.models import Policy
from spg_trainer.rollout.sampler import watching
from spg_trainer.settings.packages import envs
from spg_trainer.tensors import Rows

MASKED = "░"
"""What stands at a place without a token."""
STYLES = {"masked": "dim", "newest": "bold green", "written": ""}


def canvas_text(policy: Policy, completion_ids: Tensor, unmask_step: Tensor, step: int) -> Text:
    """A completion after a denoising step, up to its first end token; rich shows it on a terminal and in a notebook.

    completion_ids, unmask_step: (T,), as in a rollout, whose later steps may be there already. step: the number of the
    step, from 0; what it wrote is marked.
    """
    places: list[tuple[str, int]] = []
    for token, written_in in zip(completion_ids.tolist(), unmask_step.tolist(), strict=True):
        if written_in == -1 or written_in > step:
            places.append(("masked", token))
        elif token in policy.end_token_ids:
            break
        else:
            places.append(("newest" if written_in == step else "written", token))
    text = Text()
    for kind, run in groupby(places, key=lambda place: place[0]):
        tokens = [token for _, token in run]
        # Tokens that stand together are decoded together, since one character may take several of them.
        words = (
            MASKED * len(tokens)
            if kind == "masked"
            else policy.tokenizer.decode(tokens, skip_special_tokens=True)
        )
        text.append(envs.text.terminal.printable(words), style=STYLES[kind])
    return text


@contextmanager
def showing_canvas(policy: Policy, console: Console) -> Iterator[None]:
    """Inside, the first completion of each rollout is shown while it is denoised, in a region that is then removed."""
    with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="crop") as live:

        def show(rollouts: Rows) -> None:
            ids, steps = rollouts.completion_ids[0], rollouts.unmask_step[0]
            live.update(canvas_text(policy, ids, steps, step=int(steps.max())), refresh=True)

        with watching(lambda share_done: None, show=show):
            yield
