"""The `eval` command measures what its flags say, and keeps each completion that it has made."""

import json
import re
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import envs
import verifiers
from spg_trainer import Sampling, cli, evaluate, load_model
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.evaluation import command as eval_command
from spg_trainer.evaluation import evaluate as evaluation
from spg_trainer.evaluation.command import run_eval
from spg_trainer.evaluation.evaluate import Evaluation
from spg_trainer.rollout.player import Player
from spg_trainer.runs.folder import RunFolder
from spg_trainer.settings.configs import EvalCommand
from spg_trainer.settings.decoding import EvalSampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.resolve import resolve
from spg_trainer.training.loop import train
from tests.common.own_cases import forget
from tests.common.process_cases import run_processes
from tests.common.task_file import write_task
from tests.common.trainer_cases import change, rows, small_config, snapshot, tiny_folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvalCommand:
    """Three puzzles, two lengths."""
    monkeypatch.chdir(tmp_path)
    model = ModelConfig(model=str(tiny_folder()), device="cpu")
    sizes = {"max_completion_length": (8, 24), "block_length": 12, "diffusion_steps": ("length/4",)}
    return change(EvalCommand(num_problems=3, model=model), **sizes)


def test_every_length_is_evaluated_at_its_own_steps_and_leaves_no_files(command, tmp_path):
    before = snapshot(tiny_folder())
    every = [*run_eval(command, quiet=True), *run_eval(change(command, diffusion_steps=(4, 8)), quiet=True)]
    names = ("max_completion_length", "diffusion_steps", "block_length")
    sizes = [tuple(result.settings[name] for name in names) for result in every]
    assert sizes == [(8, 2, 8), (24, 6, 12), (8, 4, 8), (8, 8, 8), (24, 4, 12), (24, 8, 12)]
    for result, (length, *_) in zip(every, sizes, strict=True):
        assert result.settings["split"] == "test" and result.settings["temperature"] == 0
        assert [row["index"] for row in result.rows] == [0, 1, 2]
        assert all(len(row["reveal_step"]) == length and row["length"] <= length for row in result.rows)
    assert list(tmp_path.iterdir()) == [] and snapshot(tiny_folder()) == before


def test_the_command_samples_as_the_function_does(command):
    def texts(**changes: object) -> list[str]:
        sampled = change(command, max_completion_length=(12,), temperature=1.0, num_generations=2, **changes)
        return [row["completion"] for row in run_eval(sampled, quiet=True)[0].rows]

    first = texts()
    assert texts() == first != texts(seed=1)
    assert texts(num_problems=2) == first[:4], "the noise is keyed by problem and generation"
    env, sampling = envs.make("sudoku", split="test"), Sampling(12, 12, 3, 1.0)
    policy = load_model(command.model.model, device="cpu")
    one = evaluate(policy, env, sampling, num_generations=2, num_problems=3, rows_per_forward=1)
    assert [row["completion"] for row in one.rows] == first and first[0] != first[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_generations": 4}, r"--num-generations 4 .* --temperature 0.9"),
        ({"max_completion_length": (24, 25)}, "--block-length 12 .* --max-completion-length 25"),
        ({"env_args": {"split": "test"}}, r"--env-args split=test: use --split"),
        ({"block_length": 0}, "--block-length 0: should be at least 1"),
        ({"diffusion_steps": (4, 16)}, "--diffusion-steps 16 .* --diffusion-steps 8"),
        ({"env": "queens", "protocol": ("papers",)}, "papers: d1 and SPG evaluate gsm8k.*, not queens"),
        ({"output_dir": "file"}, "file/eval.* another --output-dir"),
    ],
)
def test_what_cannot_work_is_told_before_the_model_is_opened(command, tmp_path, changes, words):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises((ConfigError, CheckpointError, envs.EnvError), match=words):
        run_eval(change(command, model=ModelConfig(model="nobody/nothing"), **changes), quiet=True)


def test_settings_with_their_origins_are_judged_too():
    resolved = resolve(EvalCommand, "--env sudoku --num-generations 2 --temperature 0".split())
    with pytest.raises(ConfigError, match=r"--num-generations 2 .* --temperature 0.9"):
        run_eval(resolved, quiet=True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--cache dual", "Use --cache blocks"),
        ("--max-completion-length 8 6 --diffusion-steps 2", "--block-length 6 does not divide"),
    ],
)
def test_what_the_model_cannot_have_is_told_before_anything_is_written(tmp_path, capsys, flags, said):
    """Also what it cannot have for the second of two lengths."""
    place = tmp_path / "results"
    words = f"eval --env sudoku --model tiny:block --device cpu --num-problems 1 {flags}".split()
    assert cli.main([*words, "--output-dir", str(place)]) == 2
    assert said in capsys.readouterr().err and not [*place.glob("eval/*")]


def test_what_is_there_is_not_made_again_and_other_settings_are_refused(
    command, tmp_path, monkeypatch, capsys
):
    once = change(command, max_completion_length=(8,), output_dir="results")
    (first,), before = run_eval(once, quiet=True), snapshot(tmp_path)
    monkeypatch.setattr(Player, "play", lambda *_, **__: pytest.fail("made again"))
    (again,) = run_eval(once)
    assert again.summary() == first.summary() and snapshot(tmp_path) == before
    assert "(3 completions were there)" in capsys.readouterr().out
    other = shutil.copytree(tiny_folder(), "model")
    for changes, words in (
        ({"reward_weights": {"cells": 1.0}}, r"reward_weights\.cells was .*, now 1\.0"),
        ({"model": ModelConfig(model=str(other), device="cpu")}, "now 'model'"),
    ):
        with pytest.raises(ConfigError, match=f"8x2-p3.json .*{words}.* another --output-dir"):
            run_eval(change(once, **changes), quiet=True)
    assert before.items() <= snapshot(tmp_path).items()


@pytest.mark.parametrize("part", ["weights", "chat template", "tokenizer", "config"])
def test_results_of_a_model_made_anew_under_its_path_are_not_those_of_the_old_one(part, command, monkeypatch):
    # huggingface/lighteval#1364, EleutherAI/lm-evaluation-harness#4063: old figures were reported for new weights.
    model = Path(shutil.copytree(tiny_folder(), "model"))
    asked = change(command, model=ModelConfig(model="model", device="cpu"), max_completion_length=(8,))
    asked = change(asked, output_dir="results")
    run_eval(asked, quiet=True)
    for file in model.iterdir():  # a copy of equal content is the same model
        file.write_bytes(file.read_bytes())
    run_eval(asked, quiet=True)
    if part == "weights":
        tensors = {name: value + 0.1 for name, value in load_file(model / "model.safetensors").items()}
        save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    elif part == "chat template":
        (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}!{% endfor %}")
    else:
        name, change_of = ("config.json", {"rope_theta": 10.0})
        if part == "tokenizer":
            name, change_of = ("tokenizer_config.json", {"comment": "another"})
        (model / name).write_text(json.dumps({**json.loads((model / name).read_text()), **change_of}))
    with pytest.raises(ConfigError, match=r"was measured before the model changed.*another --output-dir"):
        run_eval(asked, quiet=True)
    run_eval(change(asked, output_dir="after"), quiet=True)


def test_another_order_has_a_name_of_its_own(command):
    asked = change(command, max_completion_length=(8,), output_dir="results", remasking="random")
    run_eval(asked, quiet=True)
    (file,) = Path("results/eval").glob("*.json")
    assert "-remasking-random" in file.name


def test_an_evaluation_that_was_killed_goes_on_where_it_was(command, tmp_path, monkeypatch):
    """Killed in its third batch of two problems, and its last line torn: that completion alone is made again."""
    monkeypatch.setattr(evaluation, "BATCH", 4)
    sampled = {"temperature": 1.0, "num_generations": 2, "num_problems": 7, "max_completion_length": (8,)}
    once = change(command, output_dir="results", **sampled)
    (whole,) = run_eval(change(once, output_dir="whole"), quiet=True)
    original, asked = Player.play, []

    def killed(player, env, begun, key):
        asked.append([*zip(begun.problem.tolist(), begun.generation.tolist(), strict=True)])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return original(player, env, begun, key)

    monkeypatch.setattr(Player, "play", killed)
    with pytest.raises(KeyboardInterrupt):
        run_eval(once, quiet=True)
    (part,) = (tmp_path / "results" / "eval").glob("*.jsonl")
    assert len(rows(part)) == 8 and "correct" not in json.loads(part.with_suffix(".json").read_text())
    part.write_text(part.read_text()[:-9])
    (resumed,) = run_eval(once, quiet=True)
    pairs = [(i, g) for i in range(7) for g in range(2)]
    assert asked == [pairs[:4], pairs[4:8], pairs[8:12], pairs[7:8], pairs[8:12], pairs[12:]]
    assert resumed.summary() == whole.summary()
    files = [snapshot(tmp_path / place / "eval") for place in ("results", "whole")]
    assert [*files[0].values()] == [*files[1].values()] and len(files[0]) == 2


@pytest.mark.slow
def test_two_processes_share_an_evaluation_and_write_it_once(command, tmp_path):
    words = (
        f"eval --env sudoku --num-problems 5 --device cpu --max-completion-length 8 --model {tiny_folder()}"
    )
    said = run_processes("spg_trainer", *words.split(), "--output-dir", str(tmp_path / "two"))
    assert cli.main([*words.split(), "--output-dir", str(tmp_path / "one")]) == 0
    files = [snapshot(tmp_path / place / "eval") for place in ("two", "one")]
    assert [*files[0].values()] == [*files[1].values()] and len(files[0]) == 2
    assert said[0].count("solved 0.") == 1 and said[1].strip() == ""


def test_the_papers_protocol_beside_ours(command, monkeypatch, capsys):
    """The tiny model has too few positions, so nothing is decoded."""
    asked = []

    def answered(player, env, **more):
        asked.append((env.problem(0).prompt, player.sampling, more["num_generations"]))
        right = [
            dict(puzzle=p, rewards={"paper_cells": r}) for p, r in (("1000", 1.0), ("1234", 0), ("1230", 0.0))
        ]
        return Evaluation(
            0.5, 3, 0, 1, {"paper_cells": 0.5}, 9, 0, 1, {}, {1: 0.5}, None, {}, {"num_generations": 1}, right
        )

    monkeypatch.setattr(eval_command, "evaluate_checked", answered)
    monkeypatch.setattr(eval_command, "problems_to_ask", lambda *_: ([0, 1, 2], 0))
    sampled = {"num_generations": 4, "temperature": 1.0, "diffusion_steps": (8,)}
    run_eval(change(command, protocol=("ours", "papers"), max_completion_length=(8,), **sampled))
    (plain, _, generations), *papers = asked
    assert plain.startswith("sudoku ") and generations == 4
    assert [sampling for _, sampling, _ in papers] == [
        EvalSampling(length, 32, length // 2, 0.0) for length in (128, 256, 512)
    ]
    assert all("Sudoku as 16 digits" in prompt and count == 1 for prompt, _, count in papers)
    assert "; cell accuracy 0.750" in capsys.readouterr().out, "3 of the 4 blanks, of whichever puzzle"


def test_flags_that_the_papers_protocol_decides_over_are_refused():
    asked = resolve(EvalCommand, env="sudoku", protocol=("papers",), temperature=1.0)
    with pytest.raises(ConfigError, match="decides over --temperature itself"):
        run_eval(asked)


def test_a_prompt_of_ones_own_stays_in_the_papers_protocol(command, tmp_path):
    (tmp_path / "prompt.txt").write_text("Solve {puzzle}\n---\n<reasoning>\n")
    own = {"prompt_style": str(tmp_path / "prompt.txt"), "reward_preset": "default"}
    papers = eval_command.settings_of_protocol(change(command, env_args=own), "papers")
    assert papers.env_args == {**own, "reward_preset": "paper"} and papers.rollout.block_length == 32
    papers = eval_command.settings_of_protocol(change(command, env_args={"prompt_style": "plain"}), "papers")
    assert papers.env_args["prompt_style"] == "instruct"


def test_a_prompt_that_has_changed_since_the_training_is_told(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("prompt.txt").write_text("Solve {puzzle}")
    digest = sha256(b"Solve {puzzle}").hexdigest()
    before = {f"{tmp_path}/prompt.txt": f"sha256 {digest}"}
    Path("model").mkdir()
    Path("model/environment.json").write_text(json.dumps({"env": "sudoku", "origin": before}))
    env = envs.make("sudoku", split="test", prompt_style="prompt.txt")
    assert eval_command.changed_files("model", env) == []
    Path("prompt.txt").write_text("Fill {puzzle}")
    env = envs.make("sudoku", split="test", prompt_style="prompt.txt")
    (said,) = eval_command.changed_files("model", env)
    assert said.startswith(
        f"prompt.txt is not the file of this name that model was trained with (sha256 {digest}, this one sha256 "
    )
    monkeypatch.setattr(eval_command, "changed_files", lambda model, env: ["a changed prompt"])
    assert len(run_eval(command)) == 2
    assert capsys.readouterr().out.count("a changed prompt") == 1


def test_a_file_of_which_a_hash_picks_the_test_problems_is_told(command, capsys):
    problems = [{"prompt": f"{i}", "answer": f"{i}"} for i in range(60)]
    Path("held.jsonl").write_text("\n".join(map(json.dumps, problems)))
    asked = change(command, env="held.jsonl", env_args={"verifier": "gsm8k"}, max_completion_length=(8,))
    (some,) = run_eval(change(asked, num_problems=60, output_dir="some"))
    assert some.n < 60 and f"is {some.n} of the 60 rows of held.jsonl" in " ".join(
        capsys.readouterr().out.split()
    )
    args = {"verifier": "gsm8k", "test": "held.jsonl"}
    (every,) = run_eval(change(asked, num_problems=60, env_args=args, output_dir="every"))
    assert every.n == 60 and "picked by a hash" not in capsys.readouterr().out


def test_other_rules_beside_ours(command, tmp_path, capsys):
    """The rate over the empty cells of all puzzles, computed again from the rows."""
    run_eval(change(command, rules=("ours", "d1"), max_completion_length=(24,), output_dir=str(tmp_path)))
    (path,) = (tmp_path / "eval").glob("*.json")
    facts, env = json.loads(path.read_text())["d1"], envs.make("sudoku", split="test")
    rows = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    right = [
        verifiers.verify(
            "sudoku",
            row["completion"],
            rules="d1",
            puzzle=row["puzzle"],
            solution=env.problem(row["index"]).metadata["solution"],
        ).score
        * row["puzzle"].count("0")
        for row in rows
    ]
    cells = sum(row["puzzle"].count("0") for row in rows)
    assert facts["n"] == 3 and facts["of"] == cells and facts["right"] == pytest.approx(sum(right))
    assert f"rules of d1: {facts['right']} of {cells} empty cells right" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"--rules d1: queens is none of the tasks"):
        run_eval(change(command, env="queens", rules=("d1",)), quiet=True)


class Mine(envs.TextEnv):
    reward_weights = {"correct": 1.0}  # noqa: RUF012
    task = "mine"

    def __init__(self, split="train"):
        self.part = split

    def __len__(self):
        return 8

    def problem(self, index):
        return envs.Problem(f"{self.part} {index}", {}, metadata={"index": index})

    def score(self, problem, completion):
        return envs.Score({"correct": float(letter in completion)}, "ok")  # noqa: F821


def write_mine(name: str = "Mine", file: Path | str = "./mine.py") -> str:
    """Writes a file whose task takes the letter that it looks for from wanted.py."""
    return write_task(file, Mine, id=f"test/{name}-v0", head="from wanted import letter\n")


def test_code_that_has_changed_since_a_training_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    forget(tmp_path.parent)  # another test's `wanted`
    mine = write_mine("Told")
    Path("wanted.py").write_text("letter = 'e'\n")
    train(small_config("run", env=mine, env_args={}, max_steps=1), quiet=True)
    words = ["eval", "--device", "cpu", "--num-problems", "4", "--model", "run"]
    assert cli.main(words) == 0 and "has changed since run was" not in capsys.readouterr().err
    Path("wanted.py").write_text("letter = 'a'\n")
    forget(tmp_path)
    assert cli.main([*words, "--output-dir", "other"]) == 0
    captured = capsys.readouterr()
    said = " ".join((captured.out + captured.err).split())
    assert "wanted.py has changed since run was trained with it. It is run as it is now" in said
    # The task that the model's record names is read from the run's copy once its own file is another.
    Path("mine.py").write_text(Path("mine.py").read_text() + "# edited\n")
    forget(tmp_path)
    assert cli.main([*words, "--output-dir", "third"]) == 0
    captured = capsys.readouterr()
    said = " ".join((captured.out + captured.err).split())
    assert f"{tmp_path}/mine.py has changed since run was trained with it. The run's own copy is run" in said
    assert f"To measure with the file as it is now: --env {tmp_path}/mine.py" in said


@pytest.mark.slow
def test_a_moved_run_is_evaluated_with_its_own_environment_file(tmp_path, monkeypatch, capsys):
    start = tmp_path / "start"
    start.mkdir()
    monkeypatch.chdir(start)
    monkeypatch.setattr(sys, "path", [*sys.path])
    mine = write_mine()
    Path("wanted.py").write_text("letter = 'e'\n")
    summary = train(small_config("run", env=mine, env_args={}, max_steps=1), quiet=True)
    shutil.move("run", tmp_path / "moved")
    shutil.rmtree(start)
    start.mkdir()
    monkeypatch.chdir(start)
    words = ["eval", "--device", "cpu", "--num-problems", "4", "--model"]
    models = [str(tmp_path / place) for place in ("moved", "moved/model", "moved/checkpoints/step-000001")]
    forget(tmp_path)
    assert [cli.main([*words, model]) for model in models] == [0, 0, 0]
    file = tmp_path / "moved" / "eval" / "mine-test-10x6-b5-p4-step1.json"
    assert json.loads(file.read_text())["correct"] == summary["eval_after"]["correct"]
    assert json.loads(file.read_text())["step"] == 1 and not [*start.iterdir()]
    assert capsys.readouterr().out.count("(4 completions were there)") == 2, "one model, wherever it lies"
    RunFolder(tmp_path / "moved").truncate_after(0)
    aside = file.parent / "superseded" / file.name
    assert aside.is_file() and not file.exists(), "what is trained anew from an earlier step is measured anew"


@pytest.mark.parametrize("file", [pytest.param("mine.py", marks=pytest.mark.slow), "wanted.py", "pay.py"])
def test_own_code_that_has_changed_is_not_measured_by_what_it_was(file, command, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    forget(tmp_path.parent)  # another test's `wanted`
    mine = write_mine("Changing")
    Path("wanted.py").write_text("letter = 'e'\n")
    Path("pay.py").write_text("def length(completions, **_): return [float(len(c)) for c in completions]\n")
    Path("rows.jsonl").write_text("".join(json.dumps({"prompt": f"say {i}"}) + "\n" for i in range(40)))
    lengths = {"max_completion_length": (8,), "num_problems": 2}
    task = {"env": "rows.jsonl", "env_args": {"reward": "./pay.py:length"}}
    if file != "pay.py":
        task = {"env": mine, "env_args": {}}
    asked = change(command, **task, **lengths, output_dir=f"before-{file}")
    run_eval(asked, quiet=True)
    run_eval(asked, quiet=True)
    Path(file).write_text(Path(file).read_text() + "# another\n")
    forget(tmp_path)
    with pytest.raises(ConfigError, match=rf"was measured before {file} changed.*another --output-dir"):
        run_eval(asked, quiet=True)
    run_eval(change(asked, output_dir=f"after-{file}"), quiet=True)


def test_an_edit_between_two_protocols_of_a_command_waits_for_the_next_command(command, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    forget(Path.cwd().parent)  # another test's `wanted`
    file, make_env = Path("twice.py"), eval_command.make_env
    write_mine("Twice", file)
    text = file.read_text()
    Path("wanted.py").write_text("letter = 'e'\n")

    def make_and_edit(*asked):
        env = make_env(*asked)
        file.write_text(text + "# another\n")
        return env

    def loaded():
        return sum(name.startswith("twice_") for name in sys.modules)

    monkeypatch.setattr(eval_command, "make_env", make_and_edit)
    monkeypatch.setattr(eval_command, "settings_of_protocol", lambda command, protocol: command)
    asked = change(command, env="./twice.py:test/Twice-v0", max_completion_length=(8,), num_problems=2)
    run_eval(change(asked, protocol=("ours", "papers")), quiet=True)
    assert loaded() == 1
    run_eval(asked, quiet=True)
    assert loaded() == 2


def test_a_merged_model_is_measured_for_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(small_config("run", lora_r=2, max_steps=1), quiet=True)
    assert cli.main(["merge", "run"]) == 0
    words = ["eval", "--device", "cpu", "--num-problems", "2", "--model"]
    assert [cli.main([*words, model]) for model in ("run", "run/merged", "run/merged")] == [0, 0, 0]
    files = sorted(path.stem for path in Path("run/eval").glob("*step1*.json"))
    assert len(files) == 2 and files[1] == f"{files[0]}-merged"
    assert capsys.readouterr().out.count("(2 completions were there)") == 1


def test_the_command_line_shows_a_line_per_length_and_writes_where_it_is_told(command, capsys, monkeypatch):
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    words = "eval --env sudoku --env-args prompt_style=plain --num-problems=2 --max-completion-length 8 24"
    words += f" --block-length 8 --device cpu --output-dir out --model {tiny_folder()}"
    assert cli.main(words.split()) == 0
    out = capsys.readouterr().out
    for length in (8, 24):
        assert re.search(
            rf"sudoku test, {length} tokens in \d+ steps: solved 0.000 \[0.000, 0.658\] of 2;", out
        )
        assert f"Written: out/eval/sudoku-test-{length}x" in out
    assert "format 0.000" in out and "no end " in out
