"""`log_likelihood(policy, prompt, completion)`: both bounds by enumeration, and their errors by drawing again."""

import copy
import inspect
import json
import math
import pickle
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

import envs
from spg_trainer import (
    Config,
    LogLikelihood,
    Sampling,
    defaults,
    evaluate,
    generate,
    load_model,
    log_likelihood,
    sample_completions,
    save_model,
    train,
)
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models import Policy, new_tiny, tiny_tokenizer
from spg_trainer.settings.model import ModelConfig
from tests.common.block_cases import plain_logits
from tests.common.sft_cases import SMALL, sft
from tests.common.trainer_cases import change

SPECIAL = tiny_tokenizer(), 258, 256, (256, 257), "test"


@pytest.fixture(scope="module")
def policy() -> Policy:
    """A small untrained model in float64; its contexts matter."""
    model = new_tiny(hidden_size=32, layers=2, heads=4, ffn=48).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return Policy(model, *SPECIAL)


@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("length", [None, 7])
def test_bounds_of_a_short_text_are_those_of_all_ways_to_mask_it(policy, beta, ended, length):
    prompt = [*policy.encode("<|user|>say"), 257, *policy.encode("<|assistant|>")]
    text = policy.encode("abc", ended=ended)
    n = len(text)
    behind = [policy.mask_id] * ((length or n) - n)
    lower, powers = 0.0, [0.0] * n
    for k in range(1, n + 1):
        for places in combinations(range(n), k):
            shown = [policy.mask_id if place in places else token for place, token in enumerate(text)]
            logps = plain_logits(policy.model, [*prompt, *shown, *behind], len(prompt)).log_softmax(-1)
            chance = 1 / n / math.comb(n, k)
            for place in places:
                logp = float(logps[len(prompt) + place, text[place]])
                lower += chance * n / k * logp
                powers[place] += chance * n / k * math.exp(beta * logp)
    options = {"eubo_beta": beta, "ended": ended, "max_completion_length": length}
    found = log_likelihood(policy, "say", "abc", **options)
    assert found.elbo == pytest.approx(lower, rel=1e-9)
    assert found.eubo == pytest.approx(sum(map(math.log, powers)) / beta, rel=1e-9)
    assert (found.elbo_error, found.eubo_error) == (0.0, 0.0)
    assert (found.tokens, found.num_masks) == (n, 2**n - 1) and found.elbo <= found.eubo
    assert found.max_completion_length == (length or n)


def test_a_text_stands_on_as_many_places_as_the_model_was_taught(policy, tmp_path):
    (tmp_path / "environment.json").write_text(json.dumps({"rollout": {"max_completion_length": 9}}))
    taught = replace(policy, source=str(tmp_path))
    found = log_likelihood(taught, "say", "abc")
    assert found == log_likelihood(policy, "say", "abc", max_completion_length=9)
    assert (found.tokens, found.max_completion_length) == (4, 9)
    own = log_likelihood(taught, "say", "abc", max_completion_length=0)
    assert own == log_likelihood(policy, "say", "abc") and own.elbo != found.elbo
    longer = "abcdefghijkl"
    with pytest.warns(
        UserWarning, match="has 13 tokens, and the model was taught to write 9: .* its own length"
    ):
        assert log_likelihood(taught, "say", longer) == log_likelihood(policy, "say", longer)
    with pytest.raises(
        ConfigError, match=r"max_completion_length=9: the completion has 13 tokens\. Use 13 or more"
    ):
        log_likelihood(policy, "say", longer, max_completion_length=9)
    with pytest.raises(ConfigError, match=r"on 1,100 places: .* has 1,024 positions"):
        log_likelihood(policy, "say", "abc", max_completion_length=1100)


def test_standard_errors_are_those_of_drawing_again(policy):
    found = [log_likelihood(policy, "say", "abcdefghijkl", num_masks=24, seed=seed) for seed in range(60)]
    for bound in ("elbo", "eubo"):
        spread = np.std([getattr(one, bound) for one in found], ddof=1)
        said = np.mean([getattr(one, f"{bound}_error") for one in found])
        # Numbers of masked tokens are spread evenly, which draws closer together than the jackknife knows.
        assert 0.6 * spread < said < 3 * spread, bound
    assert log_likelihood(policy, "say", "abc", seed=3) == log_likelihood(policy, "say", "abc", seed=3)


@pytest.mark.parametrize(
    ("prompt", "completion", "words"),
    [
        ("a", ["b", "c"], "one text. For several texts, call log_likelihood"),
        ("a", None, "one text"),
        (5, "b", "prompt=5"),
    ],
)
def test_a_completion_that_is_no_text_is_refused(policy, prompt, completion, words):
    with pytest.raises(ConfigError, match=words):
        log_likelihood(policy, prompt, completion)


def test_an_end_token_that_a_completion_spells_is_its_end(policy):
    """As copied from raw output; a second one behind it would be scored, too."""
    plain = log_likelihood(policy, "say", "ab")
    spelled = policy.tokenizer.decode(policy.end_token_ids[-1:])
    for ended, expected in ((True, plain), (False, log_likelihood(policy, "say", "ab", ended=False))):
        assert log_likelihood(policy, "say", f"ab{spelled}", ended=ended) == expected
    assert plain.tokens == 3


def test_none_for_a_keyword_is_its_default(policy):
    assert log_likelihood(
        policy, "say", "ab", num_masks=None, seed=None, ended=None, eubo_beta=None
    ) == log_likelihood(policy, "say", "ab")
    drawn = [generate(policy, ["a", "b"], Sampling(8, 8, 8, temperature=1.0), seed=s) for s in (None, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("prompts", [None, 3])
def test_prompts_that_are_no_list_are_refused(policy, prompts):
    with pytest.raises(ConfigError, match=rf"prompts={prompts}: should be a list of texts or of chats"):
        generate(policy, prompts)


def test_no_page_calls_the_eubo_a_bound_of_the_log_likelihood():
    """It lacks the bound's constant: of texts of two tokens the log-likelihood was seen above it."""
    assert "may lie above it" in " ".join(inspect.getsource(LogLikelihood).split())


def test_what_is_no_policy_or_no_settings_is_refused_in_a_sentence(policy):
    for call, name in (
        (lambda: evaluate("tiny", "sudoku"), "evaluate"),
        (lambda: generate("tiny", ["a"]), "generate"),
        (lambda: log_likelihood("tiny", "a", "b"), "log_likelihood"),
        (lambda: sample_completions("tiny", None, None, Sampling(), None), "sample_completions"),
    ):
        with pytest.raises(ConfigError, match=rf"{name} takes a policy, not 'tiny'.*load_model\('tiny'\)"):
            call()
    with pytest.raises(ConfigError, match="load_model takes a name or a folder, not a LLaDAModelLM"):
        load_model(policy.model)
    with pytest.raises(ConfigError, match=r"train takes settings.*not a Policy"):
        train(policy)
    for settings, words in (
        ({"output": {"output_dir": "a"}}, r"output is a group of settings, OutputConfig\(...\)"),
        ({"env": ["sudoku", "countdown"]}, r"--env \['sudoku', 'countdown'\]: expected text"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(Config(**settings))
    with pytest.raises(ConfigError, match=r"sampling is a dict.*Write it as Sampling\("):
        generate(policy, ["a"], {"max_completion_length": 8})
    with pytest.raises(ConfigError, match="--max-completion-length '20': expected a whole number, "):
        generate(policy, ["a"], Sampling(max_completion_length="20"))
    with pytest.raises(ConfigError, match=r"--temperature '0\.9': expected a number, "):
        generate(policy, ["a"], Sampling(temperature="0.9"))
    for call, words in (
        (lambda: evaluate(policy, "sudoku", num_problem=8), "no such argument. Did you mean 'num_problems'"),
        (lambda: generate(policy, ["a"], temperature=1.0), r"sampling=Sampling\(temperature=..., ...\)"),
        (lambda: generate(policy, ["a"], return_logps="no"), "return_logps='no'.*: should be True or False"),
        (lambda: log_likelihood(policy, "a", "b", ended="false"), "ended='false'.*: should be True or False"),
        (lambda: generate(policy, ["a"], verifier="gsm8k"), "no such argument. Known: policy"),
        (lambda: log_likelihood(policy, "a", "b", num_mask=9), "Did you mean 'num_masks'"),
        (lambda: load_model("tiny", lora_rank=9), "Known: name, env"),
        *(
            (lambda env=env: load_model("tiny", env=env), 'No environment .* Did you mean "(spg/C|c)ountdown')
            for env in ("countdwn", ["sudoku", "countdwn"], "spg/Countdwn-v0")
        ),
        (lambda: load_model("tiny", env=envs.make("sudoku")), "not an environment that has been made"),
        *(
            (lambda call=call: call(seed=-1), r"seed=-1\): should be 0 or more")
            for call in (
                partial(generate, policy, ["a"]),
                partial(log_likelihood, policy, "a", "b"),
                load_model,
            )
        ),
        (
            lambda: generate(policy, ["a"], Sampling(temperature=-1)),
            "--temperature -1: expected a number, at least 0",
        ),
        (
            lambda: generate(policy, ["a"], Sampling(top_p=1.5)),
            "--top-p 1.5: expected a number, above 0 and at most 1",
        ),
        (
            lambda: evaluate(policy, "sudoku", num_problems=4.0),
            r"num_problems=4\.0\): should be a whole number",
        ),
        (lambda: log_likelihood(policy, "a", "b", num_masks=2.5), r"num_masks=2\.5\): should be a whole"),
        *((lambda s=s: generate(policy, ["a"], seed=s), r"seed=.*whole number") for s in (1.5, "1", True)),
        (
            lambda: Sampling(diffusion_step=3),
            r"Sampling\(diffusion_step=...\): .*Did you mean 'diffusion_steps'",
        ),
        (
            lambda: evaluate(policy, "sudoku", rows=[{"index": 0, "prompt": "1+1", "generation": 0}]),
            r"rows: a row of problem 0 asks '1\+1', and problem 0 of sudoku.* test does not",
        ),
        (lambda: save_model(policy, __file__), "writes into a folder, and .* is a file"),
        (
            lambda: defaults(Config, "math500", verifier="gsm8k"),
            "^--verifier gsm8k: .* --env rows.jsonl --verifier ",
        ),
        (lambda: load_model("tiny", lora_r=-1), "--lora-r -1: expected a whole number, at least 0"),
        (lambda: train(Config(env_args=[1])), r"--env-args \[1\]: expected names with values"),
        (lambda: defaults(Config, env=[]), r"env=\[\]: should name a task"),
        (lambda: defaults(Config, env=envs.make("sudoku")), "not an environment that has been made"),
        (lambda: defaults(Config, "sudoku", psi=0.5, algorithm="wd1"), r": --algorithm-args psi=0.5"),
        (lambda: defaults(Config, "sudoku", num_masks=4), r"of spg: --algorithm-args num_masks=4"),
        (lambda: defaults(Config, "sudoku", blanks=4), r"of the task sudoku: --env-args blanks=4"),
        (lambda: defaults(Config, env="sudoku", algorithm="wd2"), "no such algorithm. Did you mean 'wd1'"),
        (
            lambda: defaults(Config, env="sudoku", temperature=-1),
            "--temperature -1: expected a number, at least 0",
        ),
        (
            lambda: evaluate(policy, envs.make("sudoku"), env_args={"level": 2}),
            "env_args: .* open already.*make",
        ),
        (lambda: evaluate(policy, envs.make("sudoku"), reward="./a.py:b"), "reward: .* open already"),
    ):
        with pytest.raises(ConfigError, match=words):
            call()
    assert log_likelihood(policy, "a", "").tokens == 1, "the end token"
    with pytest.raises(ConfigError, match="needs one token or more"):
        log_likelihood(policy, "a", "", ended=False)
    with pytest.raises(ConfigError, match="needs 2 masks or more"):
        log_likelihood(policy, "a", "b", num_masks=1)
    with pytest.raises(ConfigError, match=r"eubo_beta=0.5: .* 1 or more"):
        log_likelihood(policy, "a", "b", eubo_beta=0.5)
    assert log_likelihood(policy, "a", "b", num_masks=2).num_masks == 2
    with pytest.raises(ConfigError, match="1,024 positions"):
        log_likelihood(policy, "a", "b" * 2000)


def test_weights_that_are_not_finite_have_no_likelihood_and_a_policy_is_not_pickled(policy):
    broken = Policy(new_tiny(hidden_size=16, layers=1, heads=2, ffn=24), *SPECIAL)
    next(broken.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(ModelError, match="logits are not finite"):
        log_likelihood(broken, "a", "b", num_masks=8)
    with pytest.raises(ModelError, match=r"save_model\(policy, FOLDER\), and open that in each process"):
        pickle.dumps(policy)
    assert copy.copy(policy).model is policy.model
    frozen = copy.deepcopy(policy)
    next(frozen.model.parameters()).data.fill_(7.0)
    assert next(policy.model.parameters()).flatten()[0] != 7 and frozen.end_token_ids == policy.end_token_ids
    assert load_model("tiny", dtype=torch.bfloat16, device="cpu").model.dtype == torch.bfloat16


def test_a_policy_is_shown_in_one_line_with_the_tokens_that_it_writes(policy):
    shown = str(policy)
    assert "\n" not in shown and len(shown) < 250
    assert "LLaDAModelLM" in shown and "'<|mdm_mask|>' (258)" in shown
    assert "'<|endoftext|>' (256) or '<|eot_id|>' (257)" in shown
    assert policy.encode("ab", ended=True) == [97, 98, 257]


@pytest.mark.slow
def test_sampling_writes_an_answer_as_often_as_its_bound_says(tmp_path):
    answers, path = ["a", "bcd", "bcd"], tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({"prompt": f"say {n % 30}", "completion": answers[n // 30]}) + "\n" for n in range(90)
        )
    )
    sizes = ModelConfig(
        model="new", device="cpu", hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64
    )
    settings = {"max_completion_length": 12, "max_steps": 300, "prompts_per_step": 24, "learning_rate": 3e-3}
    taught = change(SMALL, env="", data=str(path), model=sizes, eval_steps=0, patience=0, **settings)
    policy = load_model(str(sft(change(taught, output_dir=str(tmp_path / "run")))), device="cpu")
    sampling = Sampling(12, 12, 12, temperature=1.0, remasking="random")
    texts = generate(policy, ["say 7"], sampling, num_return_sequences=400)
    for answer in ("a", "bcd"):
        count = texts.count(answer)
        found = log_likelihood(policy, "say 7", answer)
        logged = math.log(count / len(texts))
        assert logged - 0.6 < found.elbo < logged + 4 / math.sqrt(count), "a lower bound, and no bad one"
        assert log_likelihood(policy, "say 7", answer, max_completion_length=0).elbo < found.elbo - 0.5


def test_numbers_of_numpy_are_those_of_python(policy):
    plain = log_likelihood(policy, "1", "2", num_masks=8, seed=3)
    assert log_likelihood(policy, "1", "2", num_masks=np.int64(8), seed=np.int64(3)) == plain
