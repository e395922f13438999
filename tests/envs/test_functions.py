"""`--reward ./mine.py:brevity+tone`: reward functions of the user's own on a file of rows, as TRL calls them."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow
import pytest

import envs
from envs import EnvError, checking
from envs.__main__ import main as envs_main
from envs.authoring import async_calls
from envs.authoring.reward_functions import TrainerState, load_functions, reports
from envs.checking import check
from envs.scoring import score_all
from tests.common.env_cases import check_only

CODE = """
import asyncio

import numpy as np


def brevity(completions, **kwargs):
    return [1 - len(text) / 100 for text in completions]


def right(completions, answer, prompts, extra=None):
    assert all(prompt.startswith("say ") for prompt in prompts)
    return [1.0 if want in text else None for text, want in zip(completions, answer)]


def chats(prompts, completions):
    assert [message[0]["role"] for message in completions] == ["assistant"] * len(prompts)
    return np.array([float(message[0]["content"] == "hi") for message in completions])


def everything(completions, **kwargs):
    return [float(kwargs["hint"][i] in text) for i, text in enumerate(completions)]


def tensor(completions):
    import torch

    return torch.arange(len(completions)) / 2


def tensors(completions):
    return list(tensor(completions))


def raises(completions):
    return 1 / 0


def asks(completions, **columns):
    return columns["town"]


def few(completions):
    return [1.0]


def nan(completions):
    return [float("nan")] * len(completions)


def score(completions):
    return [0.0] * len(completions)


met = [asyncio.Event(), asyncio.Event()]


async def first(completions):
    met[0].set()
    await asyncio.wait_for(met[1].wait(), 20)
    return [float(text) for text in completions]


async def second(completions):
    met[1].set()
    await asyncio.wait_for(met[0].wait(), 20)
    return [-float(text) for text in completions]


async def flaky(completions):
    if len(completions) > 1:
        raise ConnectionError("the judge is away")
    await asyncio.sleep(60 if "hang" in completions[0] else 0)
    return [float(text) for text in completions]


asked = []


async def hangs(completions):
    asked.append(len(completions))
    await asyncio.sleep(60)
"""


@pytest.fixture(autouse=True)
def _outside_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of this process that makes single steps leaves theirs."""
    monkeypatch.setattr(reports, "state", TrainerState())


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("def a(:")
    lines = [
        {"prompt": f"say {n}", "answer": str(n), "extra": "x", "solution": n, "hint": str(n)}
        for n in range(60)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def scored(texts, **arguments):
    env = envs.make(str(Path("rows.jsonl").resolve()), **arguments)
    problems = [env.problem(index) for index in range(len(texts))]
    texts = [
        text.replace("N", str(problem.prompt[4:])) for text, problem in zip(texts, problems, strict=True)
    ]
    return env, env.score_batch(problems, texts)


def test_functions_beside_a_verifier_are_components_of_their_names(place):
    env, scores = scored(
        ["#### N", "#### 999, said at length"], verifier="gsm8k", reward="./mine.py:brevity+right"
    )
    assert env.reward_weights == {"correct": 1.0, "score": 0.0, "format": 0.0, "brevity": 1.0, "right": 1.0}
    assert scores.rewards["correct"].tolist() == [1.0, 0.0] == scores.rewards["right"].tolist()
    assert scores.rewards["brevity"][1] == pytest.approx(0.76)
    other = envs.make(
        "rows.jsonl", verifier="gsm8k", reward="./mine.py:brevity", reward_weights={"brevity": 0.1}
    )
    assert other.reward_weights["brevity"] == 0.1


def test_without_a_verifier_the_first_function_says_what_is_solved(place):
    env, scores = scored(["it is N", "no"], reward="./mine.py:right+brevity")
    assert env.reward_weights == {"correct": 0.0, "format": 0.0, "right": 1.0, "brevity": 1.0}
    assert scores.rewards["right"].tolist() == scores.rewards["correct"].tolist() == [1.0, 0.0], (
        "None counts as 0"
    )
    assert scores.reason == ["ok", "wrong"]
    renamed = envs.make("rows.jsonl", reward="./mine.py:right", answer="solution")
    assert renamed.problem(0).reference["answer"] == int(renamed.problem(0).prompt[4:])
    _, scores = scored(["N", "none"], reward="./mine.py:everything", hint="hint")
    assert scores.rewards["everything"].tolist() == [1.0, 0.0]


PUBLIC = """
def of_d1(prompts, completions, answer, step=None, run_name=None, **kwargs):
    assert step is None and run_name is None and kwargs["hint"] == kwargs["late"]
    return [2.0 if a in c else 0.0 for c, a in zip(completions, answer)]


def cosine(completions, answer, min_value_wrong=-1.0, max_len=1000, **kwargs):
    return [1.0 if a in c else min_value_wrong for c, a in zip(completions, answer)]


def keyword_only(completions, *, answer, weight=2.0):
    return [weight if a in c else 0.0 for c, a in zip(completions, answer)]


def asks(completions, **kwargs):
    assert "prompt" not in kwargs and kwargs["prompts"]
    return [float(a in c) for c, a in zip(completions, kwargs["answer"])]


def given(completions, *, extra=None, **kwargs):
    return [float(x == "x") for x in extra]
"""


@pytest.mark.parametrize(
    ("name", "paid"),
    [
        ("of_d1", [2.0, 0.0]),
        ("cosine", [1.0, -1.0]),
        ("keyword_only", [2.0, 0.0]),
        ("asks", [1.0, 0.0]),
        ("given", [1.0, 1.0]),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_public_functions_are_called_as_trl_calls_them(place, name, paid, ending):
    """A default is no column, and `**kwargs` gets every column, None where a row lacks one that others have."""
    (place / "public.py").write_text(PUBLIC)
    lines = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    lines = [{**line, "late": line["hint"]} for line in lines]
    if ending == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(pyarrow.Table.from_pylist(lines), place / "public.parquet")
    else:
        (place / "public.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    env = envs.make(f"public.{ending}", reward=f"./public.py:{name}")
    problems = [env.problem(index) for index in range(2)]
    completions = [problems[0].prompt, "no"]
    assert env.score_batch(problems, completions).rewards[name].tolist() == paid


def test_a_row_that_lacks_a_column_of_the_others_gives_none_for_it(place):
    (place / "public.py").write_text(
        "def some(completions, **kwargs):\n    return [float(hint is None) for hint in kwargs['hint']]\n"
    )
    lines = [{"prompt": f"say {n}"} | ({"hint": "x"} if n % 2 else {}) for n in range(60)]
    (place / "some.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    env = envs.make("some.jsonl", reward="./public.py:some")
    problems = [env.problem(index) for index in range(len(env))]
    paid = env.score_batch(problems, ["a"] * len(problems)).rewards["some"].tolist()
    assert paid == [float(int(problem.prompt[4:]) % 2 == 0) for problem in problems]


def test_chats_are_given_as_chats(place):
    chat = [{"prompt": [{"role": "user", "content": f"say {n}"}]} for n in range(60)]
    (place / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chat))
    _, scores = scored(["hi", "ho"], reward="./mine.py:chats")
    assert scores.rewards["chats"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, r"Give verifier=NAME, one of .*, or reward=\"./FILE.py:FUNCTION\""),
        (
            {"reward": "mine"},
            'reward="./FILE.py:FUNCTION" is the form of a reward, ./FILE.py:ONE\\+TWO of several',
        ),
        ({"reward": "./nobody.py:a"}, r"reward=\"./nobody.py:a\": there is no file ./nobody.py"),
        ({"reward": "./mine.py:nothing"}, "has no function 'nothing'; it has brevity, right, chats"),
        ({"reward": "./broken.py:a"}, "importing ./broken.py raised SyntaxError"),
        ({"reward": "./mine.py:score"}, "'score' is a component of every file of rows"),
        ({"reward": "./mine.py:right", "answer": "nobody"}, 'rows.jsonl, line 1 lacks "nobody"'),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_opened(place, arguments, text):
    with pytest.raises(EnvError, match=text):
        envs.make("rows.jsonl", **arguments)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raises", r"raises raised ZeroDivisionError: division by zero \(.*mine.py, line \d+\)\.$"),
        ("asks", r"asks raised KeyError: 'town' \(.*mine.py, line \d+\)\. It can have prompts, completions"),
        ("few", "few must return a list of 2 numbers, one for each completion, and returned"),
        ("nan", "nan must return finite numbers or None, and returned nan"),
    ],
)
def test_what_a_function_may_not_return_is_said(place, name, text):
    with pytest.raises(EnvError, match=text):
        scored(["a", "b"], reward=f"./mine.py:{name}")


def test_numbers_may_stand_in_a_tensor_and_functions_in_several_files(place):
    (place / "other.py").write_text("def second(completions):\n    return [2.0] * len(completions)\n")
    reward = "./mine.py:tensor+tensors+./other.py:second"
    for given in (reward, ["./mine.py:tensor", "./mine.py:tensors", "./other.py:second"]):
        _, scores = scored(["a", "b"], reward=given)
        assert [scores.rewards[name].tolist() for name in ("tensor", "tensors", "second")] == [
            [0, 0.5]
        ] * 2 + [[2, 2]]
    with pytest.raises(EnvError, match="two functions are called 'second'"):
        load_functions("./mine.py:second+./other.py:second")
    with pytest.raises(EnvError, match=r"two functions are called 'tensor'.*leave out what is named twice"):
        load_functions("./mine.py:tensor+tensors+tensor")


@pytest.mark.slow
def test_it_is_checked_trained_and_its_change_refused(place, capsys):
    from spg_trainer.cli import main
    from spg_trainer.runs.folder import RunFolder
    from tests.common.trainer_cases import rows, tiny_folder

    assert (
        np.isfinite(envs.make("rows.jsonl", reward="./mine.py:brevity").reward_ranges["brevity"]).sum() == 0
    )
    words = [
        "--env",
        "rows.jsonl",
        "--reward",
        "./mine.py:brevity",
        "--model",
        str(tiny_folder()),
        "--device",
        "cpu",
    ]
    words += "--max-steps 1 --prompts-per-step 4 --num-generations 4 --max-completion-length 8 --block-length 8".split()
    words += "--diffusion-steps 4 --eval-problems 4 --eval-steps 1 --output-dir run --force".split()
    words += "--save-steps 1 --no-report".split()
    assert main(words) == 0, capsys.readouterr().err
    assert rows(place / "run" / "metrics.jsonl")[0]["rewards/brevity/mean"] > 0
    (place / "mine.py").write_text(CODE.replace("/ 100", "/ 50"))
    assert main(["--resume", "run", "--max-steps", "2"]) == 2
    assert re.search(r"mine\.py(:brevity)? has changed since", capsys.readouterr().err)
    again = ["--resume", "run", "--max-steps"]
    started = json.loads((place / "run/eval/before.json").read_text())["rewards"]["brevity"]
    assert main([*again, "2", "--accept-changed-code"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert (
        "It is not compared with the start, which other code has judged" in said
        and "lost something" not in said
    )
    summary = json.loads((place / "run/summary.json").read_text())
    assert summary["eval_before"] is summary["gain"] is summary["worse"] is None and summary["eval_after"]
    assert summary["lost"] == {} and summary["validation"]["start"] is None
    aside = json.loads((place / "run/eval/other_code/before.json").read_text())
    assert aside["rewards"]["brevity"] == started and not (place / "run/eval/before.json").exists()
    assert summary["solved_sampled"] == rows(place / "run/metrics.jsonl")[1]["correct"], "of step 2 alone"
    assert main([*again, "3"]) == 0, capsys.readouterr().err
    assert "not compared with the start" in capsys.readouterr().out
    assert RunFolder(place / "run").last_step_of_other_code(3) == 1, (
        "the step before the change, also after another resume"
    )
    (place / "mine.py").write_text(CODE)
    assert main([*again, "4"]) == 2 and "--accept-changed-code" in capsys.readouterr().err
    folder = RunFolder(place / "run")
    folder.truncate_after(0)
    folder.release()
    assert folder.last_step_of_other_code(3) == 0, "all steps are made again, by the present code"


def test_a_schedule_over_the_steps_of_a_run_is_never_a_division_by_zero(place):
    """The trial before the first step knows the run's number of steps; where nothing is trained, both are 1."""
    from spg_trainer import Config, defaults
    from spg_trainer.training.plan import settle
    from tests.common.trainer_cases import tiny_folder

    (place / "logs.py").write_text(
        "def later(completions, trainer_state):\n"
        "    assert (trainer_state.global_step, trainer_state.max_steps) in ((1, 1), (0, 7))\n"
        "    return [trainer_state.global_step / trainer_state.max_steps] * len(completions)\n"
    )
    _, scores = scored(["a", "b"], reward="./logs.py:later")
    assert scores.rewards["later"].tolist() == [1.0, 1.0]
    config = defaults(
        Config,
        env="rows.jsonl",
        reward="./logs.py:later",
        max_steps=7,
        model=str(tiny_folder()),
        eval_steps=0,
    )
    settle(config)


def test_trainer_state_log_metric_and_log_extra_are_trls(place, capsys):
    from spg_trainer.cli import main
    from tests.common.trainer_cases import rows, tiny_folder

    (place / "logs.py").write_text(
        "def logs(completions, trainer_state, log_metric, log_extra, **kwargs):\n"
        "    log_metric('step', trainer_state.global_step)\n"
        "    log_metric('of', trainer_state.max_steps)\n"
        "    log_extra('length', [len(text) for text in completions])\n"
        "    return [0.5 * trainer_state.global_step / trainer_state.max_steps] * len(completions)\n\n\n"
        "def of_the_run(completions, trainer_state):\n"
        "    return [trainer_state.global_step / 10 + trainer_state.max_steps] * len(completions)\n\n\n"
        "def wrong(completions, log_extra):\n"
        "    log_extra('length', [1])\n"
        "    return [0.5] * len(completions)\n"
    )
    words = [
        "--env",
        "rows.jsonl",
        "--reward",
        "./logs.py:logs",
        "--model",
        str(tiny_folder()),
        "--device",
        "cpu",
    ]
    words += "--max-steps 2 --prompts-per-step 4 --num-generations 4 --max-completion-length 8 --block-length 8".split()
    words += (
        "--diffusion-steps 4 --eval-problems 4 --eval-steps 0 --output-dir run --force --no-report".split()
    )
    assert main(words) == 0, capsys.readouterr().err
    steps = [row for row in rows(place / "run" / "metrics.jsonl") if "logged/step" in row]
    assert [(row["logged/step"], row["logged/of"]) for row in steps] == [(0.0, 2.0), (1.0, 2.0)]
    summary = json.loads((place / "run" / "summary.json").read_text())
    paid = [summary[f"eval_{when}"]["rewards"]["logs"] for when in ("before", "after")]
    assert paid == [0.0, 0.5]  # the steps that are done, of all
    (first, *_) = sorted((place / "run" / "samples").glob("*.jsonl"))
    assert all(row["logged"] == {"length": len(row["completion"])} for row in rows(first))
    with pytest.raises(EnvError, match=r"log_extra\('length'\) has 1 values for 2 completions"):
        scored(["a", "b"], reward="./logs.py:wrong")
    _, scores = scored(["a", "b"], reward="./logs.py:logs")
    assert scores.rewards["logs"].tolist() == [0.5, 0.5]
    _, scores = scored(["a"], reward="./logs.py:of_the_run")
    assert scores.rewards["of_the_run"].tolist() == [1.1], "both are 1 again once the run has ended"


def test_check_finds_a_function_that_returns_too_few_numbers(place, monkeypatch):
    """It is right for one completion, as the check asked before, and not for many, as a run asks."""
    check_only("junk", monkeypatch)
    (place / "mine.py").write_text(CODE.replace("return [1.0]", "return [0.0]"))
    found = {one.name: one for one in checking.check("rows.jsonl", reward="./mine.py:few")}
    assert not found["junk"].ok
    assert (
        "the reward function few must return a list of 3 numbers, one for each completion, and returned [0.0]"
        in found["junk"].figure
    )


def test_check_hints_at_a_reward_for_a_short_answer_anywhere(place, monkeypatch):
    check_only("junk", monkeypatch)
    found = {one.name: one for one in checking.check("rows.jsonl", reward="./mine.py:right+brevity")}
    assert not found["junk"].ok and "counts as solved by random bytes" in found["junk"].figure
    assert "solves 16 of 16 problems with answers of at most 2 characters" in found["junk"].figure
    found = {one.name: one for one in checking.check("rows.jsonl", verifier="gsm8k")}
    assert found["junk"].ok and "lists every letter" not in found["junk"].figure


def test_a_judge_that_ranks_a_group_passes_the_check(place, monkeypatch):
    monkeypatch.setattr(
        checking, "_CHECKS", {name: checking._CHECKS[name] for name in ("gymnasium", "junk", "components")}
    )
    (place / "ranks.py").write_text(
        "def ranks(completions, **kwargs):\n"
        "    longest = max(map(len, completions))\n"
        "    return [float(len(text) == longest) for text in completions]\n"
    )
    found = checking.check("rows.jsonl", reward="./ranks.py:ranks")
    assert all(one.ok for one in found)
    assert any("as by a judge that ranks a group" in one.figure for one in found if one.is_note)
    (place / "pays.py").write_text("def pays(completions, **kwargs):\n    return [1.0] * len(completions)\n")
    found = {one.name: one for one in checking.check("rows.jsonl", reward="./pays.py:pays")}
    assert not found["junk"].ok


def test_async_functions_are_awaited_side_by_side(place):
    _, scores = scored(["3", "4"], reward="./mine.py:first+second")
    assert scores.rewards["first"].tolist() == [3.0, 4.0]
    assert scores.rewards["second"].tolist() == [-3.0, -4.0]


def test_an_async_function_that_fails_costs_what_it_fails_for(place, monkeypatch):
    monkeypatch.setattr(envs.TextEnv, "score_timeout", 0.5)
    env = envs.make(str(place / "rows.jsonl"), reward="./mine.py:flaky")
    problems = [env.problem(index) for index in range(4)]
    batch = score_all(env, range(4), problems, ["1", "hang", "no number", "2"])
    assert batch.rewards["flaky"].tolist() == [1.0, 0.0, 0.0, 2.0]
    assert batch.reason == ["ok", "timeout", "error", "ok"]
    assert batch.traceback[0] is None
    assert "took more than score_timeout=0.5 seconds" in batch.traceback[1]
    assert "could not convert string to float" in batch.traceback[2]


def test_a_function_that_fails_once_costs_nothing(place, caplog):
    """A server that was busy for one batch, asked by a function that is not `async`."""
    (place / "mine.py").write_text(
        "asked = []\n"
        "def once(completions):\n"
        "    asked.append(len(completions))\n"
        "    if len(asked) == 1 or 'x' in completions:\n"
        "        raise RuntimeError('server down')\n"
        "    return [float(text) for text in completions]\n"
    )
    env = envs.make(str(place / "rows.jsonl"), reward="./mine.py:once")
    problems = [env.problem(index) for index in range(3)]
    batch = score_all(env, range(3), problems, ["1", "2", "3"])
    assert batch.rewards["once"].tolist() == [1.0, 2.0, 3.0] and batch.traceback == [None] * 3
    assert "server down" in caplog.text and "for 3 completions at once" in caplog.text
    assert "0 failed again" in caplog.text
    batch = score_all(env, range(3), problems, ["1", "x", "3"])
    assert batch.rewards["once"].tolist() == [1.0, 0.0, 3.0] and batch.reason == ["ok", "error", "ok"]
    caplog.clear()
    batch = score_all(env, range(1), problems[:1], ["x"])
    assert batch.reason == ["error"] and "server down" in batch.traceback[0] and not caplog.text


def test_a_time_limit_is_refused_where_no_function_can_be_stopped(place):
    for reward in ("./mine.py:brevity", "./mine.py:brevity+right"):
        with pytest.raises(EnvError, match=r"score_timeout=3: only `async` functions .* Write `async def`"):
            envs.make(str(place / "rows.jsonl"), reward=reward, score_timeout=3)


def test_a_function_that_hangs_is_named_while_it_is_awaited_and_its_batch_is_not_asked_again(
    place, monkeypatch, caplog
):
    monkeypatch.setattr(async_calls, "NOTICE", 0.2)
    env = envs.make(str(place / "rows.jsonl"), reward="./mine.py:brevity+hangs", score_timeout=1)
    problems = [env.problem(index) for index in range(4)]
    batch = score_all(env, range(4), problems, list("1234"))
    assert batch.reason == ["timeout"] * 4 and not batch.total.any()
    asked = env.functions["hangs"].__globals__["asked"]
    assert asked == [4], "once for the batch, not again for each of its four completions"
    assert "hangs raised TimeoutError: it took more than score_timeout=1 seconds" in batch.traceback[3]
    assert "for 4 completions at once" in batch.traceback[3] and "score_timeout=SECONDS" in batch.traceback[3]
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:2] == [
        f"--reward: still awaiting hangs (1 call) after {seconds} s; a call fails as timeout after 1 s."
        for seconds in (0.2, 0.4)
    ]


def test_what_a_function_raises_names_the_line_of_its_row(place, monkeypatch):
    check_only("junk", monkeypatch)
    (place / "mine.py").write_text(
        "def starts(completions, hint):\n"
        "    return [float(text.startswith(one)) for text, one in zip(completions, hint)]\n"
    )
    lines = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    (place / "hints.jsonl").write_text("".join(json.dumps({**line, "hint": None}) + "\n" for line in lines))
    found = {finding.name: finding for finding in check("hints.jsonl", reward="./mine.py:starts")}
    assert re.search(r"problem \d+ \(hints\.jsonl, line \d+\), for", found["junk"].figure)


def test_rows_to_correct_are_a_note_of_the_check_and_not_among_what_is_well(place, capsys):
    (place / "rows.jsonl").rename("twice.jsonl")  # what was read of a name is kept
    with open(place / "twice.jsonl", "a") as file:
        file.write(
            json.dumps({"prompt": "say 7", "answer": "8", "extra": "x", "solution": 8, "hint": "8"}) + "\n"
        )
    envs_main(["check", "twice.jsonl", "--reward", "./mine.py:right"])
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "different answers" in line]
    assert note.startswith("note   splits ") and note.endswith("Correct or remove these rows.")


def test_a_table_that_is_not_utf_8_is_refused_with_its_line(place):
    (place / "rows.csv").write_bytes("prompt,answer\nhow,1\ncafé,2\n".encode("latin-1"))
    with pytest.raises(envs.EnvError) as refused:
        envs.make("rows.csv", reward="./mine.py:brevity")
    reason = "past line 2 (line 3 is not UTF-8; save it as UTF-8)"
    assert str(refused.value) == f"{place / 'rows.csv'} cannot be read {reason}."


def test_a_function_gets_the_text_before_its_end_as_in_a_run(place, capsys):
    (place / "capitals.py").write_text(
        "def names(completions, answer, **kwargs):\n"
        "    return [1.0 if want in text else 0.0 for text, want in zip(completions, answer)]\n"
    )
    towns = [
        {"prompt": f"Where is {n}?", "answer": f"Town{n:03}", "demo": f"In Town{n:03}."} for n in range(60)
    ]
    (place / "towns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in towns))
    env = envs.make("towns.jsonl", reward="./capitals.py:names")
    texts = [f"In {env.problem(i).reference['answer']}" for i in range(3)]
    paid = score_all(
        env,
        range(3),
        [env.problem(i) for i in range(3)],
        [texts[0], f"{texts[1]}<|eot_id|>", f"<|eot_id|>{texts[2]}"],
    )
    assert paid.rewards["names"].tolist() == [1, 1, 0]
    line = "check towns.jsonl --reward ./capitals.py:names -n 20"
    assert envs_main([*line.split(), "--env-args", "demonstration=demo"]) == 0
    with_them = capsys.readouterr().out
    assert "FAILS" not in with_them and "note   components" not in with_them
    assert envs_main(line.split()) == 0
    (note,) = re.findall("^note   components .*$", capsys.readouterr().out, re.MULTILINE)
    assert "earned anything by correct or names" not in note and "earned anything by names" in note
    assert "demonstration=COLUMN" in note


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"demonstartion": "hint"}, 'demonstartion=hint is no argument. Did you mean "demonstration"?'),
        ({"validaton": "rows.jsonl"}, 'Did you mean "validation"?'),
        ({"tset": "rows.jsonl"}, 'Did you mean "test"?'),
        ({"hint": "nowhere"}, 'lacks "nowhere"'),
    ],
)
def test_an_argument_that_is_misspelt_is_no_column_for_keywords(place, arguments, said):
    with pytest.raises(EnvError) as told:
        envs.make("rows.jsonl", reward="./mine.py:everything", **arguments)
    assert said in str(told.value)
    env = envs.make("rows.jsonl", reward="./mine.py:everything", hint="hint", extra="solution")
    assert set(env.problem(0).reference) == {"hint", "extra"}
    with pytest.raises(EnvError, match=r'column="demonstartion" is unknown. Did you mean "demonstration"'):
        envs.make("rows.jsonl", reward="./mine.py:right", demonstartion="hint")


def test_a_reward_file_that_was_edited_is_loaded_anew(tmp_path):
    file = tmp_path / "edited_reward.py"
    for paid in (0.25, 0.75, 0.25):
        file.write_text(f"def r(completions, **kwargs):\n    return [{paid}] * len(completions)\n")
        assert load_functions(f"{file}:r")["r"](["a"]) == [paid]


DECORATED = """
import functools


def base(completions, **kwargs):
    return [0.25] * len(completions)


def scaled(function, factor):
    @functools.wraps(function)
    def run(completions, **kwargs):
        return [factor * reward for reward in function(completions, **kwargs)]

    return run


double = scaled(base, 2)
"""


def test_a_decorated_function_is_named_by_what_the_file_calls_it(tmp_path, monkeypatch):
    """And not by the function that it calls, whose name functools.wraps gives it."""
    (tmp_path / "decorated_rewards.py").write_text(DECORATED)
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"say {i}"}) + "\n" for i in range(40))
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("decorated_rewards")
    env = envs.make(str(tmp_path / "rows.jsonl"), reward=module.double)
    assert env.score_batch([env.problem(0)], ["x"]).rewards["double"].tolist() == [0.5]
    with pytest.raises(EnvError, match="base, as decorated, is found again by no name"):
        envs.make(str(tmp_path / "rows.jsonl"), reward=module.scaled(module.base, 3))
    findings = check(str(tmp_path / "rows.jsonl"), 20, reward=module.double)
    assert [finding.ok for finding in findings if finding.name == "purity"] == [True]


def test_a_class_is_checked_as_its_name_is():
    findings = check(envs.Countdown, 20, source="generated")
    assert [finding.ok for finding in findings if finding.name == "purity"] == [True]
