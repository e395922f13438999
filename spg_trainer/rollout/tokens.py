"""Turns prompts into token ids, and completions back into text; `player.py` beside it decodes in between."""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jinja2 import TemplateError
from torch import Tensor

from spg_trainer.errors import ConfigError, ModelError, first_line
from spg_trainer.models.policy import Policy
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name
from spg_trainer.tensors import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


DEMONSTRATED = 16
"""How many problems' demonstrations are measured to tell whether a completion is long enough for an answer."""

APART = "\ufdd0\ufdef"
"""Two characters that Unicode keeps out of all texts. If a prompt spells a special token, they mark a cut inside it, so
that the tokenizer reads it as text: "<|eot|>" becomes "<" + APART + "|eot|>"."""
Prompt = str | list[dict[str, str]]
"""A user's text, or a conversation of {"role", "content"} messages."""


def encode_templates(
    policy: Policy, templates: Sequence[str], length: int, name: Callable[[int], str]
) -> Tensor | None:
    """The token ids of templates, (B, T) int64 on the model's device, with the mask id in the holes.

    Takes the arguments of `template_rows`, and raises its errors. Returns None if all templates are "".
    """
    if not any(templates):
        return None
    token_ids = template_rows(policy, templates, length, name)
    return torch.tensor(token_ids, dtype=torch.int64, device=policy.device)


def template_rows(
    policy: Policy, templates: Sequence[str], length: int, name: Callable[[int], str]
) -> list[list[int]]:
    """The token ids of texts with holes, `length` for each, with the mask id in the holes.

    Each text between holes is encoded by itself. After the last part come one end token and padding, as far as
    `length` leaves room; these are given, too, since models are trained on them. E.g. if 7 is a token, "7[MASK]" in 5
    tokens is 7, mask, end, padding, padding.

    templates: as `envs.text.template.read_holes` reads them; "" = nothing is given. name: gives a row's name in errors.
    Raises ConfigError for a template that cannot be read, and for one that takes more tokens than `length`.
    """
    if policy.noise == "uniform" and any(templates):
        raise ConfigError(
            f"{name(0)}: this model writes whole canvases from random tokens, and fills no holes of a given text. "
            "Leave the template out, or take a model with [MASK]."
        )
    special = special_tokens(policy).values()
    # The hole `[MASK*]` takes all the room that the other parts leave.
    rest = envs.text.template.REST
    token_ids = []
    for row, template in enumerate(templates):
        try:
            # Texts, and the sizes of holes.
            parts = envs.text.template.read_holes(template) if template else [rest]
        except ValueError as error:
            raise ConfigError(f"{name(row)}: the template {error}") from error
        texts = [spell_apart(part, special) for part in parts if isinstance(part, str)]
        ids_of_texts = iter(encode_plain(policy, texts))
        # `rest` is 0, so its piece is empty until the remaining room is known.
        pieces = [next(ids_of_texts) if isinstance(part, str) else [policy.mask_id] * part for part in parts]
        takes_rest = rest in parts
        num_taken = sum(map(len, pieces))
        if takes_rest and parts[-1] != rest:
            num_taken += 1  # the end token; if `rest` is the last part, the model writes one into it
        needed = num_taken + 1 if takes_rest else num_taken  # `rest` takes one token at least
        if needed > length:
            raise ConfigError(
                f"{name(row)}: the template takes {needed} tokens or more, and a completion has {length}. Use "
                f"$max_completion_length={needed} or more, or a shorter template."
            )
        if takes_rest:
            pieces[parts.index(rest)] = [policy.mask_id] * (length - num_taken)
        ids = [token for piece in pieces for token in piece]
        padding = [policy.pad_id] * length
        token_ids.append([*ids, policy.end_token_ids[-1], *padding][:length])
    return token_ids


def encode_prompts(
    policy: Policy, prompts: Sequence[Prompt], completion_prefixes: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Puts prompts into the model's chat format and pads them on the left; nothing is ever cut off.

    A `str` becomes one user message. If the tokenizer has no chat template, the text is taken as it is, after the
    token with which that tokenizer begins a text (`bos_token`), if it adds one. A completion prefix follows the opening
    of the assistant's turn. A special token that a prompt spells is encoded as text: only the chat template's own
    tokens are special.

    Returns prompt_ids (B, L) int64 and prompt_mask (B, L) bool, false on padding, on the model's device; L is the
    length of the longest prompt. Raises ConfigError if `prompts` is a string, or if a prompt is neither text nor
    messages; ModelError for chat messages if the tokenizer has no chat template.
    """
    if isinstance(prompts, str):
        raise ConfigError(f"prompts is the single string {prompts[:40]!r}. Pass a list: [prompt].")
    prefixes = [""] * len(prompts) if completion_prefixes is None else completion_prefixes
    return encode_texts(policy, prompt_texts(policy, prompts, prefixes))


def prompt_texts(policy: Policy, prompts: Sequence[Prompt], completion_prefixes: Sequence[str]) -> list[str]:
    """Prompts in the model's chat format, as `encode_texts` takes them; raises as `encode_prompts`."""
    special, template = special_tokens(policy).values(), policy.tokenizer.chat_template
    texts = []
    for prompt, prefix in zip(prompts, completion_prefixes, strict=True):
        if isinstance(prompt, str) and template is None:
            texts.append(begin_of_text(policy.tokenizer) + spell_apart(prompt, special) + prefix)
            continue
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if not is_chat(messages):
            wanted = '[{"role": "user", "content": "..."}]'
            raise ConfigError(f"prompt {prompt!r:.80}: should be text, or messages {wanted}.")
        if template is None:
            raise ModelError(
                f"prompt {prompt!r:.80}: the tokenizer of {policy.source} has no chat template. Pass plain text, or "
                "use an instruction-tuned model."
            )
        texts.append(chat_text(policy, messages, special) + prefix)
    return texts


def encode_texts(policy: Policy, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Encodes texts that are already in the model's chat format; returns what `encode_prompts` returns."""
    token_ids = encode_plain(policy, texts)
    width = max(map(len, token_ids), default=0)
    padded = [[policy.pad_id] * (width - len(row)) + row for row in token_ids]
    prompt_ids = torch.tensor(padded, dtype=torch.int64, device=policy.device).reshape(len(token_ids), width)
    lengths = torch.tensor([len(row) for row in token_ids], device=policy.device)
    columns_from_end = torch.arange(-width, 0, device=policy.device)
    return prompt_ids, columns_from_end >= -lengths.unsqueeze(-1)


def encode_plain(policy: Policy, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of texts, without tokens that the tokenizer adds. `APART` marks cuts, at which texts are divided.

    Raises ConfigError for half of a character (a lone surrogate).
    """
    if what_is_broken := envs.text.surrogates.half_character(texts):
        raise ConfigError(f"a text for the model {what_is_broken}")
    # The pieces between cuts are encoded separately, for all texts in one call of the tokenizer.
    pieces = [text.split(APART) for text in texts]
    flat = [piece for pieces_of_text in pieces for piece in pieces_of_text]
    ids_of_pieces = iter(policy.tokenizer(flat, add_special_tokens=False)["input_ids"] if flat else [])
    token_ids = []
    for pieces_of_text in pieces:
        ids: list[int] = []
        for _ in pieces_of_text:
            ids += next(ids_of_pieces)
        token_ids.append(ids)
    return token_ids


def spell_apart(text: str, special: Iterable[str]) -> str:
    """The text with `APART` inside every special token that it spells, so that `encode_plain` takes it as text.

    A special token of one character cannot be cut, and stays special.
    """
    if not (found := [token for token in special if len(token) > 1 and token in text]):
        return text
    pattern = re.compile("|".join(re.escape(token) for token in sorted(found, key=len, reverse=True)))
    while pattern.search(text):  # after a cut, the rest of a special token may spell another one
        text = pattern.sub(lambda match: match[0][:1] + APART + match[0][1:], text)
    return text


def special_tokens(policy: Policy) -> dict[int, str]:
    """{id: spelling} of the tokens that are no text: the tokenizer's special ones, and mask, padding and end tokens."""
    ids_of_policy = {policy.mask_id, policy.pad_id, *policy.end_token_ids}
    added = policy.tokenizer.added_tokens_decoder.items()
    return {index: token.content for index, token in added if token.special or index in ids_of_policy}


def chat_text(policy: Policy, messages: Sequence[Mapping[str, str]], special: Iterable[str]) -> str:
    """A conversation in the model's format up to the opening of the assistant's turn, for `encode_texts`.

    special: the spellings from `special_tokens`; they count as text in messages, but not in the chat template. Raises
    TemplateRefuses for messages that the template does not take, and for one that it leaves out.
    """
    spelled = [{**message, "content": spell_apart(message["content"], special)} for message in messages]
    # `enable_thinking` is for Qwen3's template: diffusion models that have it were not trained to think.
    options = {"enable_thinking": False, **policy.chat_template_args}
    options |= {"add_generation_prompt": True, "tokenize": False}
    contents = [message["content"].strip() for message in spelled]
    try:
        text = policy.tokenizer.apply_chat_template(spelled, **options)
        for number, content in enumerate(contents):
            if text.count(content) >= contents.count(content):
                continue
            # Templates may change a message, e.g. cut its thinking, but then another message gives another text.
            other = [*spelled[:number], {**spelled[number], "content": f"{content}x"}, *spelled[number + 1 :]]
            if policy.tokenizer.apply_chat_template(other, **options) == text:
                raise TemplateRefuses(
                    f"the chat template of {policy.source} leaves out message {number + 1} of {len(spelled)}, "
                    f"{content[:30]!r} of the role {spelled[number]['role']}: it would not reach the model"
                )
        return text
    except (TemplateError, TypeError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise TemplateRefuses(
            f"the chat template of {policy.source} refuses a conversation of {roles}: {first_line(error)}"
        ) from error


class TemplateRefuses(ModelError):
    """Messages that a model's chat template does not take, such as a role that it does not know."""


def encode_completions(policy: Policy, completions: Sequence[str], length: int) -> Tensor:
    """Token ids (B, length) int64 of completions, each with its end token; raises ConfigError for a longer one."""
    token_ids = completion_rows(policy, completions)
    if (longest := max(map(len, token_ids))) > length:
        text = f"A completion has {longest} tokens with its end token, more than {length}"
        raise ConfigError(f"{text}. Use $max_completion_length={longest} or more.")
    return pad_completions(policy, token_ids, length)


def completion_rows(policy: Policy, completions: Sequence[str]) -> list[list[int]]:
    """The token ids of each completion and one end token, as in LLaDA's own training data.

    A completion may spell end tokens, as in files of demonstrations: no end token is added to a completion that ends
    with one. A spelled mask token is text.
    """
    mask_token = [token for index, token in special_tokens(policy).items() if index == policy.mask_id]
    rows = encode_plain(policy, [spell_apart(text, mask_token) for text in completions])
    for row in rows:
        has_end_token = len(row) > 0 and row[-1] in policy.end_token_ids
        if not has_end_token:
            row.append(policy.end_token_ids[-1])
    return rows


def pad_completions(policy: Policy, token_ids: Sequence[Sequence[int]], length: int) -> Tensor:
    """Token ids of completions, none longer than `length`, as (B, length) int64."""
    padded = [[*row, *[policy.pad_id] * (length - len(row))] for row in token_ids]
    return torch.tensor(padded, dtype=torch.int64)


def decode_completions(policy: Policy, rollouts: Rows, stop: str = "") -> list[str]:
    """The texts of the completions, up to their first end token and without special tokens: B strings.

    A completion that fills a template is the whole text, with each hole up to its own end token. stop: a text before
    which a completion ends (--stop).
    """
    texts = []
    given_text = rollouts.given & (rollouts.completion_ids != policy.pad_id)
    # `completion_mask` ends with the first end token (of each hole), and is false where tokens are given.
    shown = rollouts.completion_mask | given_text
    for ids, mask in zip(rollouts.completion_ids.cpu(), shown.cpu(), strict=True):
        text = text_of(policy, ids[mask].tolist())
        texts.append(text.partition(stop)[0] if stop else text)
    return texts


def text_of(policy: Policy, token_ids: Sequence[int]) -> str:
    """The text of tokens, without special tokens."""
    tokens = [token for token in token_ids if token not in policy.end_token_ids]
    text = policy.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def ending_at_stop(policy: Policy, rollouts: Rows, stop: str) -> Rows:
    """The completions, of which each that has the text `stop` ends with the token that completes it; "" = none has."""
    if not stop:
        return rollouts
    mask = rollouts.completion_mask.clone()
    for row, ids, written in zip(mask, rollouts.completion_ids.tolist(), mask.tolist(), strict=True):
        tokens = [token for token, is_written in zip(ids, written, strict=True) if is_written]
        if stop in text_of(policy, tokens):
            fewest = bisect_left(range(len(tokens)), True, key=lambda n: stop in text_of(policy, tokens[:n]))
            row[fewest:] = False
    return rollouts.with_columns(completion_mask=mask)


def begin_of_text(tokenizer: "PreTrainedTokenizerFast") -> str:
    """The token that a tokenizer puts before every text; "" if it puts none."""
    first = tokenizer("a")["input_ids"][:1]
    return str(tokenizer.bos_token) if first == [tokenizer.bos_token_id] else ""


def is_chat(value: object) -> bool:
    """Whether a value is a conversation: messages with text as their role and content."""

    def is_message(item: object) -> bool:
        return isinstance(item, dict) and all(isinstance(item.get(key), str) for key in ("role", "content"))

    return isinstance(value, list) and len(value) > 0 and all(map(is_message, value))


def ended(policy: Policy, rollouts: Rows) -> list[bool]:
    """Whether each completion ends before its room does, or has an end token: written in its last hole, or given
    after it.
    """
    is_end = np.isin(rollouts.completion_ids.numpy(force=True), policy.end_token_ids)
    is_given = rollouts.given.numpy(force=True)
    given_from_here = is_given[:, ::-1].cumsum(-1)[:, ::-1]  # how many given tokens stand here or after
    written = is_end & rollouts.completion_mask.numpy(force=True) & (given_from_here == 0)
    # If the last place is given, no hole is open at the end: `template_rows` has filled the rest with end and padding.
    ends_early = ~rollouts.completion_mask[:, -1].numpy(
        force=True
    )  # by an end token, or by the text of --stop
    return (written.any(-1) | is_given[:, -1] | ends_early).tolist()


def count_tokens(policy: Policy, texts: Sequence[str]) -> list[int]:
    """How many tokens each text has."""
    return [len(row) for row in policy.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def length_warning(policy: Policy, env: "envs.TextEnv", length: int) -> str:
    """A warning if no demonstration of `DEMONSTRATED` problems fits into `length` tokens; "" if one does.

    The end token need not fit, since an answer that is cut before it is still right.
    """
    tasks = [*env.parts.values()] or [env]  # of a mixture, or the environment itself
    chosen = [(task, index) for task in tasks for index in envs.checking.spread(len(task), DEMONSTRATED)]
    problems = [(task, envs.problem.read_problem(task, index)) for task, index in chosen]
    # Demonstrations that fail are left out; `envs check` reports them.
    demonstrations = [envs.checking.sound_demonstration_of(task, problem) for task, problem in problems]
    turns_of_each = [envs.scoring.as_turns(shown) for shown in demonstrations if shown is not None]
    # The tokens of each demonstration's longest turn.
    counts = [max(count_tokens(policy, turns)) for turns in turns_of_each]
    if not counts or min(counts) <= length:
        return ""
    needed = " to ".join(map(str, sorted({min(counts), max(counts)})))
    return (
        f"$max_completion_length={length}: in {len(counts)} problems, the right answers that {env.spec_name} "
        f"demonstrates have {needed} tokens. Use {max(counts) + 1} or more."
    )
