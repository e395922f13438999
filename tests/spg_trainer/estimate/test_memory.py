"""Memory estimated from a shape and settings, against models, autograd and LLaDA-8B worked out by hand."""

import copy
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedConfig

from spg_trainer.algorithms import build
from spg_trainer.architecture.llada import EmbeddedConfig
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.architecture.shape import count_lora, find_config, pattern_of, shape_of
from spg_trainer.cli import main
from spg_trainer.estimate.fits import dtype_of
from spg_trainer.estimate.memory import Memory, arithmetic, micro_batch_size, rows_of_a_pass, step_memory
from spg_trainer.estimate.seconds import rollout_passes
from spg_trainer.models import hidden_states, llada_config, new_policy, tiny_tokenizer
from spg_trainer.models.families import BY_ARCHITECTURE
from spg_trainer.models.lora import add_lora
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.configs import BatchConfig, Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.weights import resolve_model
from spg_trainer.training import dry_run
from tests.common.marks import slow_if

GIB = 2**30
SIZES = {"d_model": 64, "n_layers": 3, "n_heads": 4, "mlp_hidden_size": 160, "vocab_size": 40}
BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def shape(**more: int) -> PreTrainedConfig:
    settings = SIZES | {"max_sequence_length": 256, "mask_token_id": 39, "eos_token_id": 38} | more
    return llada_config(**settings)


def of_8b(
    lora_r: int = 0, batch: int = 6, prompts: int = 1, rollout: Sampling | None = None, **more
) -> Memory:
    """Six completions a prompt with LLaDA-8B's shape; `batch`: --per-device-batch-size."""
    config = Config(
        model=ModelConfig(lora_r=lora_r),
        rollout=rollout or Sampling(temperature=0.9),
        batch=BatchConfig(prompts, 6, per_device_batch_size=batch),
    )
    return step_memory(llada_config(), config, build("spg", {"block_length": 32}), **more)


@pytest.mark.parametrize("more", [{}, {"n_kv_heads": 2}, {"weight_tying": True}])
def test_weights_and_adapters_are_counted(more) -> None:
    spg, model = build("spg", {}), AutoModelForMaskedLM.from_config(shape(**more))
    held = step_memory(shape(**more), Config(), spg, dtype="float32").held
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert held == {"weights": weights, "gradients": weights, "optimizer": 2 * weights}
    adapted = add_lora(model, r=6, alpha=3, dropout=0.0, seed=0, base="")
    adapters = 4 * sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    held = step_memory(shape(**more), Config(model=ModelConfig(lora_r=6)), spg, dtype="float32").held
    assert held == {"weights": weights + adapters, "gradients": adapters, "optimizer": 2 * adapters}


def test_the_defaults_of_the_configuration_are_llada_8b() -> None:
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(llada_config())
    counted = sum(p.numel() for p in model.parameters())
    assert of_8b(dtype="float32").held["weights"] == 4 * counted
    assert counted == pytest.approx(8.016e9, rel=1e-3)


@pytest.mark.parametrize("lora_experts", [False, True])
@pytest.mark.parametrize(
    "architecture, more",
    [
        ("DreamModel", {}),
        ("SDARForCausalLM", {"head_dim": 32, "block_size": 4}),
        ("LLaDAMoEModelLM", {"num_experts": 6, "mlp_only_layers": [0]}),
        ("LLaDA2MoeModelLM", {"n_routed_experts": 6, "n_group": 2, "topk_group": 1, "use_qk_norm": True}),
    ],
)
def test_weights_and_adapters_of_every_kind_of_body_are_counted(architecture, more, lora_experts) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "vocab_size": 40}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2} | more
    mixture = "Moe" in architecture or "MoE" in architecture
    sizes |= {"moe_intermediate_size": 24, "num_experts_per_tok": 2} if mixture else {}
    config = BY_ARCHITECTURE[architecture](**sizes)
    model, m = AutoModelForMaskedLM.from_config(config), ModelConfig(lora_r=3, lora_experts=lora_experts)
    counted = shape_of(config)
    assert counted.whole == sum(p.numel() for p in model.parameters())
    assert counted.experts == sum(
        p.numel()
        for name, p in model.named_parameters()
        if ".experts.gate" in name or ".experts.down" in name
    )
    sparse = 2 if mixture else 0  # layers, in which a token takes 2 of 6
    assert counted.active == counted.body - sparse * 4 * 3 * 64 * 24
    if lora_experts and not mixture:
        return
    plain = copy.deepcopy(model)
    adapted = add_lora(model, r=3, alpha=3, dropout=0.0, seed=0, base="", experts=lora_experts)
    adapters = 4 * sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert (
        step_memory(config, Config(model=m), build("spg", {}), dtype="float32").held["gradients"] == adapters
    )
    targets = ("q_proj", "o_proj")
    adapted = add_lora(plain, r=3, alpha=3, dropout=0.0, seed=0, base="", targets=targets)
    assert count_lora(config, 3, targets) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_experts_that_are_divided_are_counted_by_themselves() -> None:
    """Four processes in groups of two: half of the experts each, and a quarter of all else."""
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "vocab_size": 40}
    sizes |= {"n_routed_experts": 6, "moe_intermediate_size": 24, "num_experts_per_tok": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = BY_ARCHITECTURE["LLaDA2MoeModelLM"](**sizes, n_group=2, topk_group=1, use_qk_norm=True)
    counted = shape_of(config)
    kept = counted.experts / 2 + (counted.whole - counted.experts) / 4
    together, alone = (
        step_memory(
            config,
            Config(model=ModelConfig(expert_parallel=size)),
            build("spg", {}),
            dtype="bfloat16",
            shard="layer",
            processes=4,
        )
        for size in (2, 1)
    )
    assert together.held == {"weights": 4 * kept, "gradients": 4 * kept, "optimizer": pytest.approx(8 * kept)}
    assert together.weight_parts * kept == pytest.approx(counted.whole) and alone.weight_parts == 4
    # Beside what it keeps, a process has two layers without experts, and its own experts in the type of a pass.
    assert together.update["working copy"] == 2 * counted.experts / 2
    assert together.update["gathered weights"] == 2 * 2 * (counted.body - counted.experts) / 3
    assert alone.update["gathered weights"] == 2 * 2 * counted.body / 3


@pytest.mark.parametrize("name", ["tiny", "tiny:block", "tiny:shift"])
def test_an_embedded_model_is_counted_from_its_files_as_transformers_counts_it(name) -> None:
    m = ModelConfig(model=name, mask_token_id=7)
    found, theirs = find_config(m, "sudoku"), AutoConfig.from_pretrained(resolve_model(name, "sudoku").base)
    assert isinstance(found, EmbeddedConfig) and found.mask_token_id == 7
    assert found.max_position_embeddings == theirs.max_position_embeddings
    assert shape_of(found) == shape_of(theirs)
    for targets in (("all",), ("v_proj", "down_proj")):
        assert count_lora(found, 3, targets) == count_lora(theirs, 3, targets) > 0


def test_the_dry_run_of_a_published_name_says_weights_active_weights_and_decoding(capsys) -> None:
    """LLaDA2: 20 x 10.5 M in attention, 19 x 28.8 M in nine experts and a router, 31.5 M dense, 322 M as head."""
    for name, weights in (
        ("inclusionAI/LLaDA2.0-mini", "16.26 billion, 1.11 billion"),
        # The Hub counts 103; of Ling-flash-2.0, from which it was trained, a token meets 6.1, its embedding included.
        ("inclusionAI/LLaDA2.0-flash", "102.89 billion, 5.51 billion"),
        ("inclusionAI/LLaDA-MoE-7B-A1B-Instruct", "7.36 billion, 1.40 billion"),
        ("Dream-org/Dream-v0-Instruct-7B", "7.62 billion, all"),
        ("JetLM/SDAR-8B-Chat", "8.19 billion, all"),
        ("nvidia/Nemotron-Labs-Diffusion-3B", "3.83 billion, all"),
        ("nvidia/Nemotron-Labs-Diffusion-8B", "8.49 billion, all"),
        ("nvidia/Nemotron-Labs-Diffusion-14B", "13.51 billion, all"),
    ):
        assert main(words("--model", name, "--cache", "none")) == 0
        text = capsys.readouterr().out
        assert weights in text, text
        (line,) = (line for line in text.splitlines() if "  diffusion_steps:" in line)
        published = line.partition("published.yaml: ")[2]
        family = {"LLaDA2.0-mini": "llada2_moe", "LLaDA2.0-flash": "llada2_moe", "SDAR-8B-Chat": "sdar"}
        wanted = "nemotron_labs_diffusion" if "Nemotron" in name else family.get(name.split("/")[1], "")
        assert published == wanted
        assert ("no blocks and steps of its own; LLaDA's are taken" in text) == (not published)
        (line,) = (line for line in text.splitlines() if "  remasking:" in line)
        wanted = "entropy  # models/published.yaml: Dream" if "Dream" in name else "low_confidence  # default"
        assert line.endswith(wanted)


@pytest.mark.parametrize(
    "name, weights",
    [
        ("Efficient-Large-Model/Fast_dLLM_v2_1.5B", "1.54 billion"),
        ("apple/DiffuCoder-7B-cpGRPO", "7.62 billion"),
    ],
)
def test_the_dry_run_of_a_model_made_of_qwen_counts_that_ones_weights(capsys, name, weights) -> None:
    """Qwen2.5-1.5B: 28 x 46.8 M in layers, 233 M in an embedding that is the head too. Qwen2.5-Coder-7B: as Dream."""
    assert main(words("--model", name)) == 0
    assert f"# weights: {weights}, all for every token" in capsys.readouterr().out


def kept(sizes: Any, dtype: str, m: ModelConfig, share: bool = False) -> tuple[int, float]:
    """Bytes that autograd keeps of a forward pass besides weights, and the activations that are estimated.

    40 tokens of prompt and 64 of completion, all scored, of which later blocks of attention see a clean copy. share:
    whether the four rows are copies of one text.
    """
    model, found = AutoModelForMaskedLM.from_config(sizes).to(getattr(torch, dtype)), {}
    if m.lora_r:
        model = add_lora(model, r=m.lora_r, alpha=4, dropout=0.0, seed=0, base="")
    if m.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        if saved.untyped_storage().data_ptr() not in weights:
            found[saved.untyped_storage().data_ptr()] = saved
        return saved

    ids = torch.randint(30, (4, 104), generator=torch.Generator().manual_seed(0))
    ids = ids[:1].repeat(4, 1) if share else ids
    real = torch.ones_like(ids, dtype=torch.bool)
    real[0, : 9 * pattern_of(sizes).is_full] = False  # another length would make the blocks of all wider
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        hidden_states(model, ids, real, keep=torch.arange(40, 104).expand(4, -1), start=40, clean=ids)
    config = Config(model=m, rollout=Sampling(64, 32, 64), batch=BatchConfig(per_device_batch_size=4))
    algorithm = build("raft", {"num_masks": 4}) if share else build("spg", {})
    estimated = step_memory(sizes, config, algorithm, dtype=dtype, prompt_length=40)
    return sum(x.untyped_storage().nbytes() for x in found.values()), estimated.update["activations"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora_r", [0, 4])
def test_activations_are_what_autograd_keeps(dtype: str, lora_r: int) -> None:
    found, estimated = kept(shape(n_layers=12), dtype, ModelConfig(lora_r=lora_r))
    assert estimated == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize(
    ("origin", "block", "width"),
    slow_if(
        [
            (origin, block, width)
            for origin in ("sequence", "completion")
            for block, width in [(0, 104), (4, 64 + 100), (32, 64 + 8 + 96), (64, 64 + 40 + 64)]
        ],
        lambda origin, block, width: (origin == "sequence") is (block > 4),
    ),
)
def test_activations_of_a_doubled_pass_are_what_autograd_keeps(block, width, origin, monkeypatch) -> None:
    """The blocks of the completion, noisy, and behind them all before the last of these, clean."""
    kind = BY_ARCHITECTURE["Fast_dLLM_QwenForCausalLM"]
    monkeypatch.setattr(kind, "family", replace(kind.family, origin=origin))
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 12, "vocab_size": 40}
    config = kind(**sizes, num_attention_heads=4, num_key_value_heads=4, block_size=block)
    if origin == "completion" and block:
        width = 64 + 40 + 64 - block
    pattern = pattern_of(config)
    assert pattern.copy_width(40, 64) + pattern.text_width(40, 64) == width
    for dtype in ("float32", "bfloat16"):
        found, estimated = kept(config, dtype, ModelConfig())
        assert estimated == pytest.approx(found, rel=0.05)
    if block:
        found, estimated = kept(config, "float32", ModelConfig(), share=True)
        assert estimated == pytest.approx(found, rel=0.05)


def test_with_checkpointing_a_layer_more_keeps_its_input() -> None:
    m = ModelConfig(gradient_checkpointing=True)
    (few, less), (many, more) = (kept(shape(n_layers=layers), "float32", m) for layers in (4, 12))
    assert more - less == pytest.approx(many - few, rel=0.05)


@pytest.mark.parametrize("origin, prompt", [("sequence", 10), ("sequence", 8), ("completion", 10)])
@pytest.mark.parametrize("cache", ["none", "blocks"])
@pytest.mark.parametrize("block_length, steps", [(4, 16), (2, 16), (4, 8)])
def test_passes_under_block_causal_attention_are_as_wide_as_those_of_the_sampler(
    monkeypatch, origin, prompt, cache, block_length, steps
) -> None:
    """Widths that the body of a model has computed, pass by pass, for a prompt that shares a block or fills it."""
    policy, pattern, widths = new_policy(hidden_size=16, layers=1, heads=2, ffn=24), Pattern(4, origin), []
    monkeypatch.setattr(type(policy.model), "pattern", pattern)
    policy = replace(policy, end_token_ids=(9999,))
    policy.model.get_input_embeddings().register_forward_hook(lambda *call: widths.append(call[2].shape[1]))
    s = Sampling(16, block_length, steps, cache=cache)
    ids = torch.arange(prompt)[None]
    sample_completions(policy, ids, torch.ones_like(ids, dtype=torch.bool), s, [None])
    assert [computed for computed, _, _ in rollout_passes(s, prompt, pattern)] == widths


@pytest.mark.parametrize(
    ("prompt", "length", "rows", "live", "most"), [(256, 128, 8, 2, 24.60), (200, 256, 48, 4, 29.89)]
)
def test_the_peak_is_near_what_an_h100_was_measured_to_take(prompt, length, rows, live, most) -> None:
    """benchmarks/llada_step.py --no-plain, LLaDA-8B's shape under adapters of rank 128: docs/experiments/one_gpu.md."""
    config = Config(
        model=ModelConfig(lora_r=128),
        rollout=Sampling(length, 32, length // 2, temperature=0.9),
        batch=BatchConfig(1, rows, per_device_batch_size=live, num_minibatches=1),
    )
    found = step_memory(llada_config(), config, build("spg", {}), prompt_length=prompt)
    assert found.update_peak / GIB == pytest.approx(most, rel=0.03)


def test_a_gpu_samples_at_least_2048_tokens_together() -> None:
    def rows(length: int, batch: int) -> int:
        return rows_of_a_pass(
            Config(rollout=Sampling(length), batch=BatchConfig(per_device_batch_size=batch))
        )

    assert (rows(128, 2), rows(256, 2), rows(256, 8), rows(2048, 1)) == (16, 8, 32, 4)


def test_a_column_of_the_cache_is_half_a_mebibyte() -> None:
    cache = of_8b(rollout=Sampling(cache="dual")).rollout["cache"]
    assert cache == 6 * 456 * 512 * 1024
    assert "cache" not in of_8b().rollout


def test_shards_are_divided_and_gathered_for_a_phase() -> None:
    alone, eight = of_8b(dtype="float32"), of_8b(processes=8, prompts=8, shard="phase")
    for name, share in (("weights", 8), ("optimizer", 8), ("gradients", 1)):
        assert eight.held[name] == alone.held[name] / share
    assert eight.rollout["gathered weights"] == eight.update["gathered weights"] == alone.held["weights"] / 2
    adapters, divided = of_8b(128), of_8b(128, processes=8, prompts=8, shard="phase")
    assert divided.held["optimizer"] == adapters.held["optimizer"]
    assert adapters.held["weights"] / 8 < divided.held["weights"] < adapters.held["weights"] / 4


def test_all_weights_are_kept_in_float32_and_computed_in_bfloat16() -> None:
    wide, mixed = of_8b(dtype="float32"), of_8b()
    assert mixed.held == wide.held and "working copy" not in wide.update
    assert mixed.update["working copy"] == mixed.rollout["working copy"] == wide.held["weights"] / 2
    assert "working copy" not in of_8b(128).update
    # Adapters are in float32, and a pass in bfloat16 has them in its own type, too.
    assert "adapters" in of_8b(128).rollout
    assert "adapters" not in of_8b(128, dtype="float32").rollout and "adapters" not in mixed.rollout


def test_a_rollout_with_merged_adapters_keeps_the_weights_below_them() -> None:
    def of_adapters(**more) -> Memory:
        config = Config(model=ModelConfig(lora_r=128, **more))
        return step_memory(llada_config(), config, build("spg", {"block_length": 32}))

    apart, merged = of_adapters(), of_adapters(merge_for_rollouts=True)
    queries = of_adapters(merge_for_rollouts=True, lora_targets=("q_proj",))
    name, layers, width, ffn = "the base below adapters", 32, 4096, 12288
    assert name not in apart.rollout and merged.update == apart.update and merged.held == apart.held
    assert merged.rollout[name] == 2 * layers * (4 * width * width + 3 * width * ffn)
    assert queries.rollout[name] == 2 * layers * width * width


def test_logits_in_float32_from_the_beginning_are_not_in_16_bits_as_well() -> None:
    def of(**settings) -> Memory:
        config = Config(model=ModelConfig(lora_r=128, **settings))
        return step_memory(llada_config(), config, build("spg", {"block_length": 32}))

    rounded, whole = of(), of(float32_logits=True)
    assert whole.update["logits"] == pytest.approx(rounded.update["logits"] * 4 / 6)
    assert whole.rollout["pass"] <= rounded.rollout["pass"] and whole.held == rounded.held


def test_by_layer_a_pass_holds_the_head_or_two_layers() -> None:
    """Embedding and head are gathered before and after them: they are put together from the parts that have come."""
    alone, eight = of_8b(dtype="float32"), of_8b(processes=8, prompts=8, shard="layer")
    head, layer = 126464 * 4096, 4 * 4096**2 + 3 * 4096 * 12288
    assert eight.held["gradients"] == alone.held["gradients"] / 8
    assert eight.update["gathered weights"] == pytest.approx(2 * head, rel=1e-3)
    assert eight.rollout["gathered weights"] == pytest.approx(2 * 2 * head, rel=1e-3)
    # In bfloat16, a layer's are copied to float32, in which they are summed; the head's are counted with its logits.
    assert head > 2 * layer
    assert eight.update["gradients on their way"] == pytest.approx((2 + 4) * layer, rel=1e-3)
    # A head that is the embedding stays in the layers.
    config, spg = Config(batch=BatchConfig(8)), build("spg", {})
    tied = step_memory(llada_config(weight_tying=True), config, spg, processes=8, shard="layer")
    assert tied.update["gathered weights"] == pytest.approx(2 * (head + 2 * layer), rel=1e-3)
    assert tied.rollout["gathered weights"] == pytest.approx(2 * (head + head), rel=1e-3)
    assert tied.update["gradients on their way"] == pytest.approx(2 * head + (2 + 4) * layer, rel=1e-3)


def test_a_reference_is_held_where_the_algorithm_asks_for_one(tmp_path) -> None:
    kl = build("diffu_grpo", {})
    config = Config(model=ModelConfig(ref_copy=True))
    held = step_memory(shape(), config, kl, dtype="float32").held
    assert held["reference"] == held["weights"]
    assert "reference" not in step_memory(shape(), config, build("spg", {}), dtype="float32").held
    fresh = Config(model=ModelConfig(lora_r=4))
    assert "reference" not in step_memory(shape(), fresh, kl).held
    (tmp_path / "adapter_config.json").write_text("{}")
    loaded = step_memory(shape(), Config(model=ModelConfig(str(tmp_path), lora_r=4)), kl).held
    assert loaded["reference"] == loaded["gradients"]


def words(*more: str) -> list[str]:
    return ["--env", "countdown", *more, "--dry-run"]


def test_the_dry_run_ends_with_an_estimate_and_stays_a_file_of_settings(capsys) -> None:
    assert main(words("--model", "GSAI-ML/LLaDA-8B-Instruct")) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["model"]["lora_r"] == 128
    assert "weights 15.56, gradients 0.62, optimizer 1.25" in text
    assert main(words("--model", "GSAI-ML/LLaDA-8B-Instruct", "--lora-targets", "all")) == 0
    assert "weights 16.18, gradients 1.25, optimizer 2.50" in capsys.readouterr().out
    assert "if the H200 reaches 40% of its data sheet's rate" in text
    for line in text.splitlines()[-4:]:
        assert line.startswith("# ")


def test_a_dry_run_says_how_many_completions_a_process_has_at_most() -> None:
    config = Config(batch=BatchConfig(prompts_per_step=5, num_generations=6))
    for processes, shown in ((3, "3 processes x 10"), (4, "4 processes x up to 8")):
        assert f"= 30 completions a step ({shown}); " in arithmetic(config, build("spg"), processes)


def test_the_seconds_of_a_card_that_nobody_named_say_how_to_ask_for_another(capsys) -> None:
    assert main(words()) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert "if the H200 reaches" in last and "--gpu A100-80" in last and "CPU" in last
    assert main(words("--gpu", "A100-80")) == 0
    assert "another card" not in capsys.readouterr().out


def test_the_dry_run_knows_no_shape_that_is_not_at_hand(capsys, tmp_path) -> None:
    assert main(words("--model", "someone/else")) == 0
    text = capsys.readouterr().out
    assert "the shape of someone/else is unknown here" in text and "weights" not in text.splitlines()[-1]


def test_the_dry_run_of_a_folder_takes_its_configuration_on_a_cpu(capsys, tmp_path) -> None:
    shape(d_model=1024, vocab_size=10000, max_sequence_length=1024).save_pretrained(tmp_path)
    arguments = words("--model", str(tmp_path), "--device", "cpu", "--lora-r", "0", "--mask-token-id", "258")
    # A run would refuse a folder without weights or tokenizer, and so does its dry run.
    assert main(arguments) == 2 and "there is no model*.safetensors" in capsys.readouterr().err
    (tmp_path / "model.safetensors").touch()  # a dry run does not open the weights
    assert main(arguments) == 2 and "tokenizer" in capsys.readouterr().err
    tiny_tokenizer().save_pretrained(tmp_path)
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "float32" in text and "seconds" not in text
    weights = 4 * (3 * (4 * 1024**2 + 3 * 1024 * 160 + 2 * 1024) + 1024 + 2 * 10000 * 1024)
    assert f"weights {weights / GIB:.2f}" in text


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no benchmarks beside the tests")
def test_the_step_whose_memory_is_measured_is_one_that_the_trainer_makes(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    memory = importlib.import_module("memory")
    norms, clip = [], torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *given: norms.append(clip(*given)))
    memory.prepare_step(memory.FORETOLD["LoRA"]._replace(vocabulary=64, layers=1))()
    assert len(norms) == 1 and 0 < float(norms[0]) < float("inf")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no benchmarks beside the tests")
@pytest.mark.parametrize(
    "name", ["all weights", "LoRA", "LoRA, bfloat16", "checkpointing", "vocabulary 126464", "rollout"]
)
def test_the_measured_peak_of_a_process_is_what_was_estimated(name: str, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["memory.py", "--estimate", "--cases", name])
    importlib.import_module("memory").main()
    row = capsys.readouterr().out.splitlines()[-1].split("|")
    assert float(row[2]) == pytest.approx(float(row[3]), rel=0.1)


def test_a_dry_run_counts_threads_of_the_cpu_for_a_run_on_it_alone() -> None:
    base = Config(batch=BatchConfig(2, 6, per_device_batch_size=6))
    algorithm = build("spg", {"block_length": 32})
    for device, threads in (("auto", 0), ("cpu", torch.get_num_threads())):
        config = replace(base, model=ModelConfig(device=device))
        expected = step_memory(
            shape(), config, algorithm, dtype=dtype_of(config.model, device == "cpu"), cpu_threads=threads
        )
        found = dry_run.memory_of_process(shape(), config, algorithm, processes=1, usable=1e12)
        assert found == expected, device


def test_moments_of_8_bits_take_a_quarter() -> None:
    base = defaults(Config, env="sudoku", model="GSAI-ML/LLaDA-8B-Instruct", per_device_batch_size=8)
    small = replace(base, optimizer=replace(base.optimizer, adam_moments="8bit"))
    algorithm = build("spg", base.hyper_parameters)
    full, eight = (step_memory(llada_config(), c, algorithm, dtype="bfloat16").held for c in (base, small))
    assert eight["optimizer"] == pytest.approx(full["optimizer"] / 4, rel=0.02)


@pytest.mark.parametrize(
    ("copies", "masks", "sizes"),
    [(12, 4, (3, 4)), (13, 4, (3, 4)), (4, 4, (1, 4)), (3, 4, (1, 3)), (1, 8, (1, 1))],
)
def test_a_micro_batch_holds_masks_of_few_completions_before_completions(copies, masks, sizes) -> None:
    assert micro_batch_size(copies, masks) == sizes
