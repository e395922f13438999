"""A model with all that masked diffusion needs to know of it: tokenizer, special tokens, reference."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from spg_trainer.errors import ModelError
from spg_trainer.models import shard
from spg_trainer.models.lora import REFERENCE, using_reference
from spg_trainer.models.replay import Replays

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass
class Policy:
    """A model with its tokenizer and the token ids that masked diffusion needs."""

    model: "PreTrainedModel | PeftModel"
    """In eval mode after loading."""
    tokenizer: PreTrainedTokenizerFast
    mask_id: int
    pad_id: int
    end_token_ids: tuple[int, ...]
    """Any of these ends a completion, the last one a turn; LLaDA has two, `<|endoftext|>` and `<|eot_id|>`."""
    source: str
    """The folder or Hub id that was opened."""
    note: str = ""
    """A line the user should read, or empty."""
    fresh_adapters: bool = False
    """Whether the adapters began at no effect, so that the base below them is what they started from."""
    frozen: PreTrainedModel | None = None
    """A copy of all the weights as they were opened, if one is kept."""
    replays: Replays | None = None
    """Replays passes of rollouts on a GPU; None = Python starts every pass."""
    unread: Path | None = None
    """The folder of the weights, while the model has none because it will be divided first."""
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the tokenizer's chat template, as of --chat-template-args."""

    @property
    def device(self) -> torch.device:
        return self.model.device

    def replaying(self) -> AbstractContextManager[None]:
        """Inside, which is one rollout, passes may be replayed; the weights may not move."""
        return nullcontext() if self.replays is None else self.replays.during_rollout()

    @contextmanager
    def reference(self) -> Iterator["PreTrainedModel | PeftModel"]:
        """The model that training started from, in eval mode, as kept by `open_policy(reference=True)`.

        Fresh adapters: the model below them. A loaded adapter: as it was loaded. All weights: their copy.
        """
        if self.frozen is not None:
            with shard.resharded(self.model), shard.unsharded(self.frozen):
                yield self.frozen
            return
        if not self.fresh_adapters and REFERENCE not in getattr(self.model, "peft_config", {}):
            raise ModelError(f"no reference of {self.source!r} was kept; use open_policy(reference=True)")
        training = self.model.training
        self.model.eval()
        try:
            with self.model.disable_adapter() if self.fresh_adapters else using_reference(self.model):
                yield self.model
        finally:
            self.model.train(training)

    @torch.no_grad()
    def move_reference(self, share: float) -> None:
        """Moves the copy of all weights towards the weights as they are, of which it takes a share, above 0 up to 1."""
        assert self.frozen is not None
        for kept, now in zip(self.frozen.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(now.to(kept), share)

    def ending_with(self, end_tokens: str) -> "Policy":
        """The same model, whose completions end with `any` of its end tokens, or only with its tokenizer's `eos`."""
        eos = self.tokenizer.eos_token_id
        return replace(self, end_token_ids=(eos,)) if end_tokens == "eos" and eos is not None else self
