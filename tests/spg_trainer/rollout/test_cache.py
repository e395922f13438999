"""Decoding with a cache: against the published decoders' tokens, and against stale keys spelled out."""

import gzip
import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spg_trainer import load_model
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.canvas import Row
from spg_trainer.rollout.passes import Columns
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.unmasking import Pass, counts_above_threshold, counts_within_budget, unmasking_rule
from spg_trainer.settings.decoding import Sampling
from tests.common.marks import slow_if
from tests.common.rollout_cases import SAMPLING, make_policy, make_prompts, pad, streams
from tests.common.stale_cases import stale_sampler

CHECKPOINTS = ("random", "scaled", "trained")


@pytest.fixture
def decoders(published):
    """The folder of the published decoders' outputs, and its index."""
    folder = published / "decoding"
    return folder, json.loads((folder / "index.json").read_text())


def as_published(case):
    """The settings of a case of index.json."""
    rule = case["rule"]
    settings = {"cache": case["cache"], "unmasking": rule["name"]}
    if rule["name"] != "schedule":
        settings[rule["name"]] = rule["value"]
    return Sampling(case["gen"], case["block"], case["steps"], **settings)


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", slow_if(CHECKPOINTS, lambda name: name == "scaled"))
def test_tokens_passes_and_confidences_of_the_published_decoders(decoders, name, every):
    """Fast-dLLM's cases, up to the first end token, three unequal prompts in a batch.

    By default two thirds of the cases are held, each at one of two lengths of a block and on one checkpoint.
    """
    folder, index = decoders
    policy = load_model(str(folder / name), dtype="float64")
    record = dict(np.load(folder / f"{name}.npz"))  # a look into the file unpacks a whole array
    inputs = pad(policy, index["checkpoints"][name]["prompts"])
    tally = Counter()
    # Not those of Streaming-dLLM, whose way to leave out the text behind a block was slower than a narrower cache.
    cases = [number for number, case in enumerate(index["cases"]) if case["cache"] != "streaming"]
    half = len(cases) // 2  # the same again with the other length
    chosen = [
        number
        for number in range(CHECKPOINTS.index(name) % every, 2 * half, every)
        if every == 1 or (number % half + number // half) % 2 == 0
    ]
    for number in (cases[place] for place in chosen):
        case = index["cases"][number]
        out = sample_completions(policy, *inputs, as_published(case), None)
        for row in range(len(inputs[0])):
            tokens = record["tokens"][number, row].tolist()
            end = next((i + 1 for i, token in enumerate(tokens) if token in index["eos_ids"]), len(tokens))
            where = (number, row, slice(end))
            confidence = out.unmask_logps[row, :end].exp().numpy()
            equal = out.completion_ids[row, :end].tolist() == tokens[:end]
            equal &= out.unmask_step[row, :end].tolist() == record["pass"][where].tolist()
            equal &= np.abs(confidence - record["confidence"][where]).max() < 2e-5
            tally[f"{case['cache']} {case['rule']['name']}"] += equal
            tally["all"] += 1
            assert equal, (name, case, row)
    held = len(inputs[0]) * len(chosen)
    assert len(cases) == 36 and len(chosen) >= 6
    assert tally["all"] == held and sum(tally.values()) == 2 * held, tally


def test_rules_choose_what_the_published_functions_choose(decoders):
    folder, _ = decoders
    given = json.loads(gzip.decompress((folder / "rules.json.gz").read_bytes()))["fast"]
    for case in given:
        masked = case["masked"]
        values = [[float.fromhex(x) for x in case["logits"][i]] for i in masked]
        logits = torch.tensor(values, dtype=torch.float64)
        best, order = logits.softmax(-1).amax(-1).log().sort(descending=True, stable=True)
        settings = {name: case[name] for name in ("threshold", "factor") if name in case}
        sampling = Sampling(unmasking=case["rule"], **settings)
        now = Pass(best[None], [len(masked)], [0])
        count = case["count"] if case["rule"] == "schedule" else int(unmasking_rule(sampling)(now, sampling))
        chosen = sorted(masked[i] for i in order[: max(1, count)].tolist())
        assert chosen == sorted(case["revealed"]), case
    assert len(given) == 180


def test_a_budget_of_doubt_is_spent_on_the_surest_tokens():
    """SLIM-RL's example; the last of them reaches the threshold, but not within the budget."""
    logps = torch.tensor(
        [[0.99, 0.98, 0.96, 0.91, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5]], dtype=torch.float64
    ).log()
    now = Pass(logps, masked=[5, 5], number=[0, 0])
    budget = replace(SAMPLING, unmasking="budget", threshold=0.9)  # 2 tokens a step by the schedule
    assert counts_within_budget(now, budget).tolist() == [3, 2]
    assert counts_above_threshold(now, budget).tolist() == [4, 1]
    assert counts_within_budget(now, replace(budget, factor=1.7)).tolist() == [4, 2]
    assert counts_within_budget(now, replace(budget, threshold=0.95, factor=9.0)).tolist() == [3, 2]


DUAL = replace(SAMPLING, cache="dual")
STALE = {
    "prefix": replace(SAMPLING, cache="prefix"),
    "dual": DUAL,
    "dual, warm": replace(DUAL, temperature=1.0),
    "neighbours": replace(SAMPLING, cache="window", window_tokens=2),
    "neighbours beyond the edges": replace(SAMPLING, cache="window", window_tokens=9),
    "prompt kept for 7 passes": replace(DUAL, prompt_refresh_steps=7),
    "prompt kept, prefix": replace(SAMPLING, cache="prefix", prompt_refresh_steps=99),
    "prefix, warm": replace(SAMPLING, cache="prefix", temperature=0.5),
    "threshold, exact": replace(SAMPLING, unmasking="threshold", threshold=0.3),
    "threshold, dual, warm": replace(DUAL, unmasking="threshold", threshold=0.3, temperature=1.0),
    "threshold, at most 2": replace(DUAL, unmasking="threshold", threshold=0.2, max_tokens_per_step=2),
    "threshold, prompt kept": replace(DUAL, unmasking="threshold", threshold=0.3, prompt_refresh_steps=6),
    "budget, dual": replace(
        DUAL, temperature=0.7, unmasking="budget", threshold=0.3, factor=1.7, diffusion_steps=24
    ),
    "leftmost, dual": replace(
        DUAL, temperature=0.7, unmasking="threshold", threshold=0.2, fallback="leftmost"
    ),
    "leftmost, drawn": replace(
        SAMPLING, temperature=0.7, unmasking="threshold", threshold=0.2, fallback="leftmost_drawn"
    ),
    "factor, prefix": replace(SAMPLING, cache="prefix", unmasking="factor", factor=1.5),
}


SHIFTED = [name for name in STALE if "prompt kept" in name or name in ("prefix", "dual", "neighbours")]


@pytest.mark.parametrize(
    "name, shift",
    slow_if(
        [*((name, 0) for name in STALE), *((name, 1) for name in SHIFTED)],
        lambda name, shift: name not in (SHIFTED[::6] if shift else [*STALE][::2]),
    ),
    ids=str,
)
def test_a_row_is_what_stale_keys_spelled_out_make_it(name, shift, at_length):
    """Padding, unequal prompts, several end tokens, and rows that leave and make room: as alone, token for token."""
    sampling, policy = STALE[name], make_policy(torch.float64)
    policy.model.shift = shift
    prompts = make_prompts(policy)
    noises = streams(len(prompts))
    expected = [
        stale_sampler(policy.model, prompt, sampling, policy.mask_id, noise)
        for prompt, noise in zip(prompts, noises, strict=True)
    ]
    for rows_per_forward in (3, None) if at_length or name == "dual, warm" else (3,):
        noises = streams(len(prompts))
        out = sample_completions(
            policy, *pad(policy, prompts, 2), sampling, noises, rows_per_forward=rows_per_forward
        )
        for row, plain in enumerate(expected):
            end = plain.end(policy.end_token_ids)
            assert out.completion_ids[row, :end].tolist() == plain.tokens[:end]
            assert out.unmask_step[row, :end].tolist() == plain.steps[:end]
            assert out.unmask_logps[row, :end].tolist() == pytest.approx(plain.logps[:end], abs=1e-6)
    assert len({plain.end(policy.end_token_ids) for plain in expected}) > 1, "no row leaves before another"


def test_stale_keys_change_tokens():
    """Else the tests above would show nothing."""
    policy = replace(make_policy(torch.float64), end_token_ids=())
    inputs = pad(policy, make_prompts(policy))
    texts = {
        name: tuple(sample_completions(policy, *inputs, s, streams(6)).completion_ids.flatten().tolist())
        for name, s in STALE.items()
    }
    assert len(set(texts.values())) == len(texts)


def test_waiting_prompts_take_the_place_of_rows_that_ended():
    """As often as rows leave; never more in flight than asked for, and nobody waits for all of a batch to end."""
    policy = make_policy(torch.float64, ends=40)
    prompts = make_prompts(policy) * 4
    rows_seen: list[int] = []
    embedding = policy.model.get_input_embeddings()
    handle = embedding.register_forward_hook(lambda *call: rows_seen.append(len(call[2])))
    together = sample_completions(policy, *pad(policy, prompts), DUAL, None, rows_per_forward=8)
    handle.remove()
    alone = sum(len(range(int(row.max()) // 5 * 5 + 5)) for row in together.unmask_step)
    assert max(rows_seen) <= 8 and sum(rows_seen) <= alone
    filled = [n for n in rows_seen[: len(rows_seen) // 2] if n > 4]
    assert len(filled) > len(rows_seen) // 4
    everyone = sample_completions(policy, *pad(policy, prompts), DUAL, None)
    assert torch.equal(everyone.completion_ids, together.completion_ids)


def test_a_row_that_enters_takes_a_slot_that_no_row_in_flight_has():
    rows = [Row(number, 0, [(0, 8, 8, False)]) for number in range(4)]
    rows[0].slot, rows[2].slot = 0, 2
    Columns.take_slots(SimpleNamespace(store=None), rows, all_move=False)
    assert [row.slot for row in rows] == [0, 1, 2, 3]
    rows = rows[1:]  # the first has left
    Columns.take_slots(SimpleNamespace(store=None), rows, all_move=False)
    assert [row.slot for row in rows] == [1, 2, 3], "who is not refreshed stays"
    Columns.take_slots(SimpleNamespace(store=None), rows, all_move=True)
    assert [row.slot for row in rows] == [0, 1, 2]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"threshold": 1.5}, ["threshold", "1.5", "at most 1"]),
        ({"threshold": 0.0, "unmasking": "threshold"}, ["threshold", "0.0"]),
        ({"unmasking": "threshold", "remasking": "random"}, ["random", "low_confidence"]),
        ({"prompt_refresh_steps": 4}, ["--prompt-refresh-steps 4", "--cache"]),
        ({"threshold": 0.5}, ["--threshold 0.5", "--unmasking threshold"]),
        ({"max_tokens_per_step": 1}, ["--max-tokens-per-step 1", "--unmasking threshold"]),
        ({"unmasking": "threshold", "factor": 2.0}, ["--factor 2.0", "--unmasking factor"]),
        ({"unmasking": "dynamic", "fallback": "leftmost"}, ["--fallback leftmost", "--unmasking threshold"]),
        ({"cache": "dual", "window_tokens": 3}, ["--window-tokens 3", "--cache window"]),
        ({"cache": "dual", "diffusion_steps": 8}, ["8 steps", "--cache none"]),
    ],
)
def test_settings_that_say_nothing_are_refused(settings, words):
    with pytest.raises(ConfigError) as error:
        Sampling(**settings).check()
    assert all(word in str(error.value) for word in words)


def test_a_cache_needs_an_attention_that_takes_a_mask_of_columns():
    policy = make_policy(torch.float32)
    policy.model.set_attn_implementation("eager")
    with pytest.raises(ConfigError, match=r"eager.*sdpa"):
        sample_completions(policy, *pad(policy, make_prompts(policy)), DUAL, None)
