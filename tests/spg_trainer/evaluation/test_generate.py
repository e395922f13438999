"""The `generate` command answers a prompt, a file, standard input or a chat, and sends no control characters."""

import io
import json
import os
import pty
import select
import struct
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest
import torch

from spg_trainer import EvalSampling, cli, defaults, generate, load_model
from spg_trainer.rollout.canvas_view import canvas_text
from tests.common.family_cases import UNTRAINED, untrained
from tests.common.marks import slow_if
from tests.common.speed import here
from tests.common.trainer_cases import tiny_folder

FIXTURES = Path(__file__).resolve().parents[2] / "data" / "models"
PUZZLE = "sudoku 0042420013040403"


def command(capfd, *words: str) -> tuple[int, str, str]:
    status = cli.main(["generate", "--device", "cpu", *words])
    return status, *capfd.readouterr()


def test_a_prompt_is_answered_as_the_function_answers_it(capfd):
    policy = load_model("tiny:sudoku", device="cpu")
    (expected,) = generate(policy, [PUZZLE])
    assert expected.startswith("<answer>")
    assert command(capfd, "--model", "tiny:sudoku", PUZZLE) == (0, expected + "\n", "")


def test_a_file_and_standard_input_give_the_same_answers_with_their_tokens(capfd, tmp_path, monkeypatch):
    words = ["--json", "--temperature", "1", "--seed", "7"]
    rows = [{"prompt": PUZZLE}, {"prompt": [{"role": "user", "content": "sudoku 1000000000000000"}]}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, _ = command(capfd, "--prompts", str(file), *words, "--num-return-sequences", "2")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [line["prompt"] for line in lines] == [row["prompt"] for row in rows for _ in "ab"]
    policy = load_model("tiny:sudoku", device="cpu")
    sampling = defaults(EvalSampling, model="tiny", temperature=1.0)
    prompts = [row["prompt"] for row in rows]
    texts, logps = generate(policy, prompts, sampling, seed=7, num_return_sequences=2, return_logps=True)
    assert [line["completion"] for line in lines] == texts
    for line, expected in zip(lines, logps, strict=True):
        assert line["unmask_logps"] == pytest.approx(expected.tolist())
        assert len(line["completion_ids"]) == len(line["unmask_step"]) == len(expected)
    monkeypatch.setattr(sys, "stdin", io.StringIO(PUZZLE + "\n"))
    _, out, _ = command(capfd, *words)
    assert json.loads(out)["completion_ids"] == lines[0]["completion_ids"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "the prompt is empty"),
        (["  "], "the prompt is empty. Write what the model should answer."),
        (
            ["--num-return-sequences", "2", PUZZLE],
            "--num-return-sequences 2: needs a sampling with a temperature",
        ),
        (["--prompts", "gone.jsonl"], "gone.jsonl"),
        (["--prompts", "gone.jsonl", PUZZLE], "Both a prompt and --prompts are given."),
        (["x" * 5000], "Shorten the prompt"),
        (["--shard", "phase", PUZZLE], "--shard"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(capfd, words, message):
    status, out, err = command(capfd, *words)
    assert (status, out) == (2, "") and err.count("\n") == 1 and message in err


def test_control_characters_of_a_completion_are_shown_and_not_sent(capfd, monkeypatch):
    monkeypatch.setattr(
        "spg_trainer.evaluation.generate.answers_of", lambda *_: [{"completion": "a\x1b]0;gone\x07\nb"}]
    )
    status, out, _ = command(capfd, PUZZLE)
    assert status == 0 and out == "a\N{REPLACEMENT CHARACTER}]0;gone\N{REPLACEMENT CHARACTER}\nb\n"


def test_the_canvas_shows_what_a_step_wrote_up_to_the_end():
    policy = load_model("tiny:sudoku", device="cpu")
    ids = torch.tensor([*policy.tokenizer("a\x1bbc")["input_ids"], policy.end_token_ids[0], 7])
    text = canvas_text(policy, ids, torch.tensor([0, 0, 1, 2, 0, 0]), step=1)
    assert text.plain == "a\N{REPLACEMENT CHARACTER}b░"
    assert [(text.plain[span.start : span.end], span.style) for span in text.spans if span.style] == [
        ("b", "bold green"),
        ("░", "dim"),
    ]


FAMILIES = ["tiny", "tiny:block", "tiny:shift", "diffusion_gemma", *sorted(UNTRAINED)]
SOME = ("tiny:shift", "diffusion_gemma", "sdar")


@pytest.mark.parametrize("family", slow_if(FAMILIES, lambda family: family not in SOME))
def test_each_family_answers(capfd, family):
    model, length = family, "20"
    if family.startswith("tiny"):
        lengths = ()  # as it was taught
    elif family == "diffusion_gemma":
        model = str(FIXTURES / family)
        lengths = ("--max-completion-length", "16", "--block-length", "8")
    else:
        model, lengths = str(untrained(family)), ("--max-completion-length", length, "--block-length", "5")
    status, out, err = command(
        capfd, "--model", model, *lengths, "--tokens-per-step", "5", "--json", "say 0001"
    )
    assert (status, err) == (0, "")
    assert 0 < len(json.loads(out)["completion_ids"]) <= int(length) + 12


class Terminal:
    """The command on a terminal of 40 columns."""

    def __init__(self, *words: str) -> None:
        self.process, self.end = pty.fork()
        if not self.process:
            environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
            line = [sys.executable, "-m", "spg_trainer", "generate", "--device", "cpu", *words]
            os.execve(sys.executable, line, environment)
        ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 40, 0, 0))

    def read_until(self, text: str) -> str:
        found, limit = b"", time.monotonic() + here(60)
        while text.encode() not in found and time.monotonic() < limit:
            if select.select([self.end], [], [], 0.2)[0]:
                try:
                    found += os.read(self.end, 4096)
                except OSError:  # the command has ended
                    break
        return found.decode(errors="replace")  # the last character may be cut

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def test_a_chat_on_a_terminal_shows_the_canvas_and_outlives_ctrl_c():
    length = "96"  # no end token in it: the answer takes long enough to be stopped
    words = f"--max-completion-length {length} --block-length {length} --min-completion-length {length}"
    terminal = Terminal("--model", str(tiny_folder()), "--diffusion-steps", length, *words.split())
    assert "/quit" in terminal.read_until("> ")
    terminal.type("hello\n")
    seen = terminal.read_until("\n> ")
    assert "░" in seen and "\x1b[1;32m" in seen  # masked places, and what the newest step wrote
    terminal.type("/reset\n")  # the model has no room for both answers
    terminal.read_until("> ")
    terminal.type("again\n")
    assert "░" in terminal.read_until("░")
    terminal.type("\x03")
    assert "Stopped" in terminal.read_until("\n> ")
    terminal.type("/what\n")
    assert "No command /what. Known: /reset," in terminal.read_until("> ")
    terminal.type("/reset\n/quit\n")
    assert terminal.status() == 0
