"""The small DiffusionGemma of `tests/data/models/diffusion_gemma`, and its logits canvas by canvas as in `generate`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from spg_trainer.models import Policy, load_model
from spg_trainer.tensors import Masks, Rows

FOLDER = Path(__file__).parents[1] / "data" / "models" / "diffusion_gemma"
SIZE, VOCABULARY = 8, 300


def open_fixture(dtype: str = "float32", **more: Any) -> Policy:
    return load_model(str(FOLDER), dtype=dtype, device="cpu", **more)


def stored() -> dict[str, Tensor]:
    """Inputs, logits and tokens of the stock class; `tests/data/README.md` says how they were made."""
    return {name: torch.tensor(values) for name, values in np.load(FOLDER / "expected.npz").items()}


def changes_of_generation(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / "expected.json").read_text())["generations"][name]["changes"]


def canvas_by_canvas(
    model: Any, prompt: Tensor, clean: Tensor, noisy: Tensor, conditioned: bool = False
) -> Tensor:
    """Logits (n * C, V) of one row's canvases, each decoded after a cache that grows as in `generate`.

    prompt: (L,). clean, noisy: (n * C,). conditioned: whether each canvas is decoded twice, the second time conditioned
    on the soft embeddings of the first.
    """
    return copies_canvas_by_canvas(model, prompt, clean, [(noisy, conditioned)])[0]


def copies_canvas_by_canvas(
    model: Any, prompt: Tensor, clean: Tensor, copies: list[tuple[Tensor, bool]]
) -> list[Tensor]:
    """The same of several copies (noisy, conditioned) of a row, which have the cache in common."""
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    new, seen, found = prompt[None], 0, [[] for _ in copies]
    for number, after in enumerate(clean[None].split(SIZE, 1)):
        positions = torch.arange(seen, seen + new.shape[1])[None]
        model.model.encoder(input_ids=new, past_key_values=cache, position_ids=positions)
        seen += new.shape[1]
        for (noisy, conditioned), logits in zip(copies, found, strict=True):
            arguments = {
                "decoder_input_ids": noisy[None].split(SIZE, 1)[number],
                "past_key_values": cache,
                "decoder_position_ids": torch.arange(seen, seen + SIZE)[None],
            }
            states = model.model(**arguments).last_hidden_state
            if conditioned:
                with torch.no_grad():
                    soft = model.soft_embeddings(model.logits(states))
                module = model.model.decoder.self_conditioning
                hook = module.register_forward_pre_hook(lambda _, given, soft=soft: (given[0], soft))
                states = model.model(**arguments).last_hidden_state
                hook.remove()
            logits.append(model.logits(states)[0])
        new = after
    return [torch.cat(logits) for logits in found]


def plain_logps(model: Any, rows: Rows, masks: Masks) -> Tensor:
    """(B, M, T) what `likelihood.logps.score` computes, canvas by canvas, with a graph through all of it."""
    logps = []
    for b in range(len(rows)):
        prompt, clean = rows.prompt_ids[b][rows.prompt_mask[b]], rows.completion_ids[b]
        count = masks.scored.shape[1]
        noisy = torch.where(masks.masked[b, :, rows.prompt_ids.shape[1] :], masks.shown[b], clean)
        conditioned = [False] * count if masks.conditioned is None else masks.conditioned[b].tolist()
        from_context = [False] * count if masks.from_context is None else masks.from_context[b].tolist()
        decoded = [m for m in range(count) if not from_context[m]]
        copies = [(noisy[m], conditioned[m]) for m in decoded]
        logits_of = dict(zip(decoded, copies_canvas_by_canvas(model, prompt, clean, copies), strict=True))
        for m in range(count):
            if from_context[m]:
                states = model.model.encoder(input_ids=torch.cat([prompt, clean])[None]).last_hidden_state
                logits = model.logits(states)[0, len(prompt) - 1 : -1]
            else:
                logits = logits_of[m]
            targets = clean if masks.targets is None else masks.targets[b, m]
            if masks.temperatures is not None:
                logits = logits / masks.temperatures[b, m]
            of_tokens = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
            if masks.rated is not None and masks.rated[b, m]:
                of_shown = logits.softmax(-1).gather(-1, noisy[m][:, None]).squeeze(-1)
                of_tokens = torch.where(noisy[m] == clean, of_shown - 1, of_tokens + of_shown)
            logps.append(of_tokens * masks.scored[b, m])
    return torch.stack(logps).view(masks.scored.shape)


def rows_of_fixture(lengths: tuple[int, ...] = (16, 11, 5), **columns: Any) -> Rows:
    """The stored prompts with their clean canvases as completions of these lengths; end tokens behind them."""
    kept = stored()
    clean = kept["clean"].flatten(1)
    mask = torch.arange(clean.shape[1]) < torch.tensor(lengths)[:, None]
    return Rows(
        prompt_ids=kept["prompt"],
        prompt_mask=kept["prompt_mask"],
        completion_ids=clean.masked_fill(~mask, 1),
        completion_mask=mask,
        unmask_step=torch.zeros_like(clean),
        unmask_logps=torch.zeros(clean.shape, dtype=torch.float64),
        **columns,
    )


def with_real(prompt_mask: Tensor, length: int) -> Tensor:
    """(B, L + T) bool, false on padding."""
    return pad(prompt_mask, (0, length), value=True)
