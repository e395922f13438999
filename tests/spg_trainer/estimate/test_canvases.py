"""What autograd keeps of an update's pass through the layers of the stock DiffusionGemma, against the estimate."""

import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.estimate.memory import step_memory
from spg_trainer.models.lora import add_lora
from spg_trainer.models.tiny import new_config
from spg_trainer.settings.configs import BatchConfig, Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from tests.common.canvases import open_fixture
from tests.common.marks import slow_if

COPIES, PROMPT, LENGTH = 4, 40, 64
SIZES = {"wide": (128, 4, 4, 344), "narrow": (64, 3, 4, 128), "fixture": None}


def kept(config, dtype: str, m: ModelConfig, conditioned: bool = False) -> tuple[float, float]:
    """(bytes that autograd keeps of a pass of four copies of a text, bytes estimated)."""
    model = config.model_class(config).to(getattr(torch, dtype)).train()
    if m.lora_r:
        add_lora(model, r=m.lora_r, alpha=8, dropout=0.0, seed=0, base="")
    if m.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        if saved.untyped_storage().data_ptr() not in weights:
            found[saved.untyped_storage().data_ptr()] = saved
        return saved

    ids = torch.randint(200, (COPIES, PROMPT + LENGTH), generator=torch.Generator().manual_seed(0))
    places = torch.arange(PROMPT, PROMPT + LENGTH).expand(COPIES, -1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        model.canvas_states(
            ids,
            ids[:1].repeat(COPIES, 1),
            torch.ones_like(ids, dtype=torch.bool),
            places,
            PROMPT,
            conditioned=torch.full(places.shape, conditioned),
        )
    batch = BatchConfig(per_device_batch_size=COPIES)
    settings = Config(model=m, rollout=Sampling(LENGTH, 8, LENGTH), batch=batch)
    algorithm = build("raft", {"num_masks": COPIES, "masking": "flat"})
    estimated = step_memory(config, settings, algorithm, dtype=dtype, prompt_length=PROMPT)
    return sum(x.untyped_storage().nbytes() for x in found.values()), estimated.update["activations"]


@pytest.mark.parametrize(
    ("size", "dtype", "lora_r"),
    slow_if(
        [(size, dtype, lora_r) for size in SIZES for dtype in ("float32", "bfloat16") for lora_r in (0, 4)],
        lambda size, dtype, lora_r: (
            (dtype, lora_r) != ("float32", 0) and (size, dtype, lora_r) != ("narrow", "bfloat16", 4)
        ),
    ),
)
def test_activations_are_what_autograd_keeps(size, dtype, lora_r):
    config = new_config("gemma", *SIZES[size]) if SIZES[size] else open_fixture().model.config
    found, estimated = kept(config, dtype, ModelConfig(lora_r=lora_r), conditioned=size == "narrow")
    assert estimated == pytest.approx(found, rel=0.03)


def test_with_checkpointing_a_layer_more_keeps_its_input_and_what_the_encoder_keeps():
    m = ModelConfig(gradient_checkpointing=True)
    (few, less), (many, more) = (
        kept(new_config("gemma", 64, layers, 4, 128), "float32", m) for layers in (2, 6)
    )
    assert more - less == pytest.approx(many - few, rel=0.03)
