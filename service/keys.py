"""`python -m service.keys`: add, remove and list the API keys in the file that NERVEMASK_KEYS names."""

import argparse
import os
import secrets
import sys
from pathlib import Path

from service.api.api_key_file import ApiKeysError, hash_key, is_key_name, read_key_hashes, write_key_hashes


def main() -> None:
    """Run the command: `add` prints the new key once, `list` prints the names."""
    parser = argparse.ArgumentParser(
        prog="python -m service.keys", description="Manage the API keys in the file that NERVEMASK_KEYS names."
    )
    parser.add_argument("command", choices=("add", "remove", "list"))
    parser.add_argument("name", nargs="?", default="", help="name of the key: 1 to 64 letters, digits, and _ . @ -")
    arguments = parser.parse_args()
    if not os.environ.get("NERVEMASK_KEYS"):
        parser.error("set NERVEMASK_KEYS to the file of keys")
    path = Path(os.environ["NERVEMASK_KEYS"])
    try:
        hashes = read_key_hashes(path) if path.exists() else {}
        if arguments.command == "list":
            print(*hashes, sep="\n")
        elif arguments.command == "remove":
            _remove(path, hashes, arguments.name)
        elif arguments.name not in hashes and not is_key_name(arguments.name):
            parser.error("a name has 1 to 64 letters, digits, and _ . @ -")
        else:
            print(_add(path, hashes, arguments.name))
    except (ApiKeysError, OSError) as error:
        sys.exit(f"nervemask: {error}")


def _add(path: Path, hashes: dict[str, str], name: str) -> str:
    """Write a new key's hash to the file and return the key. Raises KeysError for a name that has a key."""
    if name in hashes:
        raise ApiKeysError(f"{path} already has a key {name!r}.")
    key = secrets.token_urlsafe(32)
    write_key_hashes(path, {**hashes, name: hash_key(key)})
    return key


def _remove(path: Path, hashes: dict[str, str], name: str) -> None:
    """Write the file without the key. Raises KeysError for a name without a key."""
    if name not in hashes:
        raise ApiKeysError(f"{path} has no key {name!r}.")
    write_key_hashes(path, {kept: key_hash for kept, key_hash in hashes.items() if kept != name})


if __name__ == "__main__":
    main()
