"""`push` sends a run's model and card to a Hub that stands on this machine."""

import base64
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

import envs
from spg_trainer import cli
from spg_trainer.runs.files import write_folder
from tests.common.model_cases import edit
from tests.common.report_cases import write_run
from tests.common.trainer_cases import save_adapter, snapshot

REPO = "ada/sudoku-spg"
PUSH = ("--repo", REPO)
SETTINGS = {
    "split": "test",
    "max_completion_length": 20,
    "diffusion_steps": 20,
    "block_length": 20,
    "temperature": 0,
}


class Hub(BaseHTTPRequestHandler):
    """What `create_repo`, `model_info` and `create_commit` ask for; keeps what it was sent."""

    def do_HEAD(self):
        self.answer({})

    def do_GET(self):
        self.answer({"id": REPO, "private": self.server.private, "siblings": [], "tags": []})

    def do_POST(self):
        body = self.body()
        self.server.asked.append((self.path, self.headers["Authorization"]))
        if self.server.status != 200:
            return self.answer({"error": "Forbidden: this token reads only"}, self.server.status)
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.answer({"url": f"{self.server.url}/{REPO}", "name": REPO})
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            return self.answer({"files": modes})
        if self.path == "/api/validate-yaml":  # the front matter of the card
            return self.answer({"errors": [], "warnings": []})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.answer({"commitUrl": f"{self.server.url}/{REPO}/commit/1", "commitOid": "1"})

    def body(self):
        """What was sent, in one piece or in chunks."""
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.asked, server.created, server.files, server.status, server.private = [], [], {}, 200, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {"ENDPOINT": server.url, "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path):
    """A finished run of Sudoku; its model is a stand-in, as nothing opens it here."""
    return with_model(write_run(tmp_path / "run"))


def with_model(folder, name="model", **recorded):
    files = {"config.json": "{}", "model.safetensors": "weights", "README.md": "not this one"}
    record = {"env": "sudoku", "base_model": "/home/ada/models/tiny-sudoku", **recorded}
    files["environment.json"] = json.dumps(record)

    def write(aside):
        for file, text in files.items():
            (aside / file).write_text(text)

    write_folder(folder / name, write)
    return folder


def test_the_model_goes_up_with_its_card_in_one_commit(hub, run, capsys):
    assert cli.main(["push", str(run), *PUSH]) == 0
    assert capsys.readouterr().out == f"{hub.url}/{REPO}\n"
    assert set(hub.files) == {
        "README.md",
        "curve.png",
        "config.json",
        "model.safetensors",
        "environment.json",
    }
    assert hub.files["model.safetensors"] == b"weights"
    assert hub.files["curve.png"].startswith(b"\x89PNG")
    assert b"not this one" not in hub.files["README.md"]
    assert {token for _, token in hub.asked} == {"Bearer hf_test"}
    assert sum("/commit/" in path for path, _ in hub.asked) == 1


def test_no_place_of_this_machine_goes_up(hub, run):
    cli.main(["push", str(run), *PUSH])
    sent = b"".join(hub.files.values())
    assert b"/home/ada" not in sent and str(run).encode() not in sent
    assert json.loads(hub.files["environment.json"]) == {"env": "sudoku", "base_model": "tiny-sudoku"}


def test_no_folder_in_a_setting_goes_up(hub, tmp_path):
    places = {"env_args": {"source": "/home/ada/puzzles.csv"}, "pairs": "/home/ada/pairs.jsonl"}
    run = write_run(tmp_path / "run", algorithm="./mine/own.py:Own", **places)
    with_model(run, env="/home/ada/task.py:my/T-v0", env_args=places["env_args"])
    edit(run / "summary.json", env="task[file=/home/ada/a.txt]")
    for name in ("json", "jsonl"):
        shutil.copy(run / "eval" / f"after.{name}", run / "eval" / f"task-file=-home-ada-a.txt-20x20.{name}")
    edit(
        run / "eval" / "task-file=-home-ada-a.txt-20x20.json",
        settings={**SETTINGS, "env": "t[file=/home/ada/a.txt]"},
    )
    assert cli.main(["push", str(run), *PUSH]) == 0
    sent = b"".join(hub.files.values())
    assert b"/home/ada" not in sent and b"home-ada" not in sent and b"./mine" not in sent
    card = hub.files["README.md"].decode()
    assert "with\n`own.py:Own` on `sudoku` (source=puzzles.csv)" in card
    assert "| pairs | None | pairs.jsonl |" in card and "| t[file=a.txt] | test |" in card
    record = json.loads(hub.files["environment.json"])
    assert (record["env"], record["env_args"]) == ("task.py:my/T-v0", {"source": "puzzles.csv"})


def test_the_card_holds_task_algorithm_settings_and_evaluations(run, capsys):
    assert cli.main(["push", str(run), *PUSH, "--dry-run"]) == 0
    place = run / "card" / "README.md"
    assert capsys.readouterr().out == f"{place}\n" and (run / "card" / "curve.png").stat().st_size
    card = place.read_text()
    assert card.startswith("---\nlibrary_name: transformers\ntags: [masked-diffusion, llada")
    assert "with\n`spg` on `sudoku` for 4 steps, seed 0." in card
    assert "step 2, the best on validation" in card
    for name in ("before", "after"):
        found = json.loads((run / "eval" / f"{name}.json").read_text())
        assert (
            f"| {found['correct']:.3f} | {found['low']:.3f} to {found['high']:.3f} | {found['n']} |" in card
        )
    assert f'from_pretrained("{REPO}")' in card and f"eval --model {REPO} --env sudoku" in card


def test_dry_run_needs_neither_token_nor_hub(run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: 1 / 0)
    monkeypatch.setattr(envs.hub, "why_offline", lambda: 1 / 0)
    before = snapshot(run / "model")
    assert cli.main(["push", str(run), *PUSH, "--dry-run"]) == 0
    assert snapshot(run / "model") == before


@pytest.mark.parametrize("private", [True, False])
def test_private_never_goes_into_a_public_repository(hub, run, capsys, private):
    hub.private = private
    assert cli.main(["push", str(run), *PUSH, "--private"]) == (0 if private else 2)
    assert hub.created[0]["visibility"] == "private"
    assert bool(hub.files) is private
    assert ("is there and is public" in capsys.readouterr().err) is not private


def refused(capsys, *words):
    assert cli.main(["push", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_what_is_missing_is_said_before_anything_is_sent(hub, run, tmp_path, capsys, monkeypatch):
    assert "Give NAME/ID" in refused(capsys, run)
    assert "organisation's is missing" in refused(capsys, run, "--repo", "sudoku")
    assert "No run to push" in refused(capsys, *PUSH)
    assert "is not finished" in refused(capsys, write_run(tmp_path / "half", finished=False), *PUSH)
    assert f"python -m spg_trainer merge {run}" in refused(capsys, run, *PUSH, "--merged")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "hf auth login" in refused(capsys, run, *PUSH)
    monkeypatch.undo()
    assert hub.asked == []


def test_an_unreachable_hub_is_said_with_the_dry_run(hub, run, capsys, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    said = refused(capsys, run, *PUSH)
    assert "The Hub does not answer: " in said and "--dry-run" in said


def test_what_the_hub_refuses_is_said_in_one_line(hub, run, capsys):
    hub.status = 403
    said = refused(capsys, run, *PUSH)
    assert said.startswith(f"error: The Hub refused {REPO}: ") and said.count("\n") == 1


def test_an_adapter_on_a_folder_is_merged_first(hub, tmp_path, capsys):
    run = write_run(tmp_path / "run")
    write_folder(run / "model", save_adapter)
    assert "Push the whole model: python -m spg_trainer merge" in refused(capsys, run, *PUSH)
    with_model(run, "merged")
    assert cli.main(["push", str(run), *PUSH, "--merged"]) == 0
    assert hub.files["model.safetensors"] == b"weights"


def test_an_adapter_on_a_model_of_the_hub_names_it(hub, tmp_path):
    run = write_run(tmp_path / "run")

    def write(aside):
        edit(save_adapter(aside) / "adapter_config.json", base_model_name_or_path="org/base")

    write_folder(run / "model", write)
    assert cli.main(["push", str(run), *PUSH]) == 0
    card = hub.files["README.md"].decode()
    assert "library_name: peft" in card and "\nbase_model: org/base\n" in card
    assert f'AutoModelForMaskedLM.from_pretrained("org/base"), "{REPO}")' in card
