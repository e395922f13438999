"""Headless Chromium for tests, spoken to over a pipe in its DevTools protocol: no package, no port, no driver."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60
"""What any one answer may take."""


class Browser:
    """One page of a browser that has been started."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write, self.rest = read, write, b""
        self.numbers, self.session = itertools.count(1), ""
        self.events: list[dict[str, Any]] = []
        page = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command; events that arrive before it are kept."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        os.write(
            self.write,
            json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0",
        )
        while (answer := self._next()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self.rest:
            if not select.select([self.read], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium gave no answer in {SECONDS} s")
            self.rest += os.read(self.read, 2**20)
        text, _, self.rest = self.rest.partition(b"\0")
        return json.loads(text)

    def open(self, page: Path, width: int, height: int, scheme: str) -> None:
        """Loads a file at a width, `dark` or `light`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Page.navigate", url=page.resolve().as_uri())
        self.run("new Promise(r => document.readyState === 'complete' ? r() : addEventListener('load', r))")

    def run(self, code: str) -> Any:
        """The value of an expression on the page."""
        found = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{code}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def screenshot(self, path: Path, **options: Any) -> Path:
        """Writes what is seen as a PNG."""
        path.write_bytes(
            base64.b64decode(self.ask("Page.captureScreenshot", format="png", **options)["data"])
        )
        return path

    def complaints(self) -> list[Any]:
        """What the page has written to the console, thrown, or been refused."""
        self.run("1")
        loud = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event.get("method") in loud]

    def requests(self) -> list[str]:
        """Every address that the page has asked for."""
        sent = [
            event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"
        ]
        return [one["request"]["url"] for one in sent]


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a profile in `folder`, ended at the end."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    flags = f"--headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={folder}"
    with subprocess.Popen(
        ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', CHROMIUM, *flags.split()],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(ours_in, ours_out)
        finally:
            process.kill()
            os.close(ours_in)
            os.close(ours_out)
