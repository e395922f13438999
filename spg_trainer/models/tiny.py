"""Fresh models of the embedded size, in the very format of LLaDA-8B."""

import torch

from spg_trainer.models.config import LLaDAConfig
from spg_trainer.models.llada import LLaDAForMaskedLM
from spg_trainer.models.tokenizer import tiny_tokenizer
from spg_trainer.seeding import derive


def new_tiny(
    hidden_size: int = 128,
    layers: int = 4,
    heads: int = 4,
    ffn: int = 344,
    max_length: int = 1024,
    seed: int = 0,
) -> LLaDAForMaskedLM:
    """An untrained model for `tiny_tokenizer`, float32, on the CPU, in eval mode; 0.86 M weights by default.

    hidden_size must be a multiple of 2 * heads. Equal arguments give equal weights whatever ran before, and
    the global random state is left as it was. Raises ModelError for sizes that do not divide.
    """
    tokenizer = tiny_tokenizer()
    end = tokenizer.eos_token_id
    config = LLaDAConfig(
        d_model=hidden_size,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=heads,
        mlp_hidden_size=ffn,
        max_sequence_length=max_length,
        vocab_size=len(tokenizer),
        rope_theta=10000.0,
        eos_token_id=end,
        pad_token_id=end,
        mask_token_id=tokenizer.mask_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "new_tiny"))
        return LLaDAForMaskedLM(config).eval()
