"""One pass for all canvases is that of the stock class canvas by canvas, and what the trainer needs of the model."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM

from spg_trainer.architecture.shape import shape_of
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models import families, load_model, new_policy, open_policy, save_model
from spg_trainer.models.diffusion_gemma import CanvasConfig, DiffusionGemmaForBlockDiffusion, stock
from spg_trainer.models.load import merged, new_model
from spg_trainer.models.lora import merged_weights
from spg_trainer.models.weight_files import save_whole
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.weights import known_settings
from tests.common.canvases import FOLDER, SIZE, canvas_by_canvas, open_fixture, stored, with_real

TOLERANCE = {"float32": 2e-5, "float64": 1e-9}


def all_canvases(model, kept, **arguments):
    """Logits (B, n * C, V) of the stored noisy canvases in one pass."""
    prompt, noisy, clean = kept["prompt"], kept["noisy"].flatten(1), kept["clean"].flatten(1)
    width, length = prompt.shape[1], noisy.shape[1]
    states = model.canvas_states(
        torch.cat([prompt, noisy], 1),
        torch.cat([prompt, clean], 1),
        with_real(kept["prompt_mask"], length),
        torch.arange(width, width + length).expand(len(prompt), -1),
        width,
        **arguments,
    )
    return model.logits(states)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_one_pass_gives_the_stored_logits_of_the_stock_class(attention):
    kept = stored()
    model = AutoModelForMaskedLM.from_pretrained(FOLDER, attn_implementation=attention)
    assert type(model) is DiffusionGemmaForBlockDiffusion
    found = all_canvases(model, kept)
    assert (found - kept["padded_two"].flatten(1, 2)).abs().max() < 2e-5
    # The encoder predicts the first token of the completion from the last column of the prompt, and so on.
    is_first_or_later = torch.ones(found.shape[:2], dtype=torch.bool)
    found = all_canvases(model, kept, from_context=is_first_or_later)
    width = kept["prompt"].shape[1]
    assert (found - kept["encoder_logits"][:, width - 1 : -1]).abs().max() < 2e-5
    model.config.text_config.sliding_window += 1
    assert (all_canvases(model, kept) - kept["padded_two"].flatten(1, 2)).abs().max() > 0.1


@torch.no_grad()
def test_float32_logits_are_not_rounded_to_the_type_of_the_model():
    model = AutoModelForMaskedLM.from_pretrained(FOLDER, dtype=torch.bfloat16)
    rng = torch.Generator().manual_seed(0)
    states = torch.randn(2, 3, model.lm_head.in_features, generator=rng).bfloat16() * 20
    exact = model.softcap * torch.tanh(states.double() @ model.lm_head.weight.double().T / model.softcap)

    def error():
        return (model.logits(states) - exact).abs().max()

    rounded, model.float32_logits = error(), True
    assert model.logits(states).dtype == torch.float32 and error() < 1e-5 < rounded / 100


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@torch.no_grad()
def test_one_pass_is_that_of_each_canvas_also_conditioned(dtype):
    kept, model = stored(), open_fixture(dtype).model
    conditioned = torch.zeros(3, 2 * SIZE, dtype=torch.bool)
    conditioned[0, SIZE:] = conditioned[2] = True  # one canvas of the first row, none of the second
    found = all_canvases(model, kept, conditioned=conditioned)
    for row in range(3):
        arguments = (
            kept["prompt"][row][kept["prompt_mask"][row]],
            kept["clean"][row].flatten(),
            kept["noisy"][row].flatten(),
        )
        once = canvas_by_canvas(model, *arguments)
        twice = canvas_by_canvas(model, *arguments, conditioned=True)
        expected = torch.where(conditioned[row][:, None], twice, once)
        assert (found[row] - expected).abs().max() < TOLERANCE[dtype]
        assert (once - twice).abs().max() > 0.01


@torch.no_grad()
def test_copies_of_a_text_share_an_encoder_pass():
    kept, model = stored(), open_fixture("float64").model
    prompt, clean, width = kept["prompt"][:1], kept["clean"][:1].flatten(1), kept["prompt"].shape[1]
    noisy = kept["noisy"].flatten(1)  # three corruptions of one row
    read = []
    hook = model.model.encoder.language_model.register_forward_hook(
        lambda module, args, kwargs, out: read.append(kwargs["input_ids"]), with_kwargs=True
    )
    states = model.canvas_states(
        torch.cat([prompt.expand(3, -1), noisy], 1),
        torch.cat([prompt, clean], 1).expand(3, -1),
        with_real(kept["prompt_mask"][:1], 2 * SIZE).expand(3, -1),
        torch.arange(width, width + 2 * SIZE).expand(3, -1),
        width,
    )
    hook.remove()
    assert [ids.shape for ids in read] == [(1, width + SIZE)]  # the last canvas is not read
    for row in range(3):
        expected = canvas_by_canvas(model, prompt[0], clean[0], noisy[row])
        assert (model.logits(states[row]) - expected).abs().max() < 1e-9


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_gradient_goes_through_the_encoder(checkpointed):
    kept, model = stored(), open_fixture("float64").model
    model.train()
    if checkpointed:
        model.gradient_checkpointing_enable()
    all_canvases(model, kept).log_softmax(-1)[..., 5].sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_disable()
    for row in range(3):
        prompt = kept["prompt"][row][kept["prompt_mask"][row]]
        logits = canvas_by_canvas(model, prompt, kept["clean"][row].flatten(), kept["noisy"][row].flatten())
        logits.log_softmax(-1)[..., 5].sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys() and len(found) > 60
    assert not any("router" in name for name in found)
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-9 * gradient.abs().max().clamp(min=1), name


@pytest.mark.parametrize("checkpointed", [False, True])
def test_an_encoder_that_computes_by_the_decoders_layers_computes_the_same(checkpointed):
    """As it does where processes divide the layers; its own factors of each layer differ here from the decoder's."""
    kept = stored()

    def computed(shared):
        model = open_fixture("float64").model.train()
        for number, layer in enumerate(model.model.encoder.language_model.layers):
            layer.layer_scalar.fill_(1 + number / 10)
        if checkpointed:
            model.gradient_checkpointing_enable()
        names = model.state_dict().keys() - model.all_tied_weights_keys.keys()
        if shared:
            model.share_layers()
            assert model.state_dict().keys() - model.all_tied_weights_keys.keys() == names
        logits = all_canvases(model, kept)
        logits.log_softmax(-1)[..., 5].sum().backward()
        return logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    (logits, gradients), (expected, of_each) = computed(True), computed(False)
    assert torch.equal(logits, expected) and gradients.keys() == of_each.keys()
    for name, gradient in of_each.items():
        assert (gradients[name] - gradient).abs().max() <= 1e-9 * gradient.abs().max().clamp(min=1), name


def test_the_router_is_trained_if_one_asks_for_it():
    def opened(**more):
        return open_policy(ModelConfig(str(FOLDER), device="cpu", **more), env="sudoku", seed=0).model

    def trained(model):
        return {name for name, p in model.named_parameters() if p.requires_grad}

    routers = {
        f"model.decoder.layers.{layer}.router.{leaf}"
        for layer in range(5)
        for leaf in ("proj.weight", "scale", "per_expert_scale")
    }
    model = opened(train_router=True)
    assert trained(model) - trained(opened()) == routers == trained(model) & routers
    all_canvases(model, stored()).log_softmax(-1)[..., 5].sum().backward()
    assert model.model.decoder.layers[0].router.proj.weight.grad.any()
    new = new_model(ModelConfig("new:gemma", train_router=True), seed=0, device="cpu").model
    assert any("router" in name for name in trained(new))
    with pytest.raises(ConfigError, match="--train-router: this model has no router"):
        new_model(ModelConfig("new", train_router=True), seed=0, device="cpu")


def tower_of(folder):
    """{name: tensor} of the vision tower in a model's files."""
    held = {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}
    return {name: value for name, value in held.items() if "vision" in name}


def read_of(file, tensor):
    """KiB that this process has read of the part of its memory with a tensor, if that part is a file; else None."""
    for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.M):
        head, _, more = part.partition("\n")
        first, last = (
            int(number, 16) for number in re.findall(r"^[0-9a-f]+|(?<=-)[0-9a-f]+", head)[:2] or "00"
        )
        if first <= tensor.data_ptr() < last and str(file) in head:
            return int(re.search(r"^Rss: +(\d+) kB", more, re.M)[1])
    return None


def test_the_vision_tower_is_not_read_and_a_saved_model_keeps_it(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "big")
    held = load_file(folder / "model.safetensors")
    held["model.encoder.vision_tower.more.weight"] = torch.arange(8_000_000, dtype=torch.bfloat16)
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    policy = load_model(str(folder), device="cpu")
    assert not any("vision" in name for name, _ in policy.model.named_parameters())
    assert not any("vision" in name for name in policy.model.state_dict())
    more = policy.model.unread["model.encoder.vision_tower.more.weight"]
    assert more.nbytes == 16_000_000 and read_of(folder / "model.safetensors", more) < 1_000
    with torch.no_grad():
        policy.model.model.decoder.norm.weight.add_(1)
    expected = tower_of(folder)
    assert len(expected) == 17
    shutil.rmtree(folder)  # a run may delete the checkpoint that it was resumed from
    for place in ("saved", "saved", "again"):
        save_model(policy, tmp_path / place)
        found = tower_of(tmp_path / place)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert all(found[name].dtype == value.dtype for name, value in expected.items())
        policy = load_model(str(tmp_path / place), device="cpu")
    assert torch.equal(policy.model.model.decoder.norm.weight, held["model.decoder.norm.weight"] + 1)
    # The stock class opens what was saved, tower and all.
    del policy.model.unread["model.encoder.vision_tower.more.weight"]
    save_model(policy, tmp_path / "stock")
    opened, report = stock.DiffusionGemmaForBlockDiffusion.from_pretrained(
        tmp_path / "stock", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    name = "model.encoder.vision_tower.patch_embedder.input_proj.weight"
    assert torch.equal(opened.state_dict()[name], expected[name])


def test_a_new_model_is_saved_and_opened_again(tmp_path):
    policy = new_policy("gemma")
    save_model(policy, tmp_path)
    again = load_model(str(tmp_path))
    before, after = policy.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    names = load_file(tmp_path / "model.safetensors")
    assert not any("encoder.language_model" in name and "layer_scalar" not in name for name in names)
    assert again.model.generation_config.t_max == 0.8
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["model_type"], written["architectures"]) == (
        "diffusion_gemma",
        ["DiffusionGemmaForBlockDiffusion"],
    )


def test_a_model_of_the_auto_classes_is_ours():
    stock = AutoConfig.from_pretrained(FOLDER)
    config = AutoConfig.for_model("diffusion_gemma", text_config=stock.text_config.to_dict())
    assert config.canvas_length == 256 and config.block_size == 256 and config.hidden_size == 32
    config = AutoConfig.from_pretrained(FOLDER)
    assert type(AutoModelForMaskedLM.from_config(config)) is DiffusionGemmaForBlockDiffusion


def test_the_end_tokens_are_those_of_the_chat_format():
    policy = open_fixture()
    names = policy.tokenizer.convert_ids_to_tokens(list(policy.end_token_ids))
    assert names == ["<eos>", "<|tool_response>", "<turn|>"]
    assert policy.mask_id is None and policy.pad_id == 1 and policy.noise == "uniform"
    assert "hides tokens by random ones" in repr(policy)


def test_what_the_model_cannot_do_is_refused_by_name():
    model = open_fixture().model
    with pytest.raises(ModelError, match="DiffusionGemma cannot attend by 'flash_attention_2'"):
        AutoModelForMaskedLM.from_pretrained(FOLDER, attn_implementation="flash_attention_2")
    with pytest.raises(ModelError, match="use_reentrant=False"):
        model.gradient_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(ModelError, match=r"--mask-token-id 7: a diffusion_gemma hides tokens by random ones"):
        open_fixture(mask_token_id=7)
    with pytest.raises(ModelError, match=r"--attention-block 4: a diffusion_gemma .* canvases of 8 tokens"):
        open_fixture(attention_block=4)


def test_a_version_of_transformers_without_the_class_refuses_the_model(monkeypatch):
    def unknown(*args, **kwargs):
        raise ValueError(
            "The checkpoint has model type `diffusion_gemma` but Transformers does not recognize it."
        )

    monkeypatch.setattr(families.AutoConfig, "from_pretrained", unknown)
    monkeypatch.setattr(families.transformers, "__version__", "5.20.0")
    with pytest.raises(ModelError, match=r"'diffusion_gemma' is not in transformers 5.20.0: pip install"):
        load_model(str(FOLDER))


def with_adapter(**more):
    """The fixture with an adapter that acts."""
    policy = open_fixture(lora_r=4, **more)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=stream))
    return policy


@torch.no_grad()
def test_one_adapter_acts_in_both_passes_and_merges_exactly(tmp_path):
    kept, policy = stored(), with_adapter()
    base = policy.model.get_base_model()
    trained = [name for name, weight in policy.model.named_parameters() if weight.requires_grad]
    # Two factors for 7 layers in each of 5 transformer layers, but 2 of these have no v_proj.
    assert len(trained) == 2 * (5 * 7 - 2) and not any("encoder" in name for name in trained)
    assert not any("router" in name or "self_conditioning" in name for name in trained)
    expected = all_canvases(base, kept)
    with policy.model.disable_adapter():
        assert (all_canvases(base, kept) - kept["padded_two"].flatten(1, 2)).abs().max() < 2e-5
    assert (expected - kept["padded_two"].flatten(1, 2)).abs().max() > 1
    save_model(policy, tmp_path / "adapter")
    again = load_model(str(tmp_path / "adapter")).model
    assert torch.equal(all_canvases(again.get_base_model(), kept), expected)
    merged_policy, tensors = merged(str(tmp_path / "adapter"), "float32")
    (tmp_path / "merged").mkdir()
    save_whole(merged_policy.model, tensors, tmp_path / "merged")
    policy.tokenizer.save_pretrained(tmp_path / "merged")
    whole = load_model(str(tmp_path / "merged")).model
    assert (all_canvases(whole, kept) - expected).abs().max() < 2e-5
    assert whole.generation_config.max_denoising_steps == 6
    tower, expected_tower = tower_of(tmp_path / "merged"), tower_of(FOLDER)
    assert tower.keys() == expected_tower.keys()
    assert all(torch.equal(tower[name], value) for name, value in expected_tower.items())
    in_memory = open_fixture().model
    in_memory.load_state_dict(dict(merged_weights(policy.model)), strict=False)
    assert (all_canvases(in_memory, kept) - expected).abs().max() < 2e-5


def test_the_gradient_of_an_adapter_is_that_of_both_passes():
    kept, policy = stored(), with_adapter(dtype="float64")
    model = policy.model.get_base_model()
    all_canvases(model, kept).log_softmax(-1)[..., 5].sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row in range(3):
        prompt = kept["prompt"][row][kept["prompt_mask"][row]]
        logits = canvas_by_canvas(model, prompt, kept["clean"][row].flatten(), kept["noisy"][row].flatten())
        logits.log_softmax(-1)[..., 5].sum().backward()
    assert len(found) == 66
    for name, p in model.named_parameters():
        if name in found:
            assert (found[name] - p.grad).abs().max() <= 1e-9 * p.grad.abs().max().clamp(min=1), name


def published(**of_text):
    """The configuration of the published model, some of its values changed."""
    settings = known_settings("google/diffusiongemma-26B-A4B-it")
    return CanvasConfig.from_dict({**settings, "text_config": {**settings["text_config"], **of_text}})


def test_the_published_shape_has_as_many_weights_as_the_stock_class():
    config = published()
    with torch.device("meta"):
        model = stock.DiffusionGemmaForBlockDiffusion(stock.DiffusionGemmaConfig.from_dict(config.to_dict()))
    weights = {name: weight.numel() for name, weight in model.named_parameters()}
    # As counted from the published config.json: all but the vision tower, which is not opened.
    assert sum(n for name, n in weights.items() if "vision" not in name) == 25_250_986_752
    assert shape_of(config).whole == 25_250_986_752
    assert config.keys_of_layers == 25 * 8 * 256 + 5 * 2 * 512


@pytest.mark.parametrize(
    ("device", "changes"),
    [
        (
            "cpu",
            {
                "vocab_size": 300,
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "num_global_key_value_heads": 1,
                "head_dim": 16,
                "global_head_dim": 32,
                "num_experts": 8,
                "moe_intermediate_size": 16,
            },
        ),
        pytest.param("cuda", {}, marks=pytest.mark.gpu),
    ],
    ids=["small", "published"],
)
def test_a_step_of_two_layers_of_the_published_shape(device, changes):
    """A sliding and a full layer in bfloat16: a canvas after a prompt, its gradient, and a step of the optimizer."""
    config = published(num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], **changes)
    config.vision_config.num_hidden_layers = 1
    torch.manual_seed(0)
    with torch.device(device):
        model = DiffusionGemmaForBlockDiffusion(config).bfloat16().train()
    vocabulary, size, width = config.vocab_size, config.canvas_length, 40
    text = torch.randint(vocabulary, (1, width + size), device=device)
    noisy = torch.where(
        torch.rand(text.shape, device=device) < 0.5, torch.randint_like(text, vocabulary), text
    )
    keep = torch.arange(width, width + size, device=device)[None]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not any("router" in name for name in trained)
    optimizer = torch.optim.SGD(trained.values(), lr=0.5)

    def loss():
        states = model.canvas_states(noisy, text, torch.ones_like(text, dtype=torch.bool), keep, width)
        return torch.nn.functional.cross_entropy(model.logits(states)[0], text[0, width:])

    before = loss()
    before.backward()
    assert all(p.grad.isfinite().all() for p in trained.values() if p.grad is not None)
    optimizer.step()
    assert before.isfinite() and loss() < before
