"""The tables of recipes and the commands in docs/published.md say what the recipes hold, and what the parser takes."""

import re
import shlex
from dataclasses import asdict
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from spg_trainer.algorithms import ALGORITHMS, build
from spg_trainer.evaluation.command import settings_of_protocol
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.resolve import defaults, resolve
from spg_trainer.settings.types import flatten, plain

PAGE = Path(__file__).parents[3] / "docs" / "published.md"
OTHER_TASKS = ("math500", "countdown", "sudoku", "code")
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the pages stand in the repository only")


@cache
def tables() -> Any:
    """The command that writes the tables."""
    spec = spec_from_file_location("published_tables", PAGE.with_name("published_tables.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return re.split(r"^##+ ", text.partition(f"# {title}\n")[2], maxsplit=1, flags=re.M)[0]


def table(title: str) -> list[list[str]]:
    """The cells of the rows of the table below a heading."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def shown(title: str) -> dict[str, list[str]]:
    """Algorithm -> the other cells of its row, in a table that has one for each."""
    return {cells[0].strip("`"): cells[1:] for cells in table(title)}


def pairs(cell: str) -> dict[str, str]:
    """`name` value, ... by name."""
    return dict(re.findall(r"`(\w+)` ([^,]+)", cell))


def written(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value).lower()


def settings(name: str, task: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a training has, by name without its part, and the hyper-parameters of the algorithm."""
    config = defaults(Config, env=task, model="GSAI-ML/LLaDA-8B-Instruct", algorithm=name)
    of_others = ("env", "algorithm_args", "eval.", "output.")
    own = {key: value for key, value in flatten(plain(config)).items() if not key.startswith(of_others)}
    if not config.model.lora_r:  # all weights are trained
        del own["model.lora_targets"]
    return {key.rpartition(".")[2]: value for key, value in own.items()}, asdict(
        build(name, config.hyper_parameters)
    )


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_recipe_is_in_the_table_as_it_is(name: str) -> None:
    config = defaults(Config, env="gsm8k", model="GSAI-ML/LLaDA-8B-Instruct", algorithm=name)
    o, r, b, m = config.optimizer, config.rollout, config.batch, config.model
    cells = shown("Training on GSM8K")[name]
    rate, decay, trained, temperature, lengths, size, updates, steps, source, _ = cells
    words = temperature.replace(",", "").split()
    schedule = rate.split()[1] if "," in rate else "constant"
    assert (float(rate.split(",")[0]), schedule) == (o.learning_rate, o.lr_schedule)
    assert (f"to {o.lr_floor:g}" in rate) == (o.lr_floor > 0)
    assert [float(cell) for cell in decay.split(",")] == [o.weight_decay, o.adam_beta2, o.max_grad_norm]
    layers = ", ".join(m.lora_targets).replace("_proj", "")
    weights = f"LoRA {m.lora_r}/{m.lora_alpha or m.lora_r // 2} on {layers}" if m.lora_r else "all"
    assert trained == weights + ", `--ref-copy`" * m.ref_copy
    law = ["top-p", f"{r.top_p:g}"] * (r.top_p < 1) + ["top-k", str(r.top_k)] * (r.top_k > 0)
    law += [r.remasking] * (r.remasking != "low_confidence")
    assert (float(words[0]), words[1:]) == (r.temperature, law)
    assert lengths == f"{r.max_completion_length}/{r.diffusion_steps}/{r.block_length}"
    assert size == f"{b.prompts_per_step} x {b.num_generations}"
    assert (int(updates), int(steps)) == (b.num_iterations * b.num_minibatches, config.max_steps)
    assert source


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_setting_of_an_algorithm_is_in_the_table_as_it_is(name: str) -> None:
    training, algorithm = settings(name, "gsm8k")
    masks, advantage, epsilon, beta, others, warm_up, source = shown("Algorithm settings on GSM8K")[name]
    said = dict(zip(("masking", "num_masks", "p_mask_prompt"), masks.split(", "), strict=True))
    said |= {"advantage": advantage, "epsilon": epsilon, "beta": beta}
    said = {key: value for key, value in said.items() if value != "-"} | pairs(others)
    assert algorithm.pop("block_length") == training["block_length"]
    quiet = {
        "score_tail": False,
        "epsilon_high": None,
        "sharpness": 1.5,
        "elbo_bonus": 0.0,
        "score_temperature": 1.0,
        "edit_noise": 0.0,
        "edit_weight": 1.0,
    }
    quiet["end_tokens"] = "any"
    assert said == {
        key: written(value) for key, value in algorithm.items() if (key, value) not in quiet.items()
    }
    assert int(warm_up.split()[0]) == training["warmup_steps"]
    assert re.fullmatch(r"\d+ \((\de-\d|none|not known|ours)\)", warm_up) and source


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_what_differs_on_other_tasks_is_in_the_table(task: str) -> None:
    rows = [cells for cells in table("Other tasks") if cells[0] == f"`{task}`"]
    assert {cells[0].strip("`") for cells in table("Other tasks")} == {*OTHER_TASKS}
    assert all(source for *_, source in rows)
    by_name = {name: cells[2] for cells in rows for name in re.findall(r"`(\w+)`", cells[1])}
    (others,) = (cells[2] for cells in rows if cells[1] == "others")
    assert by_name.keys() <= ALGORITHMS.keys()
    for name in ALGORITHMS:
        before, now = ({**training, **own} for training, own in (settings(name, t) for t in ("gsm8k", task)))
        differs = {key: written(value) for key, value in now.items() if value != before[key]}
        assert pairs(by_name.get(name, others)) == differs, name


def test_the_tables_are_what_the_command_makes_of_the_recipes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    made = tables().with_tables(text)
    assert made == text, "run `python docs/published_tables.py`"
    assert made.count("<!-- table: ") == len(tables().TABLES)


def test_every_setting_of_which_a_source_has_another_value_is_shown() -> None:
    ours = {"lora_dropout": 0.0, "load_4bit": False, "learning_rate": 3e-6, "num_generations": 6}
    shown = tables().differences
    states = {"lora_dropout": 0.05, "load_4bit": True, "learning_rate": [3e-6, 5e-6], "num_generations": 6}
    assert shown(states, ours) == ["`lora_dropout` 0.05", "`load_4bit` true", "`learning_rate` 5e-06"]
    assert shown({"num_generations": 4}, ours) == ["`num_generations` 4"]
    assert shown(ours, ours) == []
    with pytest.raises(ValueError, match="lora_dropuot: no such setting"):
        shown({"lora_dropuot": 0.05}, ours)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wd1", "Differs: `lora_dropout` 0.05; `load_4bit` true. Not known: steps."),
        ("cj_grpo", "`lora_dropout` 0.05"),  # its code loads the base unrounded
        ("unigrpo", "`lora_r` 0; `learning_rate` 5e-05"),
        ("agrpo", "Differs: the head has an adapter, too."),
        ("justgrpo", ""),
    ],
)
def test_what_differs_from_a_source(name: str, said: str) -> None:
    (*_, differences) = shown("Training on GSM8K")[name]
    assert said in differences and bool(said) == bool(differences)
    assert "load_4bit" not in differences or name != "cj_grpo"


def test_every_algorithm_is_of_one_system_with_commands() -> None:
    facts = tables().FACTS
    named = [name for system in facts["systems"] for name in system["algorithms"]]
    assert sorted(named) == sorted(ALGORITHMS) and facts["algorithms"].keys() == ALGORITHMS.keys()
    assert {system["commands"] for system in facts["systems"]} == facts["commands"].keys()


def test_the_commands_that_train_as_published_are_accepted() -> None:
    block = re.search(r"^```\n(.*?)^```", section("Train as published"), flags=re.S | re.M)[1]
    lines = [line for line in block.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    assert len(lines) >= 29
    trained = set()
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "spg_trainer"]
        config = resolve(Config, words[3:]).config
        trained.add(config.algorithm)
        assert config.model.model == "GSAI-ML/LLaDA-8B-Instruct"
    assert {"spg", "diffu_grpo", "espo", "agrpo", "justgrpo", "stabledrl"} <= trained


def test_every_table_of_a_paper_has_commands_that_are_accepted() -> None:
    of_table = [cells[0] for cells in table("Table by table")]
    named, commands = set[str](), list[str]()
    block = re.search(r"^```\n(.*?)^```", section("A command for each table"), flags=re.S | re.M)[1]
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("# "):
            named |= {*line.removeprefix("# ").split("; ")}
        else:
            commands.append(line)
    assert named == {*of_table} and len(commands) >= len(of_table)
    for line in commands:
        words = shlex.split(line.replace("MODEL", "GSAI-ML/LLaDA-8B-Instruct"))
        assert words[:4] == ["python", "-m", "spg_trainer", "eval"]
        command = resolve(EvalCommand, words[4:]).config
        check(command)
        (protocol,) = command.protocol
        chosen = settings_of_protocol(command, protocol).rollout.samplings()
        assert all(sampling.block_length == 32 and sampling.temperature == 0 for sampling in chosen), line


def test_where_sources_differ_by_task() -> None:
    """Temperatures and lengths on Sudoku and Countdown, which the task's own recipe must not decide."""

    def rollout(name: str, task: str):
        config = defaults(Config, env=task, model="GSAI-ML/LLaDA-8B-Instruct", algorithm=name)
        return config.rollout.temperature, config.rollout.max_completion_length, config.max_steps

    assert [
        rollout(name, "sudoku")[0] for name in ("diffu_grpo", "diffu_grpo_repro", "wd1", "wd1_repro")
    ] == [0.9] * 4
    assert rollout("stabledrl", "sudoku") == (0.9, 256, 1000)
    assert rollout("d2_stepmerge", "sudoku")[:2] == (0.3, 128)
    assert [rollout("bgpo", task)[::2] for task in ("math500", "sudoku", "countdown")] == [
        (0.6, 700),
        (0.6, 400),
        (0.6, 560),
    ]
    assert rollout("agrpo", "sudoku")[0] == 0.6
