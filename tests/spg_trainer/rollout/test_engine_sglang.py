"""The plugin inside SGLang's own files (`sglang_files.py`), in a small engine of its own process; SGLang on a GPU."""

import collections
import itertools
import math
import sys
import time
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from spg_trainer.errors import TrainingError
from spg_trainer.models import Policy, load_model, tiny_tokenizer
from spg_trainer.models.families import BY_ARCHITECTURE
from spg_trainer.models.forward import head_weight, hidden_states
from spg_trainer.rollout import engine as client
from spg_trainer.rollout.engine import Engine
from spg_trainer.rollout.player import Player
from spg_trainer.settings.decoding import Sampling
from spg_trainer.training.loop import train
from tests.common.family_cases import untrained
from tests.common.rollout_cases import pad
from tests.common.sglang_files import FOLDER, place
from tests.common.trainer_cases import rows, same_weights, saved_steps, small_config, step
from tests.spg_trainer.rollout.test_engine import GREEDY, PROMPTS

HAS_FILES = place() is not None


def with_files(test):
    """Marks a test that needs the files of the wheel; it takes a while, too."""
    reason = f"SGLang's files are not here; {FOLDER} names their folder"
    return pytest.mark.slow(pytest.mark.skipif(not HAS_FILES, reason=reason)(test))


def config(output, family, **changes):
    """Five steps on an engine that the run starts itself."""
    settings = {"rollout_engine": "sglang", "lora_r": 2, "max_steps": 5, "eval_problems": 1, "save_steps": 1}
    return small_config(output, model=untrained(family), **{**settings, **changes})


@pytest.fixture(autouse=True)
def small_engine(monkeypatch):
    """A run starts the small engine where it would start SGLang."""
    monkeypatch.setattr(client, "LAUNCH", (sys.executable, "-m", "tests.common.small_engine"))
    monkeypatch.setattr(client, "find_spec", lambda name: True)
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy(
        "file_system"
    )  # SGLang's tensors are on a GPU, which both share
    yield
    torch.multiprocessing.set_sharing_strategy(before)


@with_files
@pytest.mark.parametrize("family", ["sdar", "llada2"])
def test_rows_of_sglang_are_those_of_the_own_sampler(tmp_path, family):
    """At temperature 0, for each rule of unmasking, also after new weights have come as tensors."""
    policy = load_model(str(untrained(family)), device="cpu", lora_r=2)
    engine = Engine(config(None, family), tmp_path)
    keys = [("rollout", 0, row) for row in range(len(PROMPTS))]
    kinds = [
        GREEDY,
        Sampling(10, 5, 6, 0.0, unmasking="threshold", threshold=0.05, max_tokens_per_step=3),
        Sampling(10, 5, 4, 0.0, unmasking="dynamic", threshold=0.05, max_tokens_per_step=4),
    ]
    seen = []
    for turn, sampling in enumerate([*kinds, GREEDY]):
        if turn == 3:
            stream = torch.Generator().manual_seed(3)
            with torch.no_grad():
                for name, weight in policy.model.named_parameters():
                    if ".lora_B." in name:
                        weight.copy_(torch.randn(weight.shape, generator=stream))
        prompts = pad(policy, PROMPTS)
        player = Player(policy, sampling)
        expected = player.sample(prompts, keys)
        with engine.serving(policy, f"turn {turn}"):
            found = engine.sample(player, prompts, keys)
        for name, column in vars(expected).items():
            if name != "unmask_logps":
                assert torch.equal(getattr(found, name), column), (turn, name)
        assert torch.allclose(found.unmask_logps, expected.unmask_logps, atol=1e-5)
        assert not found.engine_log_ratio.any()
        seen.append(found.completion_ids.tolist())
    assert seen[0] != seen[3]
    steps = [int(value) for value in found.unmask_step.amax(-1)]
    assert max(steps) > 2


@with_files
@pytest.mark.parametrize("family", ["sdar", "llada2"])
def test_a_run_of_five_steps_is_the_same_after_its_engine_was_killed(tmp_path, family):
    """The engine dies between two steps; the run ends with a sentence, and goes on to the same numbers."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config(whole, family), quiet=True)
    found = rows(whole / "metrics.jsonl")
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5]
    gaps = [row["engine/logp_gap"] for row in found]
    assert all(0 < gap < 1e-5 for gap in gaps), gaps
    assert len({row["completions/entropy"] for row in found}) == 5
    started = []
    start = client.subprocess.Popen

    def note(*arguments, **keywords):
        started.append(start(*arguments, **keywords))
        return started[-1]

    def kill(metrics, _):
        if metrics["step"] == 3:
            client.end_process(started[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.subprocess, "Popen", note)
        with pytest.raises(TrainingError, match="died or cannot be reached"):
            train(config(cut, family), quiet=True, on_step=kill)
    assert saved_steps(cut)[-1] == 3
    train(config(cut, family, resume=str(cut)), quiet=True)
    assert rows(cut / "metrics.jsonl") == found
    assert same_weights(step(cut, 5), step(whole, 5))


@with_files
def test_draws_follow_the_law_of_the_sampler(tmp_path):
    """4,000 completions of one block against all that can come, by the probability of each path."""
    policy = load_model(str(untrained("sdar")), device="cpu", dtype="float32")
    with torch.no_grad():  # three tokens take nearly all of the probability
        head = head_weight(policy.model)
        head.mul_(0.2)
        mask = policy.model.get_input_embeddings().weight[policy.mask_id]
        few = [65, 66, 67]
        for row, token in enumerate(few):
            head[token] += (6 + 0.08 * row) * mask / mask.norm() ** 2
    # A block of which three places are fixed by the prompt leaves two: their law is a sum over few paths.
    temperature, prompt = 0.9, [*PROMPTS[0], 70, 71, 72]
    sampling = Sampling(5, 5, 5, temperature)

    @torch.no_grad()
    def law(block):
        """{the two tokens: probability} of all ways to fill a block."""
        masked = [i for i, token in enumerate(block) if token == policy.mask_id]
        if not masked:
            return {tuple(block[3:]): 1.0}
        ids = torch.tensor([[*PROMPTS[0], *block]])
        states = hidden_states(
            policy.model,
            ids,
            torch.ones_like(ids, dtype=torch.bool),
            keep=torch.tensor([masked]) + 5,
            start=8,
        )
        logits = (states[0] @ head_weight(policy.model).T).double()
        logps = logits.log_softmax(-1)
        drawn = logits.clone()
        drawn[:, policy.mask_id] = -math.inf
        chance = (drawn / temperature).softmax(-1)
        top = chance.sum(0).topk(6).indices.tolist()
        found = collections.Counter()
        for tokens in itertools.product(top, repeat=len(masked)):
            probability = math.prod(float(chance[i, token]) for i, token in enumerate(tokens))
            best = max(range(len(masked)), key=lambda i: (float(logps[i, tokens[i]]), -i))
            filled = list(block)
            filled[masked[best]] = tokens[best]
            for result, share in law(filled).items():
                found[result] += probability * share
        return found

    expected = law([70, 71, 72, policy.mask_id, policy.mask_id])
    count = 4000
    engine = Engine(config(None, "sdar"), tmp_path)
    player = Player(policy, sampling, seed=7, rows_per_forward=500)
    with engine.serving(policy, "law"):
        found = engine.sample(player, pad(policy, [prompt] * count), [("r", i) for i in range(count)])
    seen = collections.Counter(tuple(row[:2]) for row in found.completion_ids.tolist())
    often = {result: p for result, p in expected.items() if count * p > 5}
    rest = 1 - sum(often.values())
    chi2 = sum((seen[result] - count * p) ** 2 / (count * p) for result, p in often.items())
    others = count - sum(seen[result] for result in often)
    chi2 += (others - count * rest) ** 2 / (count * rest) if count * rest > 5 else 0
    degrees = len(often) - (0 if count * rest > 5 else 1)
    assert len(often) >= 8
    # 99% of chi2 by Wilson and Hilferty.
    limit = degrees * (1 - 2 / (9 * degrees) + 2.326 * math.sqrt(2 / (9 * degrees))) ** 3
    assert chi2 < limit, (chi2, degrees, limit)


@pytest.mark.gpu
@pytest.mark.skipif(find_spec("sglang") is None, reason="SGLang is not installed")
def test_sglang_itself_on_a_gpu(tmp_path, monkeypatch, capsys):
    """SGLang serves an SDAR of 1.7 B random weights: 32 prompts equal at temperature 0; shows tokens a second."""
    monkeypatch.undo()
    sizes = {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "block_size": 4,
        "mask_token_id": 151669,
        "eos_token_id": 151645,
        "pad_token_id": 151643,
    }
    kind = BY_ARCHITECTURE["SDARForCausalLM"].from_dict(sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind.model_class(kind).to("cuda", torch.bfloat16).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(50)  # so that rounding decides no token
    policy = Policy(model, tiny_tokenizer(), 151669, 151643, (151645,), "random")
    player = Player(policy, Sampling(64, 4, 64, 0.0), rows_per_forward=32)
    cached = replace(player, sampling=replace(player.sampling, cache="blocks"))
    keys = [("r", row) for row in range(32)]
    prompts = pad(policy, [[1000 + 7 * row + i for i in range(16)] for row in range(32)])
    engine = Engine(config(None, "sdar", prompts_per_step=8, num_generations=4), tmp_path)
    seconds = {}
    with engine.serving(policy, "one"):
        for _ in range(2):  # the first one warms up
            begun = time.monotonic()
            found = engine.sample(player, prompts, keys)
            seconds["engine"] = time.monotonic() - begun
    for _ in range(2):
        begun = time.monotonic()
        expected = cached.sample(prompts, keys)
        seconds["own sampler"] = time.monotonic() - begun
    with capsys.disabled():
        sys.stdout.write(
            f"\ntokens a second: { {name: round(32 * 64 / s) for name, s in seconds.items()} }\n"
        )
    equal = (found.completion_ids == expected.completion_ids).all(-1)
    assert bool(equal.all()), f"{int(equal.sum())} of 32 rows are equal"
    with engine.serving(policy, "two"):  # the weights come as tensors now
        again = engine.sample(player, prompts, keys)
    assert torch.equal(again.completion_ids, found.completion_ids)
