"""Greedy generations of the published families by their own code, token for token.

What an original does otherwise is done here and named: Dream's confidences over the 50 best tokens and its counts,
Fast-dLLM's first token of a block alone, BD3LM's blocks from the completion's start.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.models import Policy
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.unmasking import certainty, margin, surest_first
from spg_trainer.settings.decoding import EvalSampling, Sampling
from spg_trainer.settings.rules import REMASKING, UNMASKING, Remasking, Unmasking
from tests.common.published import MASKS
from tests.common.rollout_cases import pad, streams

LENGTHS = {"dream": 6, "fastdllm_v2": 4, "illada": 4, "llada15": 3, "llada2": 8}
LENGTHS |= {"lladamoe": 3, "qwen3_diffusion": 4, "sdar": 8}


@pytest.fixture
def opened(published):
    """A function from a family and its block size to a policy in float64 and the recorded generations."""
    from transformers import AutoModelForMaskedLM

    def open_one(name, block=None, ends=()):
        folder = published / "models" / name
        options = {} if block is None else {"block_size": block}
        model = AutoModelForMaskedLM.from_pretrained(folder, **options).double().eval()
        stored, found = np.load(folder / "generate.npz"), {}
        for key in stored.files:
            case, _, part = key.partition(".")
            found.setdefault(case, {})[part] = stored[key]
        for case in found.values():
            case["params"] = json.loads(str(case["params"]))
        assert len(found) == LENGTHS[name]
        return Policy(model, None, MASKS[name], 150, ends, "test"), found

    return open_one


def prompts_of(case):
    """The prompts of a recorded batch without padding."""
    if "prompt0" in case:
        return [case[f"prompt{i}"].tolist() for i in range(2) if f"prompt{i}" in case]
    real = case.get("attention_mask", np.ones_like(case["prompt"])).astype(bool)
    return [row[mask].tolist() for row, mask in zip(case["prompt"], real, strict=True)]


def decode(policy, prompts, sampling):
    rollouts = sample_completions(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
    return rollouts.completion_ids.tolist()


def whole(length, block):
    return -(-length // block) * block


@pytest.mark.parametrize("name", ["llada15", "illada", pytest.param("lladamoe", marks=pytest.mark.slow)])
def test_llada_and_its_kin_decode_as_llada(opened, name):
    policy, recorded = opened(name)
    for case in recorded.values():
        p = case["params"]
        found = decode(policy, prompts_of(case), Sampling(p["gen_length"], p["block_length"], p["steps"]))
        assert found == case["sequences"][:, -p["gen_length"] :].tolist()


def test_qwen3_diffusion_decodes_as_llada_or_in_blocks_of_the_completion(opened, monkeypatch):
    for kind, block in (("mdlm", 0), ("bd3lm", 8)):
        policy, recorded = opened("qwen3_diffusion", block)
        if block:
            monkeypatch.setattr(type(policy.model), "pattern", Pattern(block, "completion"))
        for name in (f"{kind}_0", f"{kind}_1"):
            case, prompts = recorded[name], prompts_of(recorded[name])
            length, steps = case["params"]["max_new_tokens"], case["params"]["steps"]
            found = decode(policy, prompts, Sampling(length, case["params"]["block_size"], steps))
            first = [whole(len(p), 8) if block else len(p) for p in prompts]
            if block:
                first = [max(first)] * len(first)
            expected = [row[n : n + length].tolist() for row, n in zip(case["sequences"], first, strict=True)]
            assert found == expected, name


@pytest.mark.parametrize("cache", [pytest.param("none", marks=pytest.mark.slow), "blocks"])
def test_sdar_decodes_by_schedule_by_threshold_or_from_left_to_right(opened, cache):
    rules = {
        "low_confidence_static": {},
        "low_confidence_dynamic": {"unmasking": "dynamic"},
        "sequential": {"remasking": "sequential"},
    }
    for block in (4, 8):
        policy, recorded = opened("sdar", block)
        for case in recorded.values():
            p, (prompt,) = case["params"], prompts_of(case)
            if p["block_length"] != block:
                continue
            expected = case["sequences"][0, len(prompt) :].tolist()
            length = whole(len(expected), block)
            rule = rules[p["remasking_strategy"]]
            if rule.get("unmasking"):
                rule = rule | {"threshold": p["confidence_threshold"]}
            (found,) = decode(policy, [prompt], Sampling(length, block, length, cache=cache, **rule))
            assert found[: len(expected)] == expected


def best_50(measure):
    """Dream takes top_k=50 from the model's config unasked."""

    def measured(probabilities):
        best = probabilities.topk(50, -1).values
        return measure(best / best.sum(-1, keepdim=True))

    return measured


def dream_counts(masked, steps, eps):
    """How many tokens each pass unmasks; passes that unmask none change nothing and are left out."""
    t, counts = torch.linspace(1, eps, steps + 1), []
    for step in range(steps):
        count = masked - sum(counts)
        counts.append(count if step == steps - 1 else int(count * (1 - t[step + 1] / t[step])))
    return [count for count in counts if count]


def test_dream_decodes_its_completion_as_one_block(opened, monkeypatch):
    policy, recorded = opened("dream")
    kinds = {"entropy": certainty, "topk_margin": margin, "maskgit_plus": lambda p: p.amax(-1)}
    for name, case in recorded.items():
        p = case["params"]
        length, measure = p["max_new_tokens"], kinds[p["alg"]]
        counts = dream_counts(length, p["steps"], p["eps"])
        unmasking = Unmasking(
            lambda now, s, counts=counts: [counts[n] for n in now.number], counts_sure=False
        )
        monkeypatch.setitem(UNMASKING, "dream", unmasking)
        measured = best_50(measure) if p["top_k"] else measure
        monkeypatch.setitem(REMASKING, "dream", Remasking(surest_first, measured))
        sampling = Sampling(length, length, p["steps"], unmasking="dream", remasking="dream")
        found = decode(policy, prompts_of(case), sampling)
        assert found == case["sequences"][:, -length:].tolist(), name
        if p["alg"] == "entropy" and not p["top_k"]:
            sampling = replace(sampling, remasking="entropy", unmasking="schedule")
            monkeypatch.setitem(UNMASKING, "schedule", UNMASKING["dream"])
            assert decode(policy, prompts_of(case), sampling) == found


@pytest.mark.parametrize("cache", [pytest.param("none", marks=pytest.mark.slow), "blocks"])
def test_fast_dllm_writes_the_first_token_of_a_block_alone(opened, cache):
    """Its later passes see that token; ours ask for it together with the others of the block."""
    policy, recorded = opened("fastdllm_v2", 8)
    for case in recorded.values():
        p, (text,) = case["params"], prompts_of(case)
        expected, block = case["sequences"][0].tolist(), p["small_block_size"]
        rule = Sampling(8, block, 8, unmasking="threshold", threshold=p["threshold"], cache=cache)
        while len(text) < len(expected):
            if len(text) % 8 == 0:
                text = text + decode(policy, [text], Sampling(1, 1, 1))[0]
            else:
                text = text + decode(policy, [text], rule)[0][: 8 - len(text) % 8]
        assert text[: len(expected)] == expected


@pytest.mark.parametrize("cache", [pytest.param("none", marks=pytest.mark.slow), "blocks"])
def test_llada2_unmasks_what_is_sure_or_the_schedules(opened, cache):
    for block in (8, 32):
        policy, recorded = opened("llada2", block, ends=(150,))
        for name, case in recorded.items():
            p, (prompt,) = case["params"], prompts_of(case)
            if p["block_length"] != block:
                continue
            expected = case["sequences" if name.startswith("v20") else "no_editing"][0].tolist()
            steps = p.get("steps", block // p.get("num_to_transfer", 1))
            length = whole(p["gen_length"], block) + block  # so that the last block that counts is whole
            sampling = Sampling(length, block, steps * length // block, unmasking="dynamic", cache=cache)
            (found,) = decode(policy, [prompt], replace(sampling, threshold=p["threshold"]))
            assert found[: len(expected)] == expected, name


@pytest.mark.parametrize("cache", [pytest.param("none", marks=pytest.mark.slow), "blocks"])
def test_llada21_edits_what_it_has_unmasked(opened, cache):
    edited = 0
    for block in (8, 32):
        policy, recorded = opened("llada2", block, ends=(150,))
        for name, case in recorded.items():
            p, (prompt,) = case["params"], prompts_of(case)
            if "editing_threshold" not in p or p["block_length"] != block:
                continue
            expected = case["sequences"][0].tolist()
            steps, length = block // p.get("num_to_transfer", 1), whole(p["gen_length"], block) + block
            sampling = EvalSampling(length, block, steps * length // block, unmasking="dynamic", cache=cache)
            sampling = replace(sampling, threshold=p["threshold"], editing_threshold=p["editing_threshold"])
            (found,) = decode(policy, [prompt], sampling)
            assert found[: len(expected)] == expected, name
            edited += expected != case["no_editing"][0].tolist()
    assert edited == 3
