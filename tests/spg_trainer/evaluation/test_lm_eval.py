"""lm-evaluation-harness, where it is installed, measures with our sampler what `evaluate` measures."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import envs
from spg_trainer import cli, evaluate, load_model
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.tokens import decode_completions, encode_texts
from tests.common import field_reports
from tests.common.canvases import FOLDER, SIZE
from tests.common.field_reports import cases

PROBLEMS = 64
TASK = """
task: own_sudoku
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/puzzles.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{solution}}}}"
process_results: !function judge.process_results
generation_kwargs: {{until: ["\\n\\n"]}}
metric_list: [{{metric: correct, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""
JUDGE = """
import verifiers


def process_results(doc, results):
    return {"correct": float(verifiers.verify("sudoku", results[0], puzzle=doc["puzzle"]).correct)}
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder with the first test puzzles as a task of lm-eval."""
    env = envs.make("sudoku", split="test")
    problems = [env.problem(index) for index in range(PROBLEMS)]
    lines = [json.dumps({"prompt": p.prompt, **p.reference, **p.metadata}) for p in problems]
    (tmp_path / "puzzles.jsonl").write_text("\n".join(lines))
    (tmp_path / "own_sudoku.yaml").write_text(TASK.format(folder=tmp_path))
    (tmp_path / "judge.py").write_text(JUDGE)
    return tmp_path


@pytest.fixture
def model():
    pytest.importorskip("lm_eval")
    from spg_trainer.evaluation.lm_eval import SpgLLaDA

    return SpgLLaDA("tiny", device="cpu")


def requests(model, prompts: list[str], **kwargs: object) -> list[SimpleNamespace]:
    """What lm-eval hands over for some user messages."""
    asked = [model.apply_chat_template([{"role": "user", "content": prompt}]) for prompt in prompts]
    return [SimpleNamespace(args=(text, kwargs), doc_id=i, task_name="own") for i, text in enumerate(asked)]


@pytest.mark.slow
def test_the_figure_and_the_texts_are_those_of_evaluate(task, model):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    found = simple_evaluate(
        model=model,
        tasks=["own_sudoku"],
        task_manager=TaskManager(include_path=str(task), include_defaults=False),
        apply_chat_template=True,
        log_samples=True,
        bootstrap_iters=0,
    )
    ours = evaluate(load_model("tiny", device="cpu"), "sudoku", num_problems=PROBLEMS)
    assert 0 < ours.correct < 1
    assert found["results"]["own_sudoku"]["correct,none"] == ours.correct
    samples = sorted(found["samples"]["own_sudoku"], key=lambda sample: sample["doc_id"])
    assert [sample["resps"][0][0] for sample in samples] == [row["completion"] for row in ours.rows]


def test_lengths_come_from_the_environment_then_from_the_arguments(model):
    from spg_trainer.evaluation.lm_eval import SpgLLaDA

    def lengths(model: SpgLLaDA) -> tuple[int, int, int]:
        s = model.sampling
        return s.max_completion_length, s.block_length, s.diffusion_steps

    assert lengths(model) == (20, 20, 20)
    assert lengths(SpgLLaDA("tiny", device="cpu", max_completion_length=40)) == (40, 20, 40)
    assert lengths(SpgLLaDA("tiny", device="cpu", block_length=10, diffusion_steps=4)) == (20, 10, 4)
    with pytest.raises(ConfigError, match="max_gen"):
        SpgLLaDA("tiny", max_gen=12)


def test_a_model_that_writes_canvases_is_decoded_as_it_says(model):
    """Completions are those of a rollout with the same keys; a log-likelihood is refused."""
    from spg_trainer.evaluation.lm_eval import SpgLLaDA

    redrawing = SpgLLaDA(str(FOLDER), device="cpu", max_completion_length=2 * SIZE)
    s = redrawing.sampling
    assert (s.unmasking, s.block_length, s.diffusion_steps) == ("entropy_bound", SIZE, 12)
    asked = [SimpleNamespace(args=("Hello", {}), doc_id=i, task_name="own") for i in range(2)]
    found = redrawing.generate_until(asked, disable_tqdm=True)
    prompts = encode_texts(redrawing.policy, ["Hello"] * 2)
    rows = Player(redrawing.policy, s, 0).sample(prompts, [("eval", 0, 0), ("eval", 1, 0)])
    assert found == decode_completions(redrawing.policy, rows) and found[0] != found[1]
    with pytest.raises(
        ConfigError, match=r"hide a token by \[MASK\], and this one hides it by a random token"
    ):
        redrawing.loglikelihood([SimpleNamespace(args=("a", "b"))], disable_tqdm=True)


def test_repeats_and_seeds_have_noise_of_their_own(model):
    (request,) = requests(model, [envs.make("sudoku", split="test").problem(0).prompt], temperature=3.0)
    first, second = model.generate_until([request, request], disable_tqdm=True)
    assert first != second
    assert model.generate_until([request], disable_tqdm=True) == [first]
    model.seed = 1
    assert model.generate_until([request], disable_tqdm=True) != [first]


def test_prompts_that_are_too_long_are_named_or_answered_with_nothing(model, caplog):
    from spg_trainer.evaluation.lm_eval import SpgLLaDA

    prompt = envs.make("sudoku", split="test").problem(0).prompt
    asked = requests(model, [prompt, "7" * 3000, prompt])
    with pytest.raises(
        ConfigError,
        match=r"1 of 3 contexts .* own, document 1 \(3,\d+ tokens\).* overlong=skip to --model_args",
    ):
        model.generate_until(asked, disable_tqdm=True)
    skipping = SpgLLaDA("tiny", device="cpu", overlong="skip")
    first, skipped, third = skipping.generate_until(asked, disable_tqdm=True)
    assert first == third != "" and skipped == "" and "counts as wrong" in caplog.text
    with pytest.raises(ConfigError, match="overlong=cut"):
        SpgLLaDA("tiny", device="cpu", overlong="cut")


def test_without_the_package_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("spg_trainer.cli.find_spec", lambda name: None)
    install = "pip install 'lm-eval>=0.4.13,<0.5' 'pytablewriter>=1.2' requests"
    assert cli.main(["lm-eval", "run", "--tasks", "gsm8k"]) == 2
    assert install in capsys.readouterr().err
    assert cli.main(["lm-eval", "--help"]) == 0
    assert install in capsys.readouterr().out


LIKELIHOOD = """
task: own_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/puzzles.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_target: 0
doc_to_choice: ["12", "34"]
metric_list: [{{metric: acc}}]
"""


@pytest.mark.parametrize(("given", "right"), cases(field_reports.DEVICES))
def test_a_reported_command_takes_a_device_that_is_there(monkeypatch, given, right):
    main = pytest.importorskip("lm_eval.__main__")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(main, "cli_evaluate", lambda: None)
    cli.main(["lm-eval", "run", *given])
    assert sys.argv[sys.argv.index("--device") :] == right


@pytest.mark.slow  # the harness's own start takes ten seconds
def test_the_documented_command_needs_no_gpu_and_takes_both_kinds_of_task(task, monkeypatch, capsys):
    """A task that generates and one that ranks choices, in one command, without a device named."""
    pytest.importorskip("lm_eval")
    monkeypatch.setattr(sys, "argv", sys.argv)
    (task / "own_choice.yaml").write_text(LIKELIHOOD.format(folder=task))
    words = "--model spg_llada --model_args pretrained=tiny --tasks own_sudoku,own_choice --limit 4"
    words += f" --include_path {task}"
    cli.main(["lm-eval", "run", *words.split()])
    shown = capsys.readouterr().out
    assert "own_sudoku" in shown and "own_choice" in shown and "acc" in shown
