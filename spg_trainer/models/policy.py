"""`Policy`: a model with all else that masked diffusion needs: tokenizer, special tokens, reference."""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from spg_trainer.errors import ConfigError, ModelError, did_you_mean
from spg_trainer.models import shard
from spg_trainer.models.cuda_graphs import Replays

if TYPE_CHECKING:
    from peft import PeftModel


TRAINED = "default"
"""peft's name of the adapter that is trained."""
REFERENCE_ADAPTER = "reference"
"""peft's name of the frozen adapter from which the training started."""


@dataclass(repr=False)
class Policy:
    """A model with its tokenizer and the token ids that masked diffusion needs."""

    model: "PreTrainedModel | PeftModel"
    """In eval mode after loading."""
    tokenizer: PreTrainedTokenizerFast
    mask_id: int | None
    """None for a model without [MASK], which hides a token by a random one (`noise`)."""
    pad_id: int
    end_token_ids: tuple[int, ...]
    """Any of these ends a completion; LLaDA has two, `<|endoftext|>` and `<|eot_id|>`. The last one ends a turn; it is
    put after the completions that a model is taught."""
    source: str
    """The folder or Hub id that was opened."""
    note: str = ""
    """A line the user should read, or empty."""
    fresh_adapters: bool = False
    """Whether the adapters are new: they began without effect, so the model without them is the reference."""
    frozen: PreTrainedModel | None = None
    """A copy of all weights as they were opened, if such a reference is kept."""
    replays: Replays | None = None
    """Replays passes of rollouts on a GPU; None = Python starts every pass."""
    most_rows: int | None = None
    """How many completions at once fitted after more had run out of memory; None = memory was always enough."""
    most_copies: int | None = None
    """The same for the masked copies of an update: how many at once fitted; None = memory was always enough."""
    unread: Path | None = None
    """The folder of the weights while they are still to be read, since the model is divided first; else None."""
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the tokenizer's chat template, from --chat-template-args."""

    def __repr__(self) -> str:
        """One line: what was opened, and its special tokens."""
        count = sum(weight.numel() for weight in self.model.parameters()) / 1e6
        spelling = self.tokenizer.convert_ids_to_tokens
        ends = " or ".join(f"{spelling(token)!r} ({token})" for token in self.end_token_ids)
        hides = "hides tokens by random ones"
        if self.mask_id is not None:
            hides = f"masks with {spelling(self.mask_id)!r} ({self.mask_id})"
        return (
            f"Policy({self.source!r}: {type(self.model).__name__}, {count:,.2f} million weights, {self.model.dtype} on "
            f"{self.device}, {hides}, ends with {ends})"
        )

    def __reduce__(self) -> NoReturn:
        raise ModelError(
            "A policy cannot be pickled. Write it to a folder, save_model(policy, FOLDER), and open that in each "
            "process, load_model(FOLDER)."
        )

    def __copy__(self) -> "Policy":
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Policy":
        """A policy with weights of its own, such as a frozen copy; what was recorded on a GPU is recorded anew."""
        parts = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "replays"}
        replays = None if self.replays is None else Replays()
        return Policy(**copy.deepcopy(parts, memo), replays=replays)

    def encode(self, text: str, ended: bool = False) -> list[int]:
        """The token ids of a text as it is, without a chat format and without tokens that a tokenizer puts around it.

        ended: whether to add the end token of a completion, the last of `end_token_ids`.
        """
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.end_token_ids[-1]] if ended else list(ids)

    @property
    def blank_id(self) -> int:
        """What stands in a completion where nothing is written: [MASK], or padding if the model has none."""
        return self.pad_id if self.mask_id is None else self.mask_id

    @property
    def noise(self) -> str:
        """What stands at a hidden place: "mask" is [MASK], "uniform" a token drawn uniformly from the vocabulary."""
        return self.model.config.noise

    @property
    def device(self) -> torch.device:
        return self.model.device

    def room(self, tokens: int) -> int:
        """How many of the model's positions are left after so many tokens; negative if there are too few."""
        return self.model.config.max_position_embeddings - tokens

    @contextmanager
    def reference(self) -> Iterator["Policy"]:
        """A policy with the model that training started from, in eval mode, as kept by `open_policy(reference=True)`.

        For new adapters it is the model without them; for a loaded adapter, the adapter as loaded; if all weights are
        trained, their copy.
        """
        if self.frozen is not None:
            # With --shard, only one of the two models is gathered at a time.
            with shard.resharded(self.model), shard.unsharded(self.frozen):
                yield replace(self, model=self.frozen)
            return
        if not self.fresh_adapters and REFERENCE_ADAPTER not in getattr(self.model, "peft_config", {}):
            raise ModelError(f"no reference of {self.source!r} was kept; use open_policy(reference=True)")
        training = self.model.training
        self.model.eval()
        try:
            with self.model.disable_adapter() if self.fresh_adapters else using_reference(self.model):
                yield self
        finally:
            self.model.train(training)

    @torch.no_grad()
    def move_reference(self, share: float) -> None:
        """Moves the reference copy towards the weights: (1 - share) * copy + share * weights; 0 < share <= 1."""
        assert self.frozen is not None
        for kept, now in zip(self.frozen.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(now.to(kept), share)

    def ending_with(self, end_tokens: str) -> "Policy":
        """The same model, whose completions end as `end_tokens` says.

        `any`: with any of its end tokens. `eos`: only with the eos token of its tokenizer, if the tokenizer has one.
        """
        eos = self.tokenizer.eos_token_id
        if end_tokens != "eos" or eos is None:
            return self
        return replace(self, end_token_ids=(eos,))


@contextmanager
def using_reference(model: "PeftModel") -> Iterator[None]:
    """Inside, the reference adapter is active in place of the trained one."""
    tuner = model.base_model
    tuner.set_adapter(REFERENCE_ADAPTER, inference_mode=True)
    try:
        yield
    finally:
        tuner.set_adapter(TRAINED)


def check_policy(value: object, function: str) -> None:
    """Raises ConfigError if a function is given something other than a policy, e.g. the name of a model."""
    if not isinstance(value, Policy):
        shown = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
        example = value if isinstance(value, str) else "tiny"
        raise ConfigError(
            f"{function} takes a policy, not {shown}. Open one: policy = load_model({str(example)!r}). A model object "
            "becomes one by Policy(model, tokenizer, mask_id, pad_id, end_token_ids, source)."
        )


OWN = frozenset("messages add_generation_prompt tokenize tools documents".split())
"""Variables of a chat template, and options of transformers, that users may not set in --chat-template-args: either we
set them, or no task uses them."""


SpecialTokens = tuple[int | None, int, tuple[int, ...]]
"""`mask_id`, `pad_id` and `end_token_ids` of a `Policy`. The end tokens of a text come first, those of a turn last."""


def find_special_tokens(
    config: Any, tokenizer: PreTrainedTokenizerFast, asked_mask: int | None = None, size: int | None = None
) -> SpecialTokens:
    """The special tokens, from the model's config first, its tokenizer second, its vocabulary third.

    asked_mask: --mask-token-id. It decides if config and tokenizer name different masks, and is set in the tokenizer.
    size: how many embeddings there are; None = as the config says. Raises ModelError if there is no mask or no end
    token, or if config and tokenizer disagree.
    """
    ends = _find_ends(config, tokenizer)
    if config.noise == "uniform":
        if not ends:
            raise ModelError("it has no end token; set eos_token_id in its config.json")
        return None, ends[0], ends  # behind its end, such a model is taught end tokens
    mask = _find_mask(config, tokenizer, asked_mask, size or config.vocab_size)
    if not ends or mask in ends:
        raise ModelError(f"its end tokens are {ends}, its mask {mask}; set eos_token_id in its config.json")
    padding = (tokenizer.pad_token_id, config.pad_token_id, ends[0])
    return mask, next(token for token in padding if token is not None), ends


def check_template_args(tokenizer: PreTrainedTokenizerFast, names: Iterable[str]) -> None:
    """Raises ConfigError for a name of --chat-template-args that the tokenizer's chat template does not read."""
    template = str(tokenizer.chat_template or "")
    known = {*re.findall(r"[a-z]\w*", template)} - OWN  # any word of the template may be a variable
    for name in names:
        if name not in known:
            why = (
                "the tokenizer has no chat template" if not template else "the chat template does not read it"
            )
            raise ConfigError(f"$chat_template_args {name}: {why}. {did_you_mean(name, known)}Leave it out.")


def _find_mask(config: Any, tokenizer: PreTrainedTokenizerFast, asked_mask: int | None, size: int) -> int:
    """The id of [MASK]. size: how many embeddings there are. Raises ModelError as `find_special_tokens`."""
    vocabulary = tokenizer.get_vocab()
    masks_by_word = (vocabulary.get(word) for word in config.mask_words)
    masks = (config.mask_token_id, tokenizer.mask_token_id, *masks_by_word)
    mask = next((token for token in masks if token is not None), None)
    if mask is None:
        raise ModelError("no mask token: pass $mask_token_id=N, or set mask_token_id in its config.json")
    if not 0 <= mask < size or len(tokenizer) > size:
        text = f"it has {size} embeddings, but mask_token_id is {mask} and the tokenizer has {len(tokenizer)} tokens"
        raise ModelError(f"{text}; take config.json and tokenizer of one model")
    if asked_mask is not None and tokenizer.mask_token_id not in (None, asked_mask):
        tokenizer.mask_token = tokenizer.convert_ids_to_tokens(asked_mask)
    mask_of_tokenizer = tokenizer.mask_token_id
    if mask_of_tokenizer not in (None, mask):
        raise ModelError(
            f"config.json says that [MASK] is token {mask} ({tokenizer.convert_ids_to_tokens(mask)!r}), the tokenizer "
            f"that it is {mask_of_tokenizer} ({tokenizer.mask_token!r}); pass the one that the model was trained with: "
            f"$mask_token_id={mask} or $mask_token_id={mask_of_tokenizer}"
        )
    return mask


def _find_ends(config: Any, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Tokens that end a text, those of config and tokenizer first, then those that end a turn."""
    vocabulary, eos_of_config = tokenizer.get_vocab(), config.eos_token_id
    turn_ends = [vocabulary[word] for word in config.turn_ends if word in vocabulary]
    candidates = [
        *(eos_of_config if isinstance(eos_of_config, list) else [eos_of_config]),
        tokenizer.eos_token_id,
        *(vocabulary.get(word) for word in config.text_ends),
    ]
    text_ends = (token for token in candidates if token is not None and token not in turn_ends)
    return tuple(dict.fromkeys([*text_ends, *turn_ends]))
