"""Named API keys in a file that stores only their hashes.

The file has one line `name sha256` per key. A running service reads the file again when it changes, so keys can be
added and removed without a restart. A key has 256 random bits, too many to guess, so a fast hash without a salt is
enough.
"""

import hashlib
import hmac
import logging
import os
import re
import stat
from pathlib import Path

log = logging.getLogger("bentoml.nervemask")

KEY_NAME = re.compile(r"[\w.@-]{1,64}")
KEY_LINE = re.compile(rf"({KEY_NAME.pattern})\s+([0-9a-f]{{64}})")
REMEDY = (
    "create a key (NERVEMASK_KEYS=keys.txt python -m service.keys add NAME) and set NERVEMASK_KEYS to its file, "
    "or set NERVEMASK_OPEN=yes to allow requests without a key"
)


class ApiKeysError(Exception):
    """The API keys are missing or unusable. The message says why and what to do."""


def key_file_path() -> Path | None:
    """Return the path in NERVEMASK_KEYS; None when NERVEMASK_OPEN=yes allows requests without a key.

    Raises KeysError when neither variable is set.
    """
    if path := os.environ.get("NERVEMASK_KEYS"):
        return Path(path)
    if os.environ.get("NERVEMASK_OPEN") == "yes":
        return None
    raise ApiKeysError(f"no API keys are configured: {REMEDY}.")


def check_api_keys() -> None:
    """Raise KeysError when the service would refuse every request."""
    if (path := key_file_path()) and not read_key_hashes(path):
        raise ApiKeysError(f"{path} has no keys: add one with `python -m service.keys add NAME`.")


def read_key_hashes(path: Path) -> dict[str, str]:
    """Return the hash of each key by name. Raises KeysError, which names the file and the line."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ApiKeysError(f"cannot read the API keys in {path} ({error}): {REMEDY}.") from error
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = KEY_LINE.fullmatch(line.strip())
        if not match or match[1] in hashes:
            reason = "repeats the name of an earlier line" if match else "is not `name sha256`"
            raise ApiKeysError(f"line {number} of {path} {reason}: change the file only with `python -m service.keys`.")
        hashes[match[1]] = match[2]
    return hashes


def write_key_hashes(path: Path, hashes: dict[str, str]) -> None:
    """Replace the file in one step.

    A new file is readable by its owner alone; an existing file keeps its mode, because a container may read it as
    another user. Raises OSError.
    """
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.writelines(f"{name} {key_hash}\n" for name, key_hash in hashes.items())
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def hash_key(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_key_name(name: str) -> bool:
    """Return whether a key may have this name: 1 to 64 letters, digits, and _ . @ -"""
    return KEY_NAME.fullmatch(name) is not None


class KeyFile:
    """The keys of a file, as they are now. When the file becomes unreadable or invalid, the last keys stay valid.

    error: why the file cannot be used now; None if it can.
    """

    def __init__(self, path: Path):
        self.path = path
        self.fingerprint: tuple[int, ...] | None = None
        self.hashes: dict[str, str] = {}
        self.error: str | None = None

    def find_name(self, key: str) -> str | None:
        """Return the name of a key; None for an unknown key.

        The time does not depend on the key: every hash is compared, each in constant time.
        """
        self.reload_if_changed()
        key_hash = hash_key(key)
        names = [name for name, known_hash in self.hashes.items() if hmac.compare_digest(known_hash, key_hash)]
        return names[0] if names else None

    def reload_if_changed(self) -> None:
        """Read the file if it has changed or could not be read before."""
        try:
            status = self.path.stat()
            # ctime: after a change of its mode, an unreadable file may be readable.
            fingerprint = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            if fingerprint == self.fingerprint:
                return
            self.hashes = read_key_hashes(self.path)
            self.fingerprint, self.error = fingerprint, None
            log.info("read %d API keys from %s", len(self.hashes), self.path)
        except (OSError, ApiKeysError) as error:
            self.fingerprint = None
            if str(error) != self.error:
                log.error("the API keys stay unchanged: %s", error)
            self.error = str(error)

    def find_problem(self) -> tuple[str, str] | None:
        """Return the kind and the text of what is wrong with the keys; None if nothing is."""
        self.reload_if_changed()
        if not self.hashes:
            return "keys", "there is no valid API key" + (": their file cannot be read" if self.error else "")
        return ("old_keys", "the file of API keys cannot be read: the last keys stay valid") if self.error else None


def warn_if_others_can_write(path: Path) -> None:
    """Log a warning if other users can change the file of keys: they could add a key of their own."""
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.filemode(path.stat().st_mode)
        log.warning("other users can add API keys to %s (%s): run `chmod go-w` on it.", path, mode)
