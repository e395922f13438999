"""Seconds of a step on one card: LLaDA-8B's arithmetic worked out by hand, and what an H100 was measured to take."""

import pytest

from spg_trainer.algorithms import build
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.estimate.seconds import CARDS, REACHED, Seconds, rollout_passes, step_seconds
from spg_trainer.models import llada_config
from spg_trainer.models.families import BY_ARCHITECTURE
from spg_trainer.settings.configs import BatchConfig, Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig


def seconds_of_8b(
    rollout: Sampling | None = None,
    *,
    lora_r: int = 0,
    checkpointing: bool = False,
    completions: int = 6,
    masking: str | None = None,
    **more,
) -> Seconds:
    """LLaDA-8B's shape on an H100, one prompt with six completions of 256 tokens unless said otherwise."""
    config = Config(
        model=ModelConfig(lora_r=lora_r, gradient_checkpointing=checkpointing),
        rollout=rollout or Sampling(temperature=0.9),
        batch=BatchConfig(1, completions, per_device_batch_size=1),
    )
    algorithm = (
        build("mle", {"masking": masking, "num_masks": 2}) if masking else build("spg", {"block_length": 32})
    )
    return step_seconds(llada_config(), config, algorithm, CARDS["H100"], **more)


def test_a_rollout_without_a_cache_takes_two_operations_a_weight_and_column() -> None:
    """128 passes of 456 columns through 6.98e9 weights of layers, attention and a head for the masked of 32 tokens."""
    steps, columns, layers, width, head = 128, 456, 32, 4096, 126464 * 4096
    body = layers * (4 * width**2 + 3 * width * 12288)
    flops = steps * columns * (2 * body + 4 * columns * width * layers)
    flops += 8 * sum(2 * masked * head for masked in range(32, 0, -2))  # 8 blocks, two tokens a pass
    expected = flops / (REACHED * 989.4e12)
    assert seconds_of_8b(Sampling(temperature=0.9)).completion == pytest.approx(expected, rel=1e-3)


def test_a_rollout_of_the_shape_that_an_h100_ran_takes_about_as_long() -> None:
    """benchmarks/llada_step.py: 8 rows, prompts of 256 and completions of 256 tokens took 18.65 s (one_gpu.md)."""
    rollout = Sampling(256, 32, 128, temperature=0.9)
    found = seconds_of_8b(rollout, lora_r=128, completions=8, prompt_length=256)
    assert found.rollout == pytest.approx(18.65, rel=0.1)


def test_a_pass_draws_a_token_for_each_masked_place_of_its_block() -> None:
    def drawn(pattern: Pattern) -> list[int]:
        return [tokens for _, _, tokens in rollout_passes(Sampling(8, 4, 4), 8, pattern)]

    assert drawn(Pattern()) == [4, 2] * 2
    assert drawn(Pattern(4, context="causal")) == [1, 3, 1] * 2, "a pass of its own writes the first token"


def test_each_field_of_a_cache_makes_passes_narrower_or_wider() -> None:
    def seconds(**fields) -> float:
        rollout = Sampling(temperature=0.9, **({"cache": "dual"} | fields))
        return seconds_of_8b(rollout, prompt_length=1000).rollout

    assert seconds() < seconds(cache="window", window_tokens=16) < seconds(cache="prefix")
    assert seconds(prompt_refresh_steps=64) < seconds(prompt_refresh_steps=32) < seconds()


def test_a_block_causal_model_is_decoded_at_less_cost() -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 4, "vocab_size": 1000}
    sizes |= {"num_attention_heads": 8, "num_key_value_heads": 8}

    def seconds(cache: str, block: int, block_length: int = 8) -> float:
        config = Config(rollout=Sampling(256, block_length, 256, cache=cache))
        made = BY_ARCHITECTURE["SDARForCausalLM"](**sizes, block_size=block)
        return step_seconds(made, config, build("spg", {}), CARDS["H200"]).rollout

    def update(block: int) -> float:
        made = BY_ARCHITECTURE["SDARForCausalLM"](**sizes, block_size=block)
        config = Config(rollout=Sampling(256, 1, 256))
        return step_seconds(made, config, build("justgrpo"), CARDS["H100"]).update

    assert 4 * update(32) < update(0)  # 32 sequences of up to twice the columns, not 256
    assert seconds("blocks", 8) < seconds("blocks", 32) < seconds("none", 8) < seconds("none", 0)


def test_adapters_save_a_third_of_an_update_and_checkpointing_computes_layers_once_more() -> None:
    """Layers: forward, backward to inputs and to weights, and forward again."""
    by_layers = {
        (lora_r, checkpointing): seconds_of_8b(lora_r=lora_r, checkpointing=checkpointing).update
        for lora_r in (0, 128)
        for checkpointing in (False, True)
    }
    layers = by_layers[0, True] - by_layers[0, False]
    assert 3 * layers < by_layers[0, False] < 4 * layers, "the rest is the head"
    # Adapters are 4.5% more weights in each pass over the layers, of which they save one.
    saved = by_layers[0, False] - by_layers[128, False]
    assert saved == pytest.approx(layers * (1 - 2 * 0.045), rel=0.05)


def test_the_first_pass_of_a_masking_counts() -> None:
    """Layers run once without a graph, beside three times in the update; the output layer twice, beside four times."""
    random, lift, gift = (seconds_of_8b(masking=name).update for name in ("random", "lift", "gift"))
    assert lift - random == pytest.approx(2 * (gift - random)), "LIFT shows both copies first, GIFT one"
    assert random / 3 < lift - random < random / 2


def test_processes_share_the_completions() -> None:
    one, six = seconds_of_8b(), seconds_of_8b(processes=6)
    assert six.rollout == pytest.approx(one.rollout / 6) and six.completion == one.completion
