"""Masked diffusion language models on classes of transformers; importing this package registers them there.

`load_model`, or `AutoModel.from_pretrained` after the import, opens a model that comes with the package, a folder or a
Hub id.
"""

from spg_trainer.models.families import FAMILIES, Family, is_in_transformers, register_family
from spg_trainer.models.forward import head_weight, hidden_states
from spg_trainer.models.load import (
    divide_policy,
    load_model,
    new_policy,
    open_for_evaluation,
    open_policy,
    save_model,
)
from spg_trainer.models.policy import Policy
from spg_trainer.models.tiny import llada_config, new_tiny, tiny_tokenizer

for _published in FAMILIES:
    register_family(_published)
if is_in_transformers():
    from spg_trainer.models.diffusion_gemma import CanvasConfig

    CanvasConfig.register()

__all__ = [
    "Family",
    "Policy",
    "divide_policy",
    "head_weight",
    "hidden_states",
    "llada_config",
    "load_model",
    "new_policy",
    "new_tiny",
    "open_for_evaluation",
    "open_policy",
    "register_family",
    "save_model",
    "tiny_tokenizer",
]
