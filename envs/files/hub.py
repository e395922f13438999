"""Finds out whether the Hugging Face hub can be reached, by one request of at most two seconds.

The hub's own clients would retry for thirty seconds. `datasets.py` downloads from the hub.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

SECONDS = 2.0


def why_offline() -> str:
    """Why the hub cannot be reached, "" if it can. Takes at most two seconds."""
    from huggingface_hub import constants, get_session

    reason = f"no answer from {constants.ENDPOINT} within {SECONDS:g} s"

    def ask() -> None:
        """Sets `reason` to "" if the hub answers, else to the error."""
        nonlocal reason
        try:
            get_session().head(constants.ENDPOINT, timeout=SECONDS)
            reason = ""
        except Exception as error:  # whatever a proxy, a name server and a client can raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")

    # A thread can be left behind when the time is up: `timeout` does not limit how long a name server takes.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS)
    return reason


@contextmanager
def from_cache_only(offline: bool) -> Iterator[None]:
    """If `offline`, the hub's clients use only what they have downloaded, as with HF_HUB_OFFLINE=1 set."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if offline:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
