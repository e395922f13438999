"""Finds a model's mask, padding and end tokens, from its config, tokenizer and vocabulary."""

import re
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerFast

from spg_trainer.errors import ConfigError, ModelError, did_you_mean

OWN = frozenset("messages add_generation_prompt tokenize tools documents".split())
"""Variables of a chat template, and options of transformers, that users may not set in --chat-template-args: either we
set them, or no task uses them."""


SpecialTokens = tuple[int, int, tuple[int, ...]]
"""`mask_id`, `pad_id` and `end_token_ids` of a `Policy`. The end tokens of a text come first, those of a turn last."""


def find_special_tokens(
    config: Any, tokenizer: PreTrainedTokenizerFast, asked_mask: int | None = None, size: int | None = None
) -> SpecialTokens:
    """The special tokens, from the model's config first, its tokenizer second, its vocabulary third.

    asked_mask: --mask-token-id. It decides if config and tokenizer name different masks, and is set in the tokenizer.
    size: how many embeddings there are; None = as the config says. Raises ModelError if there is no mask or no end
    token, or if config and tokenizer disagree.
    """
    mask = _find_mask(config, tokenizer, asked_mask, size or config.vocab_size)
    ends = _find_ends(config, tokenizer)
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
