"""From prompts to token ids, from completions back to text, and both at once in `generate`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from spg_trainer.batch import Rollouts
from spg_trainer.config import Sampling
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models.load import Policy
from spg_trainer.sampler import sample_completions
from spg_trainer.seeding import generator

Prompt = str | list[dict[str, str]]
"""A user's text, or a conversation of {"role", "content"} messages."""


def generate(
    policy: Policy,
    prompts: Sequence[Prompt],
    sampling: Sampling | None = None,
    *,
    seed: int = 0,
    completion_prefixes: Sequence[str] | None = None,
    rows_per_forward: int | None = None,
) -> list[str]:
    """Answers each prompt, in order.

    Args:
        policy: what `load_model` returned.
        prompts: texts, each sent as one user message, or lists of chat messages.
        sampling: how to decode; None = `Sampling()`.
        seed: of the noise; prompt number i draws from its own stream, whatever the other prompts are.
        completion_prefixes: text that each answer is made to start with; not part of what is returned.
        rows_per_forward: at most so many prompts in one call of the model; None = what is fastest.

    Returns:
        The texts up to the first end token, special tokens dropped.

    Raises:
        ConfigError: settings that cannot decode, or a prompt too long for the model.
        ModelError: chat messages for a tokenizer without a chat template.
    """
    sampling = sampling or Sampling()
    prompt_ids, prompt_mask = encode_prompts(policy, prompts, completion_prefixes)
    device = policy.model.device
    streams = None
    if sampling.draws_noise:
        streams = [generator(seed, "generate", index, device=device) for index in range(len(prompts))]
    rollouts = sample_completions(
        policy, prompt_ids, prompt_mask, sampling, streams, rows_per_forward=rows_per_forward
    )
    return decode_completions(policy, rollouts)


def encode_prompts(
    policy: Policy, prompts: Sequence[Prompt], completion_prefixes: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Puts prompts into the model's chat format and pads them on the left; nothing is ever cut off.

    A `str` becomes one user message, or is taken as it is where the tokenizer has no chat template. A
    completion prefix follows the opening of the assistant's turn.

    Returns:
        prompt_ids (B, L) int64 and prompt_mask (B, L) bool on the model's device; L is the longest prompt.

    Raises:
        ConfigError: a bare string instead of a sequence, a prompt that is neither text nor messages, or
            more or fewer prefixes than prompts.
        ModelError: chat messages for a tokenizer without a chat template.
    """
    if isinstance(prompts, str):
        raise ConfigError(f"prompts is the single string {prompts[:40]!r}. Pass a list: [prompt].")
    prefixes = [""] * len(prompts) if completion_prefixes is None else completion_prefixes
    if isinstance(prefixes, str) or len(prefixes) != len(prompts):
        raise ConfigError(f"{len(prompts)} prompts need as many completion_prefixes, got {prefixes!r}.")
    texts = [_chat_text(policy, i, prompt) + prefixes[i] for i, prompt in enumerate(prompts)]
    rows = policy.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    width = max(map(len, rows), default=0)
    prompt_ids = torch.full((len(rows), width), policy.pad_id, dtype=torch.int64)
    prompt_mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        prompt_ids[i, width - len(row) :] = torch.tensor(row, dtype=torch.int64)
        prompt_mask[i, width - len(row) :] = True
    return prompt_ids.to(policy.model.device), prompt_mask.to(policy.model.device)


def decode_completions(policy: Policy, rollouts: Rollouts) -> list[str]:
    """The texts of the completions, up to their first end token and without special tokens: B strings."""
    texts = []
    for ids, mask in zip(rollouts.completion_ids.cpu(), rollouts.completion_mask.cpu(), strict=True):
        tokens = [token for token in ids[mask].tolist() if token not in policy.end_token_ids]
        decode = policy.tokenizer.decode
        texts.append(decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return texts


def _chat_text(policy: Policy, index: int, prompt: Prompt) -> str:
    tokenizer = policy.tokenizer
    if isinstance(prompt, str):
        if tokenizer.chat_template is None:
            return prompt
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list) or not all(_is_message(message) for message in prompt):
        raise ConfigError(
            f"prompt {index} is {prompt!r:.80}. Pass text, or a list of messages "
            '[{"role": "user", "content": "..."}].'
        )
    if tokenizer.chat_template is None:
        raise ModelError(
            f"prompt {index} is a list of chat messages, but the tokenizer of {policy.source} has no chat "
            "template. Pass plain text, or use an instruction-tuned model."
        )
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
