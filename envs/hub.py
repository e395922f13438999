"""Whether the Hugging Face hub can be reached: asked once, in two seconds, where its clients would retry for thirty."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

SECONDS = 2.0


def why_offline() -> str:
    """Why the hub cannot be reached, or nothing. Takes at most two seconds."""
    from huggingface_hub import constants, get_session

    answer = [f"no answer from {constants.ENDPOINT} within {SECONDS:g} s"]

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=SECONDS)
            answer[0] = ""
        except Exception as error:  # whatever a proxy, a name server and a client can raise
            answer[0] = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")

    asking = Thread(target=ask, daemon=True)  # looking a name up takes its own time, which no timeout ends
    asking.start()
    asking.join(SECONDS)
    return answer[0]


@contextmanager
def from_cache_only(offline: bool) -> Iterator[None]:
    """Where `offline`, the hub's clients use what they have, as with HF_HUB_OFFLINE=1 in the environment."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if offline:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
