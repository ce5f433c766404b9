"""Who may ask: named API keys, of which only the hashes are stored.

    NERVEMASK_KEYS=keys.txt python -m service.keys add NAME      prints a new key, once
    NERVEMASK_KEYS=keys.txt python -m service.keys remove NAME

The file holds a line `name sha256` for each key, and is read again when it changes: keys come and go while the service
runs. A key is 256 random bits, which nobody guesses, so a plain hash is enough, and none has to be slow.
"""

import argparse
import asyncio
import hashlib
import hmac
import ipaddress
import logging
import math
import os
import re
import secrets
import stat
import sys
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("bentoml.nervemask")

LINE = re.compile(r"([\w.@-]{1,64})\s+([0-9a-f]{64})")
REMEDY = (
    "make a key (NERVEMASK_KEYS=keys.txt python -m service.keys add NAME) and name its file in NERVEMASK_KEYS, "
    "or set NERVEMASK_OPEN=yes to let everybody ask"
)
FREE_TRIES = 5  # with wrong keys, before a client is told to wait
LONGEST_PAUSE_SECONDS = 60
SLOWED_SECONDS = 1.0  # for which a client that was told to wait is kept waiting, whatever it does
FORGOTTEN_SECONDS = 600  # after the last wrong key
CLIENTS = 4096  # whose wrong keys are remembered: the latest


class KeysError(Exception):
    """No keys that could be held against; the message says why and what to do."""


def keys_file() -> Path | None:
    """NERVEMASK_KEYS; None where everybody may ask, because NERVEMASK_OPEN=yes says so. Raises KeysError."""
    if path := os.environ.get("NERVEMASK_KEYS"):
        return Path(path)
    if os.environ.get("NERVEMASK_OPEN") == "yes":
        return None
    raise KeysError(f"nobody may ask without a key, and there are none: {REMEDY}.")


def check() -> None:
    """Raises KeysError where the service would start and nobody could ask."""
    if (path := keys_file()) and not read(path):
        raise KeysError(f"{path} holds no key: add one with `python -m service.keys add NAME`.")


def read(path: Path) -> dict[str, str]:
    """Each name's hash. Raises KeysError, which names the line."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise KeysError(f"the keys in {path} cannot be read ({fault}): {REMEDY}.") from fault
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        fits = LINE.fullmatch(line.strip())
        if not fits or fits[1] in found:
            why = "has a name that was there before" if fits else "is not `name sha256`"
            raise KeysError(f"line {number} of {path} {why}: let `python -m service.keys` write that file.")
        found[fits[1]] = fits[2]
    return found


class Keys:
    """The keys of a file, as they are now. A file that is spoilt while the service runs changes nothing."""

    def __init__(self, path: Path):
        self.path = path
        self.state: tuple[int, ...] | None = None
        self.hashes: dict[str, str] = {}

    def name_of(self, key: str) -> str | None:
        """Whose key this is. Every hash is compared, each in constant time: how long it takes tells nothing."""
        self._refresh()
        digest = _hash(key)
        names = [name for name, known in self.hashes.items() if hmac.compare_digest(known, digest)]
        return names[0] if names else None

    def _refresh(self) -> None:
        try:
            now = self.path.stat()
            state = (now.st_mtime_ns, now.st_ctime_ns, now.st_size, now.st_ino)  # ctime: what could not be read now can
            if state == self.state:
                return
            self.state = state
            self.hashes = read(self.path)
            log.info("%d keys in %s", len(self.hashes), self.path)
        except (OSError, KeysError) as fault:
            log.error("the keys stay as they were: %s", fault)


class Failures:
    """Wrong keys by client. A right key is never made to wait for them: many clients may share an address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.seen: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, and time of the last

    def pause(self, client: str) -> float:
        """Counts one more of this client; the seconds it has to wait from now on, 0 for the first few."""
        client, now = _network(client), self.clock()
        count, last = self.seen.pop(client, (0, now))
        count = 1 if now - last > FORGOTTEN_SECONDS else count + 1
        self.seen[client] = count, now
        if len(self.seen) > CLIENTS:
            self.seen.popitem(last=False)
        return min(2.0 ** (count - FREE_TRIES), LONGEST_PAUSE_SECONDS) if count > FREE_TRIES else 0


class Locked:
    """ASGI middleware: without a right key nothing but the probes answers. Fails closed where there are no keys."""

    def __init__(self, app: "ASGIApp"):
        self.app = app
        self.failures = Failures()
        try:
            path = keys_file()
            self.keys = Keys(path) if path else None
            self.open = path is None
        except KeysError:
            self.keys, self.open = None, False

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from service.accounts.metrics import KEY_FAILURES
        from service.guard import PROBES  # the commands start without them
        from service.refusals import error_response

        if scope["type"] not in ("http", "websocket") or self.open or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        key = _key_of(scope)
        name = self.keys.name_of(key) if self.keys and key else None
        if name:
            scope.setdefault("state", {})["who"] = name
        if name or (scope["path"] == "/metrics" and os.environ.get("NERVEMASK_METRICS") == "open"):
            await self.app(scope, receive, send)
            return
        # A browser that meets this asks its user, and sends the key as the password from then on.
        headers = {"www-authenticate": 'Basic realm="Nervemask: the key is the password"'}
        status, code, message = 401, "key", "Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
        if key:
            KEY_FAILURES.inc()
            message = "This key is not known."
            if pause := self.failures.pause((scope.get("client") or ("",))[0]):
                status, code, headers = 429, "wrong_keys", {"retry-after": str(math.ceil(pause))}
                message = f"Too many wrong keys: the next may be tried in {pause:.0f} seconds."
                await asyncio.sleep(min(pause, SLOWED_SECONDS))
        await error_response(status, code, message, **headers)(scope, receive, send)


def _key_of(scope: "Scope") -> str:
    """The key that came with a request; empty without one."""
    headers = {name: value.decode("latin-1").strip() for name, value in scope["headers"]}
    scheme, _, rest = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(rest, validate=True).decode().partition(":")[2]
        except ValueError:
            return rest
    return headers.get(b"x-api-key", "")


def _network(client: str) -> str:
    """What one client has to itself: an IPv4 address, or the 64 bits of an IPv6 network (RFC 6177)."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else client


def key_header() -> dict[str, str]:
    """What a client of the service sends with every request: the key in NERVEMASK_KEY, if there is one."""
    key = os.environ.get("NERVEMASK_KEY")
    return {"x-api-key": key} if key else {}


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(path: Path, hashes: dict[str, str]) -> None:
    """The whole file or nothing, for its owner's eyes, or for whom it was before. Raises OSError."""
    new, mode = path.with_name(f".{path.name}.new"), stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.writelines(f"{name} {digest}\n" for name, digest in hashes.items())
        os.fchmod(file.fileno(), mode)  # in a container, another user may have to read it
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.keys", description="The keys in NERVEMASK_KEYS.")
    parser.add_argument("do", choices=("add", "remove", "list"))
    parser.add_argument("name", nargs="?", help="whose key: letters, digits, and _ . @ -")
    arguments = parser.parse_args()
    if not os.environ.get("NERVEMASK_KEYS"):
        parser.error("NERVEMASK_KEYS names the file of keys: set it first")
    path, name = Path(os.environ["NERVEMASK_KEYS"]), arguments.name or ""
    try:
        hashes = read(path) if path.exists() else {}
        if arguments.do == "list":
            print(*hashes, sep="\n")
            return
        if (name in hashes) == (arguments.do == "add"):
            sys.exit(f"nervemask: {path} holds {'a' if name in hashes else 'no'} key of {name!r}.")
        if arguments.do == "remove":
            del hashes[name]
        else:
            if not LINE.fullmatch(f"{name} {'0' * 64}"):
                parser.error("a name is of letters, digits, and _ . @ -, 64 at most")
            key = secrets.token_urlsafe(32)
            hashes[name] = _hash(key)
        write(path, hashes)
    except (KeysError, OSError) as fault:
        sys.exit(f"nervemask: {fault}")
    if arguments.do == "add":
        print(key)


if __name__ == "__main__":
    main()
