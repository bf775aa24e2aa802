"""Whether the hub can be reached, found out within ``LIMIT`` seconds.

Where it cannot, its client would try every single file for half a minute and log each attempt. So
it is told to work from its cache, as with ``HF_HUB_OFFLINE=1``, until the hub is there again.
"""

from __future__ import annotations

import logging
import queue
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

LIMIT = 1.5
"""Seconds to look up the address and to connect; a hub that answers takes a tenth of that."""


class _State:
    lost = False
    """Whether the client is offline because of what was found here."""


def find_hub() -> bool:
    """Whether the hub can be asked; if not, its client is offline afterwards.

    Where the user has set HF_HUB_OFFLINE, nothing is tried.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and not _State.lost:
        return False
    _set_offline(not _connects(constants.ENDPOINT))
    return not _State.lost


def is_lost() -> bool:
    """Whether the hub could not be reached when it was last looked for."""
    return _State.lost


def _set_offline(lost: bool) -> None:
    from huggingface_hub import constants

    _State.lost = constants.HF_HUB_OFFLINE = lost
    if "datasets" in sys.modules:  # it has read the constant when it was imported
        from datasets import config  # waits where another thread is still importing it

        config.HF_HUB_OFFLINE = lost


@contextmanager
def quiet_client() -> Iterator[None]:
    """Keep the notices of the hub's client out of the output: what goes wrong is said once."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(before)


def _connects(endpoint: str) -> bool:
    """Whether something accepts a connection at the address, or at the proxy in between."""
    url = urlsplit(endpoint)
    host = url.hostname or ""
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    found: queue.SimpleQueue[bool] = queue.SimpleQueue()
    place = (url.hostname or "", url.port or (80 if url.scheme == "http" else 443))
    # A thread, because looking up a name has no time limit of its own.
    threading.Thread(target=_try_all, args=(*place, found), daemon=True).start()
    try:
        return found.get(timeout=LIMIT)
    except queue.Empty:
        return False


def _try_all(host: str, port: int, found: queue.SimpleQueue[bool]) -> None:
    """Connect to all addresses of a host at once; the first that accepts counts."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        addresses = []
    tries = [
        threading.Thread(target=_try, args=(*address[:3], address[4], found), daemon=True)
        for address in addresses
    ]
    for one in tries:
        one.start()
    for one in tries:
        one.join()
    found.put(False)


def _try(
    family: int, kind: int, protocol: int, address: Any, found: queue.SimpleQueue[bool]
) -> None:
    try:
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(LIMIT)
            connection.connect(address)
            found.put(True)
    except OSError:
        return
