"""Nemotron-Labs-Diffusion against what its original code computed: causal context, and the first token of a block."""

import json
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import pad as pad_with
from transformers import AutoConfig, AutoModelForMaskedLM

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.estimate.seconds import rollout_passes
from spg_trainer.evaluation.log_likelihood import is_greedy
from spg_trainer.likelihood.logps import token_logps
from spg_trainer.models import Policy, load_model
from spg_trainer.models.forward import head_weight, hidden_states
from spg_trainer.rollout.sampler import check_sampling, sample_completions
from spg_trainer.settings.decoding import EvalSampling, Sampling
from spg_trainer.tensors import Masks
from tests.common.family_cases import cases
from tests.common.marks import slow_if
from tests.common.model_cases import edit, some_ids
from tests.common.rollout_cases import pad, streams

NAME, MASK, END = "nemotron_labs", 100, 11
CLOSE = 1e-4
"""The largest difference of a logit; their deviation is 3.2."""


@pytest.fixture
def hub(published):
    return published / "models" / NAME


@pytest.fixture
def model(hub):
    return AutoModelForMaskedLM.from_pretrained(hub).eval()


@pytest.fixture
def published_rope(hub, tmp_path):
    """The same weights with the published 16384 positions of yarn, where the scale of queries is 1 for long."""
    shutil.copy(hub / "model.safetensors", tmp_path)
    shutil.copy(hub / "config_published_rope.json", tmp_path / "config.json")
    return AutoModelForMaskedLM.from_pretrained(tmp_path).eval()


def difference(found, expected):
    return float((found - expected).abs().max())


@torch.no_grad()
def test_logits_are_those_of_the_original_in_every_case(published, model, published_rope):
    compared = 0
    for case, given in cases(published, NAME).items():
        ids, positions = given["input_ids"], given.get("position_ids")
        mask = given["allowed"][None, None].expand(len(ids), 1, -1, -1)
        for dtype in (torch.float32, torch.float64):
            opened = (published_rope if "rope" in case else model).to(dtype)
            found = opened(ids, attention_mask=mask, position_ids=positions).logits
            expected = given["logits"]
            if case == "doubled_rope":
                halves = found.chunk(2, 1)
                assert difference(halves[1], given["causal_logits"]) < CLOSE
                found = halves[0]
            assert difference(found[:, -expected.shape[1] :], expected) < CLOSE, case
        compared += 1
    assert compared == 11


@torch.no_grad()
def test_all_is_context_without_a_mask_of_pairs(published, model):
    given = cases(published, NAME)["causal"]
    assert model.pattern == Pattern(8, "completion", "causal")
    assert difference(model(given["input_ids"]).logits, given["logits"]) < CLOSE
    padded = pad_with(given["input_ids"], (3, 0))
    found = model(padded, attention_mask=(torch.arange(27) >= 3)[None].long()).logits[:, 3:]
    assert difference(found, given["logits"]) < CLOSE


@pytest.mark.parametrize("change", ["context", "scale", "yarn"])
@torch.no_grad()
def test_what_the_family_has_changes_the_logits(published, model, change):
    given = cases(published, NAME)["block"]
    ids, mask = given["input_ids"], given["allowed"][None, None]
    if change == "context":
        number = Pattern(8, "completion").blocks(torch.ones_like(ids, dtype=torch.bool), 13)
        mask = (number[:, None] <= number[:, :, None])[:, None]
    elif change == "scale":
        model.config.rope_parameters["llama_4_scaling_beta"] = 0.0
    else:
        model.model.rotary_emb.inv_freq = 1e6 ** -(torch.arange(0, 32, 2) / 32)
    found = model(ids, attention_mask=mask).logits[:, -8:]
    assert difference(found, given["logits"]) > 0.4


@torch.no_grad()
def test_states_of_a_block_are_those_of_decoding_in_one_padded_batch(published, model):
    """Also the state that the block's first token is drawn from, which is the clean one of the token before."""
    given = [cases(published, NAME)[f"alone{row}"] for row in range(3)]
    width = max(int(case["prompt_length"]) for case in given)
    padding = [width - int(case["prompt_length"]) for case in given]
    ids = torch.cat([pad_with(case["input_ids"], (n, 0)) for case, n in zip(given, padding, strict=True)])
    real = torch.arange(ids.shape[1]) >= torch.tensor(padding)[:, None]
    keep = torch.arange(width, width + 8).expand(3, -1)
    logits = hidden_states(model, ids, real, keep, start=width) @ head_weight(model).T
    for row, case in enumerate(given):
        assert difference(logits[row, 0], case["logits_first"][0]) < CLOSE
        assert difference(logits[row, 1:], case["logits"][0, 1:]) < CLOSE


@torch.no_grad()
def test_two_copies_are_those_of_training(published, published_rope):
    """With the first token of each block shown, as when it is decoded; the mask of pairs is the original's."""
    given = cases(published, NAME)["doubled_rope"]
    clean, noisy = given["clean"], given["noisy"].clone()
    noisy[:, ::8] = clean[:, ::8]
    mask = given["allowed"][None, None].expand(2, 1, -1, -1)
    positions = given["position_ids"]
    whole = published_rope(torch.cat([noisy, clean], 1), attention_mask=mask, position_ids=positions).logits
    expected = whole[:, :24].clone()
    expected[:, 8::8] = given["causal_logits"][:, 7:-1:8]
    found = (
        hidden_states(published_rope, given["noisy"], start=0, clean=clean) @ head_weight(published_rope).T
    )
    assert difference(found[:, 1:], expected[:, 1:]) < CLOSE


@torch.no_grad()
def test_from_the_context_alone_tokens_have_the_logits_of_the_original_s_second_sum(
    published, published_rope
):
    """Those of its clean half, at the token before, wherever in a block a token stands."""
    given = cases(published, NAME)["doubled_rope"]
    from_context = torch.ones_like(given["clean"], dtype=torch.bool)
    found = hidden_states(
        published_rope, given["clean"], start=0, clean=given["clean"], from_context=from_context
    )
    found = found @ head_weight(published_rope).T
    assert difference(found[:, 1:], given["causal_logits"][:, :-1]) < CLOSE


def test_a_first_token_reaches_the_weights_through_the_clean_copy(model):
    ids = some_ids(1, 24, vocab=90)
    noisy = ids.clone()
    noisy[:, 8:] = MASK
    embedded = []
    model.model.embed_tokens.register_forward_hook(
        lambda *call: call[2].retain_grad() or embedded.append(call[2])
    )
    model.requires_grad_(True)
    hidden_states(model, noisy, keep=torch.tensor([[16]]), start=8, clean=ids).square().sum().backward()
    (states,) = embedded
    moved = states.grad[0].abs().sum(-1) > 0
    assert not moved[:8].any() and moved[8:].all()  # the noisy block, and 16 clean tokens


@torch.no_grad()
def test_a_later_token_of_a_finished_block_moves_no_earlier_state(model):
    ids = some_ids(1, 24, vocab=90)
    changed = ids.clone()
    changed[0, 13] += 1
    keep = torch.tensor([[11, 12, 16]])
    whole = [model(x).logits for x in (ids, changed)]
    assert torch.equal(whole[0][:, :13], whole[1][:, :13])
    states = [hidden_states(model, x, keep=keep, start=8) for x in (ids, changed)]
    assert all(not torch.equal(a, b) for a, b in zip(states[0][0], states[1][0], strict=True))


# Decoding.


def decoded(hub, case, cache, context="causal", **changes):
    """A recorded generation: what its own code wrote, and the rollouts of this sampler."""
    stored = np.load(hub / "generate.npz")
    settings = json.loads(str(stored[f"{case}.params"]))
    prompt = stored[f"{case}.prompt"]
    block, length = settings["block_length"], settings["max_new_tokens"]
    opened = AutoModelForMaskedLM.from_pretrained(hub, block_size=block, context=context).double().eval()
    policy = Policy(opened, None, MASK, 150, (settings["eos_token_id"],), "test")
    rule = {}
    if "threshold" in settings:
        rule = {"unmasking": "threshold", "threshold": settings["threshold"]}
    sampling = Sampling(length, block, length, cache=cache, **rule | changes)
    check_sampling(policy, sampling)
    ids, mask = pad(policy, prompt.tolist())
    rollouts = sample_completions(policy, ids, mask, sampling, streams(len(prompt)))
    return stored[f"{case}.sequences"][:, prompt.shape[1] :].tolist(), rollouts, settings, policy


@pytest.mark.parametrize(
    "cache, case",
    slow_if(
        product(["none", "blocks"], ["g0", "g1", "g2", "g3", "g4", "g7", "g8", "g9"]),
        lambda cache, case: cache == "none" and case not in ("g0", "g3"),
    ),
)
def test_tokens_and_passes_are_those_of_the_original(hub, case, cache):
    expected, rollouts, settings, _ = decoded(hub, case, cache)
    for row, found in zip(expected, rollouts.completion_ids.tolist(), strict=True):
        assert found[: len(row)] == row
    if len(expected) == 1 and case != "g9":
        assert int(rollouts.unmask_step.max()) + 1 == settings["nfe"]


@pytest.mark.parametrize("cache", [pytest.param("none", marks=pytest.mark.slow), "blocks"])
@pytest.mark.parametrize("case", ["g5", "g6"])
def test_a_whole_context_writes_what_the_original_writes_without_a_causal_one(hub, case, cache):
    """Prompt and finished blocks see themselves whole, and no first token is written alone."""
    expected, rollouts, settings, policy = decoded(hub, case, cache, context="whole")
    assert settings["causal_context"] is False
    assert policy.model.pattern == Pattern(8, "completion", "whole")
    assert rollouts.completion_ids.tolist() == expected
    passes = int(rollouts.unmask_step.max()) + 1
    assert settings["nfe"] == passes + 3  # the original keeps each block by a pass of its own
    assert decoded(hub, case, cache)[1].completion_ids.tolist() != expected


@pytest.mark.parametrize("cache", ["none", "blocks"])
def test_where_a_row_ends_the_others_are_decoded_to_their_end(shared_data, cache):
    """The original leaves masks in them, as its early break is for the whole batch; up to there tokens are its own."""
    expected, rollouts, _, _ = decoded(shared_data / "models" / NAME, "g10", cache)
    (ended, other), (of_ended, of_other) = rollouts.completion_ids.tolist(), expected
    assert rollouts.completion_mask.sum(-1).tolist() == [13, 24]
    assert ended[:13] == of_ended[:13]
    assert of_other[:16].count(MASK) == 2 and MASK not in other
    assert [token for token, own in zip(other[:16], of_other, strict=False) if own != MASK] == [
        own for own in of_other[:16] if own != MASK
    ]


@pytest.mark.parametrize("cache", ["none", "blocks"])
def test_with_its_noise_a_temperature_writes_what_the_original_wrote(shared_data, cache, monkeypatch):
    """Its uniform numbers, and for the first tokens, which it draws by another function, the tokens themselves."""
    hub = shared_data / "models" / NAME  # with the uniform numbers, which are too many for the repository
    stored = np.load(hub / "generate.npz")
    uniform, history = torch.from_numpy(stored["n0.uniform"])[:, 0], stored["n0.history"][:, 0]
    firsts, state = stored["n0.first_tokens"].tolist(), {"step": 0, "blocks": 0, "masked": []}

    def recorded(noise, parts, generators):
        """log E of each drawn place, E = -log u: in the first pass of a block, of its first place alone."""
        if not state["masked"]:
            noise[:] = 0.0
            noise[0, firsts[state["blocks"]]] = -1e9
            state["blocks"] += 1
            state["masked"] = list(range(1, 8))
            return
        step = state["step"]
        noise[:] = (-uniform[step, state["masked"]].log()).log().to(noise)
        state["masked"] = np.flatnonzero(history[step] == MASK).tolist()
        state["step"] += 1

    monkeypatch.setattr("spg_trainer.rollout.draw.log_exponential", recorded)
    expected, rollouts, settings, _ = decoded(hub, "n0", cache, temperature=0.7)
    assert rollouts.completion_ids.tolist() == expected
    assert state["step"] == 16 and int(rollouts.unmask_step.max()) + 1 == settings["nfe"]


@pytest.mark.parametrize("cache, context", [("none", "causal"), ("blocks", "causal"), ("blocks", "whole")])
def test_log_probabilities_of_what_was_written_are_what_is_scored(hub, cache, context):
    """Of first tokens, which a causal context has written alone, too."""
    _, rollouts, _, policy = decoded(hub, "g7", cache, context, temperature=1.0)
    steps = rollouts.unmask_step
    first_alone = [
        bool((steps[:, start, None] < steps[:, start + 1 : start + 8]).all()) for start in range(0, 24, 8)
    ]
    assert all(first_alone) == (context == "causal")
    width = rollouts.prompt_ids.shape[1]
    masked = torch.zeros(2, 24, width + 24, dtype=torch.bool)
    scored = torch.zeros(2, 24, 24, dtype=torch.bool)
    for step in range(24):
        masked[:, step, width:] = steps >= step
        scored[:, step] = steps == step
    masks = Masks(
        masked=masked, scored=scored, weight=scored.double(), scale=torch.ones(2), part=scored[:, 0]
    )
    found = token_logps(policy, rollouts, masks).sum(1)
    assert difference(found, rollouts.unmask_logps) < CLOSE


@pytest.mark.parametrize("steps", [pytest.param(24, marks=pytest.mark.slow), 9, 6])
@pytest.mark.parametrize("cache", ["none", "blocks"])
def test_passes_and_their_columns_follow_from_the_settings(hub, cache, steps):
    _, _, _, policy = decoded(hub, "g0", cache)
    widths = []
    policy.model.get_input_embeddings().register_forward_hook(lambda *call: widths.append(call[2].shape[1]))
    sampling, policy = Sampling(24, 8, steps, cache=cache), replace(policy, end_token_ids=())
    sample_completions(policy, *pad(policy, [[*range(12, 22)]]), sampling, streams(1))
    assert [computed for computed, _, _ in rollout_passes(sampling, 10, policy.model.pattern)] == widths


def test_greedy_decoding_is_known_from_its_text(hub):
    expected, rollouts, _, policy = decoded(hub, "g0", "none")
    prompt = rollouts.prompt_ids[0].tolist()
    assert is_greedy(policy, prompt, expected[0])
    assert not is_greedy(policy, prompt, [*expected[0][:8], expected[0][8] + 1, *expected[0][9:]])


def test_a_given_first_token_stays_and_the_others_see_it(hub):
    expected, _, _, policy = decoded(hub, "g0", "none")
    canvas = torch.full((1, 24), MASK)
    canvas[0, 8] = expected[0][8]
    prompt = np.load(hub / "generate.npz")["g0.prompt"].tolist()
    for cache in ("none", "blocks"):
        found = sample_completions(
            policy, *pad(policy, prompt), Sampling(24, 8, 24, cache=cache), streams(1), canvas=canvas
        )
        assert found.completion_ids.tolist() == expected


def test_written_tokens_cannot_be_edited(hub):
    with pytest.raises(ConfigError, match="editing_threshold"):
        check_sampling(
            decoded(hub, "g9", "none")[-1],
            EvalSampling(24, 8, 24, unmasking="threshold", editing_threshold=0.9),
        )


# The Hub's files.


def test_a_saved_model_has_the_hubs_names_settings_and_every_bit(hub, model, tmp_path):
    model.save_pretrained(tmp_path)
    weights, stored = (load_file(place / "model.safetensors") for place in (hub, tmp_path))
    assert stored.keys() == weights.keys() and "encoder.layers.0.self_attn.q_proj.weight" in stored
    assert all(torch.equal(x, stored[name]) for name, x in weights.items())
    settings, written = (json.loads((place / "config.json").read_text()) for place in (hub, tmp_path))
    settings.pop("auto_map")
    assert written == settings | {"transformers_version": written["transformers_version"]}


@pytest.mark.parametrize(
    "setting, value",
    [
        ("rope_parameters", {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}),
        ("dlm_paradigm", "autoregressive"),
        ("vision_config", {"hidden_size": 8}),
        ("sliding_window", 4096),
        ("context", "blocks"),
    ],
)
def test_a_setting_of_another_kind_is_refused_by_name(hub, tmp_path, setting, value):
    folder = tmp_path / "other"
    shutil.copytree(hub, folder, ignore=shutil.ignore_patterns("*.npz"))
    edit(folder / "config.json", **{setting: value})
    with pytest.raises(ModelError, match=setting):
        AutoConfig.from_pretrained(folder)
    with pytest.raises(ModelError, match=setting):
        load_model(str(folder))


def test_weights_of_block_diffusion_are_opened_too(hub, tmp_path):
    shutil.copytree(hub, tmp_path / "other", ignore=shutil.ignore_patterns("*.npz"))
    edit(tmp_path / "other" / "config.json", dlm_paradigm="block_diff")
    assert AutoConfig.from_pretrained(tmp_path / "other").context == "causal"


def test_a_whole_context_is_a_setting_of_config_json_of_this_family_alone(hub, published, tmp_path):
    AutoConfig.from_pretrained(hub, context="whole").save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["context"] == "whole"
    assert AutoConfig.from_pretrained(tmp_path).context == "whole"
    shutil.copy(published / "models" / "sdar" / "config.json", tmp_path)
    edit(tmp_path / "config.json", context="whole")
    with pytest.raises(ModelError, match="context = 'whole'"):
        AutoConfig.from_pretrained(tmp_path)
