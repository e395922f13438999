"""Text with holes: what is read of it, and what is refused."""

from dataclasses import replace

import pytest

import envs
from envs.errors import EnvError
from envs.problem import read_problem
from envs.text.template import REST, fill_holes, fits, read_holes
from tests.common.env_cases import Doubling, check_only


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[MASK]", [1]),
        ("a[MASK]b[MASK*3]", ["a", 1, "b", 3]),
        ("[MASK][MASK*2][MASK]x", [4, "x"]),
        ("a[MASK*]b[MASK]", ["a", REST, "b", 1]),
        ("a[MASK][MASK*][MASK*4]b", ["a", REST, "b"]),
        ("[mask] [M] MASK] a[b[MASK]]", ["[mask] [M] MASK] a[b", 1, "]"]),
    ],
)
def test_a_text_is_what_is_given_and_the_sizes_of_its_holes(text, parts):
    assert read_holes(text) == parts


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no hole"),
        ("abc", "has no hole"),
        ("[MASK*]a[MASK*]", "more than one"),
        ("[MASK*][MASK*]", "more than one"),
        ("[MASK*0]", "a hole is"),
        ("[MASK*-1]", "a hole is"),
        ("[MASK 3]", "a hole is"),
        ("[MASKED]", "a hole is"),
        ("a[MASK", "a hole is"),
    ],
)
def test_what_is_no_template_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        read_holes(text)


def test_holes_are_filled_in_order():
    assert fill_holes("a[MASK]b[MASK*4]", ["x", "yy"]) == "axbyy"
    with pytest.raises(ValueError, match="has 2 holes, and there are 1 texts"):
        fill_holes("a[MASK]b[MASK*4]", ["x"])


@pytest.mark.parametrize(
    ("template", "text", "can"),
    [
        ("a[MASK]b", "a b", True),
        ("a[MASK]b", "ab", True),  # an end token may end a hole at once
        ("a[MASK]a", "a", False),
        ("a[MASK]b", "a bc", False),
        ("a[MASK]b[MASK]b", "axbyb", True),
        ("[MASK]ab[MASK]a[MASK]", "aab-a", True),
        ("[MASK]ab[MASK]ab", "ab", False),
        ("[MASK]ab[MASK]ab", "abab", True),
        ("[MASK*]", "", True),
        ("x[MASK]", "ax", False),
    ],
)
def test_a_text_fits_a_template_that_can_become_it(template, text, can):
    assert fits(template, text) == can


def test_the_check_names_a_demonstration_that_its_template_cannot_become(monkeypatch):
    wrong = "<answer>[MASK*] </answer>"
    problem = envs.Countdown.problem
    check_only("demonstrations", monkeypatch)
    assert envs.check("countdown", 20)[0].ok
    monkeypatch.setattr(
        envs.Countdown, "problem", lambda self, i: replace(problem(self, i), completion_template=wrong)
    )
    (found,) = envs.check("countdown", 20)
    assert not found.ok and "cannot become '<answer>" in found.figure


def test_a_problem_with_a_broken_template_is_named():
    env = envs.make("sudoku", infill=True)
    problem = env.problem(3)
    env.problem = lambda index: replace(problem, completion_template="<answer>[MASK</answer>")
    with pytest.raises(EnvError, match=r"problem 3: the template has '\[MASK</answer>'; a hole is"):
        read_problem(env, 3)


@pytest.mark.parametrize("style", ["plain", "instruct"])
@pytest.mark.parametrize("size", [4, 9])
def test_a_sudoku_gives_its_digits_and_a_hole_for_each_blank(size, style):
    env = envs.make("sudoku", infill=True, size=size, prompt_style=style, split="test")
    plain = envs.make("sudoku", size=size, prompt_style=style, split="test")
    assert (env.spec_name, len(env)) != (plain.spec_name, 0) and len(env) == len(plain)
    for index in range(5):
        problem = env.problem(index)
        assert replace(problem, completion_template="") == plain.problem(index)
        puzzle, solution = problem.reference["puzzle"], problem.metadata["solution"]
        assert problem.completion_template.count("[MASK]") == puzzle.count("0")
        grid = puzzle.replace("0", "[MASK]")
        assert grid in problem.completion_template
        filled = problem.completion_template.replace("[MASK*]", "work")
        for digit, given in zip(solution, puzzle, strict=True):
            filled = filled.replace("[MASK]", digit, 1) if given == "0" else filled
        assert env.score(problem, filled).rewards["correct"] == 1


def test_a_sudoku_cannot_be_given_and_begun(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("solve {puzzle}\n---\n<answer>")
    with pytest.raises(EnvError, match=r"'<answer>'.* take out what stands behind its line ---"):
        envs.make("sudoku", infill=True, prompt_style=str(file))
    with pytest.raises(EnvError, match='infill="maybe" is unknown'):
        envs.make("sudoku", infill="maybe")


class Given(Doubling):
    """A task that can be played with and without a template."""

    def completion_template(self, problem):
        return f"it is [MASK*4], as {problem.reference['answer'] // 2} is half"


class Filling(Given):
    """One that takes the argument itself, as an author's file of before may do."""

    def __init__(self, infill=False):
        super().__init__()
        self.own = infill


envs.register("test/Given-v0", Given)
envs.register("test/Filling-v0", Filling)


def test_any_task_that_writes_a_template_gives_it_where_infill_is_asked_for():
    plain, given = envs.make("given", split="test"), envs.make("given", split="test", infill=True, tries=2)
    assert [plain.spec_name, given.spec_name] == ["given", "given[infill=True,tries=2]"]
    problem = given.problem(1)
    template = plain.completion_template(plain.problem(1))
    assert problem == replace(plain.problem(1), completion_template=template) != plain.problem(1)
    assert envs.make("given", infill=False).problem(1).completion_template == ""
    own = envs.make("filling", infill=True)
    assert own.own and own.problem(1).completion_template == ""


def test_a_mixture_gives_the_templates_of_the_tasks_that_are_asked_for_them():
    env = envs.make("sudoku + sorting", **{"sudoku.infill": True})
    assert [bool(env.problem(i).completion_template) for i in range(2)] == [True, False]
    with pytest.raises(
        EnvError, match=r"sorting\[infill=True\] takes no infill.* Write completion_template\(self, problem\)"
    ):
        envs.make("sorting", infill=True)


class Odd(Given):
    def __init__(self, template=None):
        super().__init__()
        self.template = template

    def completion_template(self, problem):
        return {"": "", "none": None}[self.template]


envs.register("test/Odd-v0", Odd)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", r"^odd\[.*\], problem 0: completion_template\(\) returned ''\. It must return"),
        ("none", r"problem 0: completion_template\(\) returned None\."),
        ("x", r"(?s)problem 0: KeyError 'x'\n.*test_holes\.py:\d+, in completion_template"),
    ],
)
def test_a_template_that_its_author_fails_to_write_is_told_as_a_problem_is(template, said):
    with pytest.raises(EnvError, match=said):
        envs.make("odd", infill=True, template=template)
