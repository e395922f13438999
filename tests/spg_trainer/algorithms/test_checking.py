"""`algorithms check` passes what is sound, and finds each way in which a loss can break its contract."""

import re
import sys
from pathlib import Path

import pytest

from spg_trainer.algorithms import ALGORITHMS, build, get
from spg_trainer.checking.cases import CheckFailed
from spg_trainer.checking.checks import CHECKS, check_algorithm, is_pure, refuse_unsound
from spg_trainer.cli import main
from spg_trainer.errors import ConfigError
from spg_trainer.training.loop import train
from tests.common.marks import slow_if
from tests.common.trainer_cases import small_config

HEAD = """
from dataclasses import dataclass
from typing import ClassVar
import torch
from spg_trainer.algorithms import Algorithm, Loss
from spg_trainer.likelihood.bounds import elbo

@dataclass(frozen=True)
class Mine(Algorithm):
    masking: str = "random"
"""
LOSS = """
    def loss(self, logps, masks, batch):
        terms = batch.advantages.to(logps) * elbo(logps, masks)
        return Loss(-terms.sum() / batch.totals["completions"], {})
"""
TURNS = (
    LOSS
    + "\n    def prepare(self, rows):\n        rewards = rows.cut_into_groups(rows.rewards)"
    + '\n        return {"advantages": self.compute_advantages(rewards)}\n'
)
DIVISOR = LOSS.replace('batch.totals["completions"]', "len(terms)")
BROKEN = {
    "purity: random": ("draw nothing in it", LOSS.replace("terms.sum()", "terms.sum() * torch.rand(())")),
    "loss: infinite": (
        "it must be finite",
        LOSS.replace("elbo(logps, masks)", "(elbo(logps, masks) / (batch.length - 1))"),
    ),
    "gradient: nan behind a mask": (
        "is not finite",
        LOSS.replace("terms.sum()", "terms.sum() - 0 * (logps * 0).sqrt().nan_to_num().sum()"),
    ),
    "gradient: where nothing is scored": (
        "not scored has a gradient",
        LOSS.replace("terms.sum()", "(terms.sum() + logps.sum())"),
    ),
    "gradient: autograd does not see a part": (
        "autograd differs from a finite difference",
        LOSS.replace("terms.sum()", "(terms * terms.data).sum()"),
    ),
    "advantages: of equal rewards": (
        "must be zero",
        LOSS + "\n    def compute_advantages(self, rewards):\n        return rewards.reshape(-1)\n",
    ),
    "advantages: of turns": ("Return a row for each", TURNS),
    "micro-batches: divisor": ("Divide by batch.totals", DIVISOR),
    "micro-batches: compares completions": (
        'set compares = "group"',
        LOSS.replace("terms.sum()", "(terms - terms.mean()).square().sum()"),
    ),
    "micro-batches: compares groups": (
        "micro-batches of a group each give",
        LOSS.replace("terms.sum()", "(terms - terms.mean()).square().sum()")
        + '\n    compares: ClassVar[str] = "group"\n',
    ),
    "micro-batches: compares copies": (
        "compares = 'copy', but",
        LOSS.replace("terms.sum()", "terms.square().sum()") + '\n    compares: ClassVar[str] = "copy"\n',
    ),
    "needs: not read": (
        "needs names 'old'",
        LOSS + '\n    needs: ClassVar[frozenset[str]] = frozenset({"old"})\n',
    ),
}
"""{"the check that finds it: the fault": (what the check says, the loss)}."""


NEAR = """
    needs: ClassVar[frozenset[str]] = frozenset({"old"})
    def loss(self, logps, masks, batch):
        ratio = (elbo(logps, masks) - elbo(batch.old_logps, masks)).exp()
        near = ((ratio - 1).abs() < 1e-3).to(logps)
        return Loss(-(near * ratio * batch.advantages.to(logps)).sum() / batch.totals["completions"], {})
"""


def test_a_loss_without_a_gradient_outside_a_trust_region_says_how_wide_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("far.py").write_text(HEAD + NEAR)
    Path("near.py").write_text(HEAD + NEAR + "    trust_region: ClassVar[float] = 1e-4\n")
    failed = {finding.name: finding.figure for finding in check_algorithm("./far.py:Mine") if not finding.ok}
    assert failed.keys() == {"gradient", "needs"} and "trust_region: ClassVar[float]" in failed["gradient"]
    assert all(finding.ok for finding in check_algorithm("./near.py:Mine"))


@pytest.mark.parametrize(
    "name",
    slow_if(
        [*ALGORITHMS, "spg_trainer.algorithms.mle:MLE"],
        lambda name: name not in ("spg", "vrpo", "rspo", "mapg"),
    ),
)
def test_every_algorithm_of_the_package_passes(name: str) -> None:
    assert not [finding for finding in check_algorithm(name) if not finding.ok]


@pytest.mark.parametrize("broken", [*BROKEN])
def test_each_check_finds_what_it_is_for(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    (title, _, _), (said, loss) = broken.partition(":"), BROKEN[broken]
    file.write_text(HEAD + loss)
    failed = {finding.name: finding.figure for finding in check_algorithm(f"{file}:Mine") if not finding.ok}
    assert said in failed[title], failed


def test_a_part_that_a_loss_detaches_is_told_and_fails_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text(HEAD + LOSS.replace("terms.sum()", "(terms * terms.detach()).sum()"))
    found = {finding.name: finding for finding in check_algorithm(f"{file}:Mine")}
    assert all(finding.ok for finding in found.values())
    assert "but for what the loss detaches" in found["gradient"].figure


def test_a_loss_that_is_a_bare_tensor_is_told_what_to_return(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text(HEAD + "\n    def loss(self, logps, masks, batch):\n        return logps.sum()\n")
    said = {finding.figure for finding in check_algorithm(f"{file}:Mine") if not finding.ok}
    assert said == {"loss returned Tensor; it must return Loss(loss, metrics), with a scalar tensor"}


def test_a_loss_that_clips_what_it_is_given_in_place_is_told_to_make_a_new_tensor(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text(HEAD + LOSS.replace("batch.advantages.to", "batch.advantages.clamp_(-0.1, 0.1).to"))
    with pytest.raises(CheckFailed, match="loss changed a tensor that it was given; make a new one"):
        is_pure(build(f"{file}:Mine"))


@pytest.mark.parametrize("need", ["correct", "reference"])
def test_what_is_needed_must_be_used(need: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text(HEAD + LOSS + f'\n    needs: ClassVar[frozenset[str]] = frozenset({{"{need}"}})\n')
    (said,) = [finding.figure for finding in check_algorithm(f"{file}:Mine") if finding.name == "needs"]
    assert f"needs names '{need}'" in said and "leave it out" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'compares: ClassVar[str] = "groups"',
            r"compares says 'groups': .*copy, .*update\. Did you mean 'group'\?",
        ),
        (
            'needs: ClassVar[frozenset[str]] = frozenset({"olds"})',
            r"needs says 'olds': .* Did you mean 'old'\?",
        ),
    ],
)
def test_a_misspelt_word_of_the_class_is_refused_at_once(
    line: str, said: str, tmp_path: Path, capsys
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + LOSS + f"\n    {line}\n")
    assert main(["algorithms", "check", f"{file}:Mine"]) == 2
    assert re.search(said, capsys.readouterr().err)
    with pytest.raises(ConfigError, match=said):
        train(
            small_config(tmp_path / "run", model="no_one/such", algorithm=f"{file}:Mine", algorithm_args={}),
            quiet=True,
        )


def test_old_logps_that_needs_does_not_name_are_named_by_check_and_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text(HEAD + LOSS.replace("elbo(logps, masks)", "elbo((logps - batch.old_logps).exp(), masks)"))
    said = {finding.figure for finding in check_algorithm(f"{file}:Mine") if not finding.ok}
    assert said == {
        "loss reads batch.old_logps, which is not there, since needs does not name 'old'. "
        'Write needs: ClassVar[frozenset[str]] = frozenset({"old"})'
    }
    words = ["--env", "sudoku", "--algorithm", f"{file}:Mine", "--max-steps", "1"]
    assert main([*words, "--output-dir", str(tmp_path / "run")]) == 2
    assert "needs does not name 'old'" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "class Mine(SPG):\n    strength: float = 1.0\n",
            r"sets strength, .*@dataclass\(frozen=True\) above class Mine",
        ),
        ("class Mine(SPG):\n    num_masks: int = 7\n", r"sets num_masks, which counts only in a dataclass"),
        ("class Mine(SPG):\n    num_masks = 7\n", r"sets num_masks without its type.*num_masks: "),
        (
            "@dataclass(frozen=True)\nclass Mine(SPG):\n    num_masks = 7\n",
            r"sets num_masks without its type",
        ),
        ("@dataclass(frozen=True)\nclass Mine(SPG):\n    num_masks: int = 7\n", ""),
        ("class Mine(SPG):\n    right_groups_teach: ClassVar[bool] = True\n", ""),
    ],
)
def test_hyper_parameters_that_the_constructor_would_pass_over_are_named(
    body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(f"{HEAD}\nfrom spg_trainer.algorithms.spg import SPG\n\n{body}")
    if not said:
        assert get(f"{tmp_path}/mine.py:Mine")
        return
    with pytest.raises(ConfigError, match=said):
        get(f"{tmp_path}/mine.py:Mine")


MASKING = (
    HEAD.replace('masking: str = "random"', 'masking: str = "firsts"')
    + """
    @classmethod
    def maskings(cls):
        return {"firsts": Firsts()}
"""
    + LOSS
)
FIRSTS = """
import numpy as np
from spg_trainer.likelihood.masking import Masking, copies_of_scored

@dataclass(frozen=True)
class Firsts(Masking):
    def copies(self, row):
        chosen = row.streams.of_row().random((self.num_masks, row.length)) < 0.5
        return copies_of_scored(row, chosen, 2.0)
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", "2 copies of a completion"),
        ("row.streams.of_row()", "np.random", "equal streams gave other masks"),
        ("2.0)", "np.nan)", "a weight is not finite"),
    ],
)
def test_a_masking_from_outside_is_checked(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(
        (FIRSTS.replace(old, new) if old else FIRSTS).replace(
            "\n@data", "\nfrom dataclasses import dataclass\n@data", 1
        )
        + MASKING
    )
    (found,) = [f for f in check_algorithm(f"{tmp_path}/mine.py:Mine") if f.name == "masking"]
    assert said in found.figure and found.ok == (not old)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("-terms.sum()", "-terms", r"with the loss Tensor of the shape \(12,\); it must be a scalar"),
        ("-terms.sum()", "-terms.sum().item()", r"with the loss -?\d.*; it must be a scalar tensor"),
        ("-terms.sum()", "-terms.sum().detach()", "the loss has no gradient, so that nothing is learned"),
        (", {})", ", None)", "with metrics=None; it must be a dict"),
        (
            LOSS,
            LOSS + "    def prepare(self, rows):\n        pass\n",
            "prepare returned None. It must return a dict",
        ),
        (
            LOSS,
            LOSS + "    def prepare(self, rows):\n        return {}\n",
            r"prepare returned no 'advantages'. .*super\(\).prepare\(rows\)",
        ),
        (", {})", ', {"mine": terms.sum()})', r"the metric 'mine' as tensor.*must be Metric\(total, per\)"),
        (", {})", ', {"mine": Metric(terms.sum(), "tokens")})', r"the metric 'mine' .*scored_tokens"),
        (LOSS, TURNS.replace("(rewards)}", "(rewards)[1:]}"), "prepare returned 11 rows"),
        *(
            (
                ", {})",
                f', {{"{name}": Metric(terms.sum().detach(), "update")}})',
                f"the metric '{name}', .*Rename",
            )
            for name in ("", "step", "reward", "correct", "loss", "grad_norm", "num_tokens", "rewards/x/mean")
        ),
        ("terms.sum() /", "terms.sum() * torch.nan /", "the loss nan; it must be finite"),
        ('["completions"]', '["completion"]', r"loss raised KeyError: 'completion' \(.*mine.py, line \d+\)"),
        (
            "batch.advantages",
            "batch.advantage",
            r"loss raised AttributeError: .*advantage.*mine.py, line \d+",
        ),
        (
            LOSS,
            LOSS + "    def compute_advantages(self, rewards):\n"
            "        middle = rewards - rewards.mean(1, keepdim=True)\n"
            "        return (middle / rewards.std(1, keepdim=True)).reshape(-1)\n",
            r"advantages of the rewards \[0.5, .* are \[nan, .*they must be finite",
        ),
    ],
)
def test_what_the_trainer_cannot_take_is_said_before_a_run(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text((HEAD + LOSS).replace("Algorithm, Loss", "Algorithm, Loss, Metric").replace(old, new))
    with pytest.raises(ConfigError, match=said):
        refuse_unsound(f"{file}:Mine", build(f"{file}:Mine"))


def test_a_training_tries_what_a_loss_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom spg_trainer.algorithms.raft import RAFT\n\n@dataclass(frozen=True)\n"
        "class Mine(RAFT):\n    def loss(self, logps, masks, batch):\n        return -logps.sum()\n"
    )
    with pytest.raises(
        ConfigError, match=r"Mine: loss returned Tensor; it must return Loss\(loss, metrics\)"
    ):
        train(small_config(tmp_path / "run", algorithm=f"{file}:Mine", algorithm_args={}), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", ""),
        ("row.streams.of_row()", "np.random", "equal streams gave other masks"),
        ("(self.num_masks, row.length)", "(row.length,)", "of 1 to 8 tokens, raised ValueError: .*line"),
        (
            "(self.num_masks, row.length)",
            "(self.num_masks, 3)",
            "of 1 to 8 tokens, raised ValueError: .*line",
        ),
    ],
)
def test_a_training_tries_a_masking_from_outside(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    head = "from dataclasses import dataclass\n"
    file.write_text(head + (FIRSTS.replace(old, new) if old else FIRSTS) + MASKING)
    algorithm = build(f"{file}:Mine")
    if not said:
        refuse_unsound(f"{file}:Mine", algorithm)
        return
    with pytest.raises(ConfigError, match=f"Mine: .*{said}"):
        train(small_config(tmp_path / "run", algorithm=f"{file}:Mine", algorithm_args={}), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("stated", "ok", "said"),
    [
        ("is_likelihood = False", True, "none: the mean over masks is no likelihood"),
        ("pass", False, "target = '' does not say which likelihood"),
        ('target = "any_order"', False, "where the tokens [] of 4 are shown, token 0 weighs 0.1"),
        ('target = "own"', True, "is its own"),
        ('target = "anyorder"', False, "Write target: ClassVar[str] = one of any_order, blocks"),
    ],
)
def test_a_masking_from_outside_says_what_it_estimates(
    stated: str, ok: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It masks each token with a chance of a half: a token weighs 1 in the mean, but not in each context."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    firsts = FIRSTS.replace("class Firsts(Masking):", f"class Firsts(Masking):\n    {stated}")
    (tmp_path / "mine.py").write_text(
        firsts.replace("\n@data", "\nfrom dataclasses import dataclass\n@data", 1) + MASKING
    )
    (found,) = [f for f in check_algorithm(f"{tmp_path}/mine.py:Mine") if f.name == "target"]
    assert found.ok == ok and said in found.figure


def test_the_masking_of_the_page_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[3] / "docs" / "algorithms" / "README.md"
    if not page.exists():
        pytest.skip("the pages stand in the repository only")
    monkeypatch.setattr(sys, "path", [*sys.path])
    (code,) = re.findall(r"```python\n(.*?class SpreadMasking.*?)```", page.read_text(), flags=re.S)
    (tmp_path / "mine.py").write_text(code)
    found = {finding.name: finding for finding in check_algorithm(f"{tmp_path}/mine.py:Mine")}
    assert all(finding.ok for finding in found.values())
    assert found["target"].figure == "the mean over masks is the any-order ELBO"
    (tmp_path / "wrong.py").write_text(code.replace("row.length / count)", "1.0)"))
    found = {finding.name: finding for finding in check_algorithm(f"{tmp_path}/wrong.py:Mine")}
    assert not found["target"].ok and "in the any-order ELBO" in found["target"].figure


def test_what_compares_an_update_must_be_coupled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mine.py"
    file.write_text(HEAD + LOSS + '\n    compares: ClassVar[str] = "update"\n')
    with pytest.raises(ConfigError, match="must be a CoupledAlgorithm"):
        check_algorithm(f"{file}:Mine")


def test_the_file_that_new_writes_passes(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["algorithms", "new", "my_algorithm.py"]) == 0
    assert (
        main(["algorithms", "check", "./my_algorithm.py:MyAlgorithm", "--algorithm-args", "strength=2"]) == 0
    )
    out = capsys.readouterr().out
    assert "FAILS" not in out and out.count("ok ") == len(CHECKS)
    assert main(["algorithms", "new", "my_algorithm.py"]) == 2
    (tmp_path / "mine.py").write_text(HEAD + DIVISOR)
    assert main(["algorithms", "check", "./mine.py:Mine"]) == 1
    assert "FAILS  micro-batches" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["check"], ["check", "spgg"], ["frobnicate"], ["new", "x"]])
def test_a_mistake_is_one_line_and_status_2(words: list[str], capsys) -> None:
    assert main(["algorithms", *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_alone_it_lists_its_commands_and_a_misspelt_one_is_told_them(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["algorithms"])
    assert not end.value.code and "names the algorithms of this package" in capsys.readouterr().out
    assert main(["algorithms", "chek", "spg"]) == 2
    assert "invalid choice: 'chek' (choose from 'list', 'new', 'check')" in capsys.readouterr().err


def test_the_command_says_what_an_algorithm_with_a_reference_needs(capsys):
    assert main(["algorithms", "check", "unigrpo", "raft"]) == 0
    with_reference, without = capsys.readouterr().out.split("raft\n")
    assert "it needs --ref-copy, or adapters" in with_reference and "--ref-copy" not in without
