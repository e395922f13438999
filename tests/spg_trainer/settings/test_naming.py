"""The same mistake by both doors: the command line is told flags, Python is told keywords; so is `help`."""

import ast
import pydoc
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from inspect import getsource
from types import ModuleType

import pytest

from spg_trainer import Config, EvalSampling, Sampling, cli, evaluate, load_model, train
from spg_trainer.algorithms import base, build, checking, registry
from spg_trainer.errors import SETTINGS, ConfigError, SpgError, in_flags, in_keywords, written
from spg_trainer.settings import check as checks
from spg_trainer.settings import decoding, ranges
from spg_trainer.settings.check import check, check_algorithm, check_chance
from spg_trainer.settings.explained import docstrings, summary
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.results import EvalConfig, OutputConfig
from spg_trainer.settings.updates import BatchConfig, OptimizerConfig


@pytest.mark.parametrize(
    ("message", "flags", "keywords"),
    [
        ("$block_length=0: should", "--block-length 0: should", "block_length=0: should"),
        ("Set $lora_r, e.g. 64.", "Set --lora-r, e.g. 64.", "Set lora_r, e.g. 64."),
        ("Add $pools.", "Add --pools.", "Add pools=True."),
        (
            "Use $algorithm_args beta=0.04 num_masks=2.",
            "Use --algorithm-args beta=0.04 num_masks=2.",
            "Use algorithm_args={'beta': 0.04, 'num_masks': 2}.",
        ),
        (
            "$algorithm_args note='2, a=1': no",
            "--algorithm-args note='2, a=1': no",
            "algorithm_args={'note': '2, a=1'}: no",
        ),
        ("$mix right=1: no", "--mix right=1: no", "mix={'right': 1}: no"),
        (
            "the rows cost $x$ and $total=5",
            "the rows cost $x$ and $total=5",
            "the rows cost $x$ and $total=5",
        ),
        (
            "$env_args prompt=a,b,c columns=f(x): no ($mix right=1).",
            "--env-args prompt=a,b,c columns=f(x): no (--mix right=1).",
            "env_args={'prompt': 'a,b,c', 'columns': 'f(x)'}: no (mix={'right': 1}).",
        ),
        (
            "$model='$model/a $seed': rows' '$env' is no \"$seed\", as $model=$model or data/$seed",
            "--model '$model/a $seed': rows' '$env' is no \"$seed\", as --model $model or data/$seed",
            "model='$model/a $seed': rows' '$env' is no \"$seed\", as model=$model or data/$seed",
        ),
        ("`torchrun --nproc-per-node 8`", "`torchrun --nproc-per-node 8`", "`torchrun --nproc-per-node 8`"),
    ],
)
def test_a_message_names_settings_as_its_reader_types_them(message: str, flags: str, keywords: str) -> None:
    assert (in_flags(message), in_keywords(message)) == (flags, keywords)


def from_python(line: str) -> str:
    """What Python is told of the settings that a command line would type."""
    with pytest.raises(SpgError) as refused:
        config = resolve(Config, shlex.split(line)).config
        check(config)
        algorithm = build(config.algorithm, config.hyper_parameters)
        check_algorithm(config, algorithm)
        check_chance(config.rollout, config.batch.num_generations, algorithm, config.algorithm)
    return str(refused.value)


LINES = [
    ("--prompts-per-step 0", "prompts_per_step=0: should be at least 1"),
    ("--learning-rate 2", "learning_rate=2.0: should be above 0"),
    ("--block-length 7", "block_length=7 does not divide max_completion_length=20"),
    ("--top-p 0", "top_p=0.0: should be above 0"),
    ("--patience 3 --eval-steps 0", "patience=3 counts validations. Set eval_steps, e.g. 20, or patience=0."),
    ("--all-right-weight 0.5", "all_right_weight=0.5 says nothing without pools=True. Add pools=True."),
    ("--env-args split=test", "env_args={'split': 'test'}: use split or eval_split instead."),
    ("--device gpu", "device='gpu': there is no such device."),
    ("--ref-copy", "ref_copy=True: algorithm=spg asks for no reference."),
    ("--learning-rate a", "learning_rate='a': expected a number"),
    ("--lr-schedule cosinus", "lr_schedule='cosinus': expected one of"),
    ("--max-steps 2.5", "max_steps='2.5': expected a whole"),
    ("--temperature 0", "temperature=0: decoding without chance"),
    ("--temperature 0 --algorithm-args elbo_bonus=0.05", "whose equal rewards teach algorithm=spg nothing."),
    ("--algorithm grpoo", "algorithm=grpoo: no such algorithm."),
    ("--algorithm-args num_masks=0", "algorithm_args={'num_masks': 0}: should be at least 1"),
]


@pytest.mark.parametrize(("line", "said"), LINES)
def test_a_mistake_is_told_in_keywords_to_python_and_in_flags_to_the_command_line(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"--env sudoku {line}"
    python = from_python(line)
    assert said in python and "--" not in python.replace("`python -m", "")
    assert cli.main([*shlex.split(line), "--dry-run"]) == 2
    message = capsys.readouterr().err
    name, value = shlex.split(line)[2], shlex.split(line)[-1]
    assert name in message and "$" not in message
    assert f"{name.removeprefix('--').replace('-', '_')}={value}" not in message


@pytest.mark.parametrize(
    ("mistake", "said", "flags"),
    [
        (
            lambda: Sampling(32, 0, 16).check(),
            "block_length=0: should be at least 1",
            "--block-length 0: should",
        ),
        (
            lambda: Sampling(32, 5, 16).check(),
            "Use block_length=4 or max_completion_length=35.",
            "Use --block-length 4 or --max-completion-length 35.",
        ),
        (
            lambda: evaluate(load_model("tiny"), num_generations=0),
            "num_generations=0: should be at least 1.",
            "--num-generations 0: should be at least 1.",
        ),
        (
            lambda: train(replace(Config(), max_steps=-1)),
            "max_steps=-1: should be 0 or more.",
            "--max-steps -1: should be 0 or more.",
        ),
    ],
)
def test_an_error_of_the_library_has_both_forms(mistake: Callable[[], object], said: str, flags: str) -> None:
    with pytest.raises(ConfigError) as refused:
        mistake()
    assert said in str(refused.value)
    assert flags in in_flags(written(refused.value))


@pytest.mark.parametrize("module", [base, registry, checking, checks, decoding, ranges])
def test_no_message_of_a_check_types_a_flag_itself(module: ModuleType) -> None:
    """A flag of ours in a check would reach Python; one of another program, such as torchrun, is no setting."""
    tree = ast.parse(getsource(module))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    typed = {flag.replace("-", "_") for text in texts for flag in re.findall(r"--([a-z][a-z-]*[a-z])", text)}
    assert not typed & SETTINGS.keys()


@pytest.mark.parametrize(
    "cls",
    [Config, Sampling, EvalSampling, ModelConfig, BatchConfig, OptimizerConfig, EvalConfig, OutputConfig],
)
def test_help_says_of_each_setting_what_it_means_with_type_range_and_default(cls: type) -> None:
    text = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    listed = text.partition("Settings:\n")[2]
    for field in fields(cls):
        (entry,) = re.findall(rf"^ \|    {field.name}: (.+)\n \|        (\w.+)", listed, flags=re.M)
        assert len(entry[1]) > 20, field.name
    flags = set(re.findall(r"--([a-z][a-z-]*[a-z])", listed.partition("Method resolution")[0]))
    assert not {flag.replace("-", "_") for flag in flags} & SETTINGS.keys()
    signature = text.splitlines()[3]
    assert f"{cls.__name__}(" in signature and "Annotated" not in signature


def test_help_of_a_number_has_its_range_and_default() -> None:
    assert "  top_k: int = 0 (0 or more)\n      The number of most probable tokens" in Sampling.__doc__
    assert "  temperature: float = 0.0 (from 0 to 100)\n" in Sampling.__doc__
    assert "  batch: BatchConfig\n      The size of a step" in Config.__doc__
    assert "num_iterations updates" in Config.__doc__.replace("\n      ", " ")


def test_a_class_of_ones_own_inherits_the_texts() -> None:
    @dataclass(frozen=True)
    class Mine(Sampling):
        """Mine."""

        note: str = ""

    assert Mine.__doc__ == "Mine." and summary(Sampling).startswith("How completions are sampled.")
    assert docstrings(Mine)["top_k"] == docstrings(Sampling)["top_k"]
