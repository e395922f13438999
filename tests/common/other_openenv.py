"""A small OpenEnv server that is not ours, with a game of two turns: python other_openenv.py PORT KIND.

KIND: "game"; "random", whose prompts do not depend on the seed; "unclear", whose texts have no likely names; "full",
which takes one session.
"""

import json
import random
import sys
from typing import Any

KIND = sys.argv[2] if len(sys.argv) > 2 else "game"
TEXT = "left" if KIND == "unclear" else "message"
ACTION: dict[str, Any] = {"properties": {"guess": {"type": "string"}, "metadata": {}}, "required": ["guess"]}
if KIND == "unclear":
    ACTION = {
        "properties": {"guess": {"type": "string"}, "why": {"type": "string"}},
        "required": ["guess", "why"],
    }
connected = 0


def played(secret: int, guess: str, tries: int) -> tuple[str, float, bool]:
    """(text, reward, done): half a point for a right guess that is the second one."""
    right = guess.strip() == str(secret)
    return ("right" if right else "wrong, again"), (1.0 / tries if right else 0.0), right or tries == 2


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    global connected
    if scope["type"] == "http":
        found = {"/schema": {"action": ACTION}, "/metadata": {"name": "guess", "version": "2.1"}}.get(
            scope["path"]
        )
        status = 200 if found else 404
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(found).encode()})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        connected += 1
        secret = tries = 0
        while (message := await receive())["type"] == "websocket.receive":
            said = json.loads(message["text"])
            answer: dict[str, Any] = {
                "type": "error",
                "data": {"message": "no room", "code": "CAPACITY_REACHED"},
            }
            if KIND == "full" and connected > 1:
                pass
            elif said["type"] == "reset":
                rng = random.Random(said["data"]["seed"]) if KIND != "random" else random.Random()
                secret, tries = rng.randrange(10), 0
                fields = {TEXT: f"Guess what {secret} plus 0 is.", "round": 0}
                if KIND == "unclear":
                    fields["right"] = "another text"
                answer = {
                    "type": "observation",
                    "data": {"observation": fields, "reward": None, "done": False},
                }
            else:
                tries += 1
                text, reward, done = played(secret, said["data"]["guess"], tries)
                fields = {TEXT: text, "round": tries}
                answer = {
                    "type": "observation",
                    "data": {"observation": fields, "reward": reward, "done": done},
                }
            await send({"type": "websocket.send", "text": json.dumps(answer)})
        connected -= 1


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=int(sys.argv[1]), log_level="error", lifespan="off")
