"""A small serving engine: SGLang's routes over a small model on the CPU.

What decodes is given: the files of SGLang itself (`sglang_files.py`), or the trainer's own sampler.

    python -m tests.common.small_engine --model-path FOLDER --port PORT [flags that SGLang knows]
"""

import argparse
import base64
import io
import json
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from spg_trainer.likelihood.logps import path_logps
from spg_trainer.models import Policy, load_model
from spg_trainer.models.forward import head_weight
from spg_trainer.models.weight_files import _as_ours
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling

Decode = Callable[[Policy, list[list[int]], list[dict[str, Any]]], list[dict[str, list]]]
"""Takes prompts and their sampling parameters; returns the lists of the plugin for each."""


class Refused(Exception):
    """What the engine answers with 400."""


class SmallEngine:
    """The weights of an engine, and what it does on each route; as strict about their order as SGLang."""

    def __init__(self, policy: Policy, decode: Decode, version: str = "default") -> None:
        self.policy, self.decode, self.version = policy, decode, version
        self.session_open, self.released, self.broken = False, False, ""
        self.noise: torch.Tensor | None = None
        """(V, D), what this engine adds to the output layer of the weights that it is sent."""
        self.calls: list[str] = []
        self.sums: list[float] = []
        """The sum of all weights, after each change of them."""
        self.hanging = threading.Event()

    def answer(self, route: str, message: dict[str, Any]) -> Any:
        self.calls.append(route)
        if self.broken == "hang":
            self.hanging.wait(60)
        handle = getattr(self, route, None)
        if handle is None:
            raise Refused(f"no route {route}")
        return handle(message)

    def health(self, message: dict[str, Any]) -> None:
        return None

    def generate(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        if self.released or self.session_open:
            raise Refused("the weights are not there")
        prompts, params = message["input_ids"], message["sampling_params"]
        version = "of another training" if self.broken == "old weights" else self.version
        lists = self.decode(self.policy, prompts, params)
        if self.broken == "unlike":
            for of_row in lists:
                of_row["spg_drawn_logp"] = [logp - 5 for logp in of_row["spg_drawn_logp"]]
        if self.broken == "foreign":
            lists[0]["spg_tokens"][0] = 10**6
        if self.broken == "no plugin":
            lists = [{} for _ in prompts]
        return [
            {
                "meta_info": {
                    "finish_reason": {"type": "stop"},
                    "weight_version": version,
                    **of_row,
                }
            }
            for of_row in lists
        ]

    def load(self, tensors: dict[str, torch.Tensor], version: str) -> None:
        """Takes weights under the Hub's names, perhaps of a few layers."""
        if self.broken == "deaf":
            return
        model = self.policy.model
        known = model.state_dict()
        for name, value in _as_ours(model, tensors).items():
            known[name].copy_(value)
        if self.noise is not None:
            head_weight(model).data += self.noise
        self.version = version
        self.sums.append(sum(float(weight.double().sum()) for weight in model.parameters()))

    def update_weights_from_disk(self, message: dict[str, Any]) -> dict[str, Any]:
        files = sorted(Path(message["model_path"]).glob("*.safetensors"))
        self.load({k: v for file in files for k, v in load_file(file).items()}, message["weight_version"])
        return {"success": bool(files)}

    def begin_weight_update(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.session_open:
            raise Refused("a weight-update session is already open")
        self.session_open = True
        return {"success": True}

    def update_weights_from_tensor(self, message: dict[str, Any]) -> dict[str, Any]:
        if not self.session_open or self.released:
            raise Refused("must run between begin_weight_update() and end_weight_update()")
        (of_one_rank,) = message["serialized_named_tensors"]
        tensors = dict(pickle.load(io.BytesIO(base64.b64decode(of_one_rank))))
        self.load(tensors, message["weight_version"])
        return {"success": True}

    def end_weight_update(self, message: dict[str, Any]) -> dict[str, Any]:
        if not self.session_open:
            raise Refused("no weight-update session is open")
        self.session_open = False
        return {"success": True}

    def release_memory_occupation(self, message: dict[str, Any]) -> None:
        for weight in self.policy.model.parameters():
            weight.data.fill_(float("nan"))
        self.released = True

    def resume_memory_occupation(self, message: dict[str, Any]) -> None:
        self.released = False

    def be(self, message: dict[str, Any]) -> None:
        """A route for tests: what is broken from now on."""
        self.broken = message["broken"]


def serve(engine: SmallEngine, port: int = 0) -> ThreadingHTTPServer:
    """The server of an engine; its thread is still to be started (`serve_forever`)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            message = json.loads(self.rfile.read(length)) if length else {}
            status = 200
            try:
                with torch.no_grad():
                    body = json.dumps(engine.answer(self.path.strip("/"), message)).encode()
            except Refused as error:
                status, body = 400, json.dumps({"success": False, "message": str(error)}).encode()
            if engine.broken == "die":
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    return Server(("127.0.0.1", port), Handler)


@contextmanager
def served(engine: SmallEngine) -> Iterator[str]:
    """Inside, the engine answers at the URL, from a thread of this process."""
    server = serve(engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        engine.hanging.set()
        server.shutdown()
        server.server_close()


def by_own_sampler(
    policy: Policy, prompts: list[list[int]], params: list[dict[str, Any]]
) -> list[dict[str, list]]:
    """Decodes with the trainer's sampler; blocks are then written to their end with anything, beyond the length too."""
    size, length = params[0]["custom_params"]["spg_block_length"], params[0]["max_new_tokens"]
    counts = params[0]["custom_params"]["spg_counts"]
    sampling = Sampling(
        length,
        size,
        len(counts) * (length // size),
        params[0]["custom_params"]["spg_temperature"],
    )
    width = max(map(len, prompts))
    ids = torch.tensor([[policy.pad_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    streams = [generator(p["custom_params"]["spg_seed"]) for p in params]
    rows = sample_completions(policy, ids, mask, sampling, streams)
    drawn_logps = rows.unmask_logps
    if sampling.temperature not in (0, 1):
        written = rows.with_columns(completion_mask=rows.unmask_step >= 0)
        drawn_logps = path_logps(policy, written, sampling.temperature)
    found = []
    for row, prompt in enumerate(prompts):
        step_of = rows.unmask_step[row].tolist()
        last = 1 + max(place for place, step in enumerate(step_of) if step >= 0)
        while last < length and (len(prompt) + last) % size:
            last += 1
        steps, offset, block = [], 0, len(prompt) // size
        for place, step in enumerate(step_of[:last]):
            if (len(prompt) + place) // size > block:
                block, offset = block + 1, 1 + max(step_of[:place])
            steps.append(step - offset if step >= 0 else size + 1)
        ids_of_row = rows.completion_ids[row, :last].tolist()
        logps = drawn_logps[row, :last].tolist()
        beyond = -(len(prompt) + last) % size
        lists = {"spg_tokens": ids_of_row, "spg_step": steps, "spg_drawn_logp": logps}
        found.append({name: [*values, *values[-1:] * beyond] for name, values in lists.items()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-path")
    parser.add_argument("--port", type=int)
    parser.add_argument("--weight-version", default="default")
    known, _ = parser.parse_known_args(sys.argv[1:])
    from tests.common.sglang_files import by_sglang

    policy = load_model(known.model_path, device="cpu", dtype="float32")
    serve(SmallEngine(policy, by_sglang, known.weight_version), known.port).serve_forever()


if __name__ == "__main__":
    main()
