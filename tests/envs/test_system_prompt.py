"""`system_prompt=`: a system message of the user's own before every prompt, as a text or from a file."""

import hashlib
import json
from pathlib import Path

import pytest

import envs

GENERATED = {"source": "generated", "split": "test"}


def test_a_file_is_the_system_message_before_the_prompt(tmp_path: Path) -> None:
    file = tmp_path / "brief.txt"
    file.write_text("Be brief.\nBox it.\n")
    plain = envs.make("gsm8k", prompt_style="plain", **GENERATED)
    env = envs.make("gsm8k", prompt_style="plain", system_prompt=f"@{file}", **GENERATED)
    prompt = env.problem(3).prompt
    assert prompt == [
        {"role": "system", "content": "Be brief.\nBox it."},
        {"role": "user", "content": plain.problem(3).prompt},
    ]
    assert env.reset(options={"index": 3})[0] == prompt and env.observation_space.contains(prompt)
    assert env.origin == {str(file): f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"}
    assert env.spec_name == "gsm8k[prompt_style=plain,system_prompt=@brief.txt,generated]"
    problem = env.problem(3)
    assert env.score(problem, env.demonstration(problem)).rewards["correct"] == 1


def test_a_text_is_the_message_itself_of_several_turns_and_of_mixtures_too() -> None:
    for name, more in (
        ("countdown", {"tries": 2}),
        ("countdown + sudoku", {"split": "test"}),
        ("sudoku", {"split": "validation"}),
    ):
        prompt = envs.make(name, system_prompt="Be kind.", **more).problem(0).prompt
        assert [message["role"] for message in prompt] == ["system", "user"], name
        assert prompt[0]["content"] == "Be kind."


def test_no_problem_changes_its_split(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"1 + {n}?", "answer": f"{n + 1}"}) + "\n" for n in range(99))
    )
    for split in ("train", "validation", "test"):
        plain = envs.make(str(rows), verifier="gsm8k", split=split)
        shown = envs.make(str(rows), verifier="gsm8k", split=split, system_prompt="Be kind.")
        assert len(plain) == len(shown)
        assert [shown.problem(i).prompt[1]["content"] for i in range(len(shown))] == [
            plain.problem(i).prompt for i in range(len(plain))
        ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@none.txt", r"system_prompt=@none.txt cannot be read: .*No such file"),
        ("", "system_prompt='' has no text"),
        (3, "system_prompt=3 has no text"),
    ],
)
def test_what_is_no_message_is_refused(text, words: str) -> None:
    with pytest.raises(envs.EnvError, match=words):
        envs.make("sudoku", system_prompt=text)


def test_a_row_with_a_system_message_of_its_own_is_refused(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": chat, "answer": "2"}) + "\n")
    test = {"validation": str(rows), "test": str(rows), "split": "test"}
    env = envs.make(str(rows), verifier="gsm8k", system_prompt="Be kind.", **test)
    with pytest.raises(envs.EnvError, match="problem 0 has a system message of its own"):
        env.problem(0)
