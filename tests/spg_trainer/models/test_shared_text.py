"""Copies of block-causal completions that share their clean text: the numbers of copies with a text of their own."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForMaskedLM
from transformers.models.glm4_moe import modeling_glm4_moe

from spg_trainer.algorithms import ALGORITHMS, Loss, build
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.likelihood import accumulate, token_logps
from spg_trainer.models import forward, load_model
from spg_trainer.models.load import compile_layers
from spg_trainer.models.shard import computing_with_copy, drop_gradients, keep_wider
from tests.common.block_cases import PATTERNS, with_pattern
from tests.common.likelihood_cases import (
    make_masking,
    make_rollouts,
    policy_of,
    relative,
    seeded,
    tiny_model,
    whole_gradient,
)
from tests.common.marks import REPRESENTATIVES, slow_if

PUBLISHED = {"sdar": 154, "llada2": 154, "fastdllm_v2": 154, "nemotron_labs": 100}
"""Families with the id of [MASK] in their small models."""
MODELS = (*PUBLISHED, "tiny:block", *(name for name in PATTERNS if not name.startswith("full")))


def open_model(name, published):
    """A float64 model and the id of its mask."""
    if name in PATTERNS:
        return with_pattern(tiny_model(), *PATTERNS[name]), 257
    if name not in PUBLISHED:
        policy = load_model(name, device="cpu", dtype="float64")
        return policy.model.requires_grad_(), policy.mask_id
    options = {"block_size": 8} if name == "llada2" else {}
    model = AutoModelForMaskedLM.from_pretrained(published / "models" / name, **options).double().eval()
    return model, PUBLISHED[name]


def make_case(algorithm):
    """Ragged completions behind left-padded prompts, with all that a rollout can record, and the masks of a step."""
    built = build(algorithm, {"spg_repro": {"block_length": 3}}.get(algorithm, {}))
    rollouts = make_rollouts([9, 4, 7], 9, [7, 2, 1], width=7, tokens=90)
    figures = torch.rand(3, 3, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    recorded = {"confidence_change": figures[1], "unmask_logps": -figures[2], "fallback": figures[0] < 0.6}
    if built.left_to_right:
        recorded["unmask_step"] = torch.arange(9).expand(3, -1).contiguous()
    rollouts = rollouts.with_columns(**recorded)
    masking = replace(built.make_masking(), p_mask_prompt=0.0)  # prompt noise makes another text of each copy
    return built, rollouts, masking.draw(rollouts, seeded())


def pass_of(model, mask_id, rollouts, masks, compares, at_once):
    """Log-probabilities, the gradient of a loss of them, and how many columns went through the model."""
    weight = torch.linspace(-1, 2, masks.valued.numel(), dtype=torch.float64).view(masks.valued.shape)
    columns = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda *call: columns.append(call[1][0].numel())
    )
    model.zero_grad(set_to_none=True)
    logps = token_logps(policy_of(model, mask_id), rollouts, masks, at_once)
    loss_fn = lambda logps: Loss((weight * logps).sin().sum(), {})  # noqa: E731
    accumulate(policy_of(model, mask_id), rollouts, masks, loss_fn, masks_at_once=at_once, compares=compares)
    hook.remove()
    return logps, whole_gradient(model), sum(columns)


class WideTorch:
    """torch, in which float32 is float64."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def own_texts(copies):
    """Each copy has a text of its own."""
    return torch.arange(len(copies.clean)), len(copies.clean)


def cases():
    """Algorithms that stand for the others and models take turns; with --slow each goes with each."""
    return [
        (algorithm, model, i % len(MODELS) == j)
        for i, algorithm in enumerate(ALGORITHMS)
        for j, model in enumerate(MODELS)
    ]


@pytest.mark.parametrize(
    ("algorithm", "name", "by_default"),
    slow_if(cases(), lambda name, _, by_default: not (by_default and name in REPRESENTATIVES)),
)
def test_shared_texts_change_no_number(algorithm, name, by_default, published, monkeypatch):
    model, mask_id = open_model(name, published)
    if (
        name == "llada2"
    ):  # routers are float32 in a model of any type, and would round other batches otherwise
        monkeypatch.setattr(modeling_glm4_moe, "torch", WideTorch())
    built, rollouts, masks = make_case(algorithm)
    for at_once in {2, masks.scored.shape[1]}:
        found = pass_of(model, mask_id, rollouts, masks, built.compares, at_once)
        with monkeypatch.context() as patch:
            patch.setattr(forward, "same_texts", own_texts)
            expected = pass_of(model, mask_id, rollouts, masks, built.compares, at_once)
        assert relative(found[0], expected[0]) < 1e-10 and relative(found[1], expected[1]) < 1e-10
        copies = int(masks.scored.any(-1).sum(-1).max())
        assert found[2] <= expected[2] and (copies == 1 or found[2] < expected[2])


@pytest.mark.parametrize(
    ("origin", "clean", "noisy"), [("sequence", 448, 8 + 256), ("completion", 200 + 256 - 32, 256)]
)
def test_sixteen_copies_take_their_text_along_once(origin, clean, noisy, monkeypatch):
    """200 tokens of prompt and 256 of completion in blocks of 32: 11,392 columns become 4,672, or 10,880 become 4,520.

    Blocks that begin with the sequence cut the prompt's last 8 tokens off, which every copy has for itself.
    """
    pattern = Pattern(32, origin)
    assert (pattern.text_width(200, 256), pattern.copy_width(200, 256)) == (clean, noisy)
    model = with_pattern(tiny_model(torch.float32), pattern, 0)
    rollouts = make_rollouts([256], 256, [200], width=200)
    masks = make_masking("random", 16).draw(rollouts, seeded())
    *_, columns = pass_of(model, 257, rollouts, masks, "completion", 16)
    assert columns == 2 * (clean + 16 * noisy)  # without a graph and with it
    monkeypatch.setattr(forward, "same_texts", own_texts)
    *_, columns = pass_of(model, 257, rollouts, masks, "completion", 16)
    assert columns == 2 * 16 * (clean + noisy)


def test_prompt_noise_makes_another_text():
    """Of four copies of a completion two hide the same prompt tokens: three texts."""
    model = with_pattern(tiny_model(torch.float32), Pattern(4), 0)
    rollouts = make_rollouts([8], 8, [8], width=8)
    masks = make_masking("random", 4).draw(rollouts, seeded())
    masks.masked[0, 0, 1] = masks.masked[0, 1, 2] = True
    *_, columns = pass_of(model, 257, rollouts, masks, "completion", 4)
    assert columns == 2 * (3 * 12 + 4 * 8)


def gradient_of(policy, rollouts, masks):
    """The gradient of what is trained, in the type that is trained."""
    loss_fn = lambda logps: Loss(logps.sin().sum(), {})  # noqa: E731
    with computing_with_copy(policy.model):
        drop_gradients(policy.model)
        accumulate(policy, rollouts, masks, loss_fn, masks_at_once=4)
    return whole_gradient(policy.model)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kept_in", ["float64", "float32"])
def test_texts_are_shared_under_adapters_checkpointing_and_a_working_copy(rank, kept_in, monkeypatch):
    policy = load_model("tiny:block", device="cpu", dtype=kept_in, lora_r=rank)
    for name, parameter in policy.model.named_parameters():
        parameter.requires_grad_(not rank or "lora_" in name)
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    if kept_in == "float32":
        keep_wider(policy.model, torch.bfloat16)
    policy.model.train()
    policy.model.gradient_checkpointing_enable()
    rollouts = make_rollouts([9, 4, 7], 9, [7, 2, 1], width=7, tokens=90)
    masks = make_masking("random", 4).draw(rollouts, seeded())
    found = gradient_of(policy, rollouts, masks)
    monkeypatch.setattr(forward, "same_texts", own_texts)
    assert relative(found, gradient_of(policy, rollouts, masks)) < (1e-10 if kept_in == "float64" else 5e-2)


@pytest.mark.slow
def test_compiled_layers_share_texts():
    """One compilation more, for each number of copies."""
    torch._dynamo.reset()
    model, plain = (with_pattern(tiny_model(torch.float32, layers=4), Pattern(4), 1) for _ in range(2))
    compile_layers(model, "aot_eager")
    noted = torch._dynamo.utils.counters
    noted.clear()
    for lengths, num_masks in (([9, 4, 7], 4), ([11, 6, 8, 5, 2], 3), ([12, 10, 7, 3], 6)):
        rollouts = make_rollouts(lengths, max(lengths), width=7, tokens=90)
        masks = make_masking("random", num_masks).draw(rollouts, seeded())
        found, expected = (
            pass_of(each, 257, rollouts, masks, "completion", 9)[:2] for each in (model, plain)
        )
        assert all(relative(*each) < 1e-5 for each in zip(found, expected, strict=True))
    assert noted["frames"]["ok"] == noted["frames"]["total"] <= 4 and not noted["graph_break"]
    torch._dynamo.reset()
