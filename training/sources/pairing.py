"""Which mask belongs to which frame, by what the names of their files say."""

from collections import defaultdict
from collections.abc import Iterable

from training.sources.layout import Faults, SourceError

# Up to here, files without a partner are slips, named one by one; more mean a copy that was cut short.
FEW = 10
FEW_SHARE = 0.1

Key = tuple[str, int]  # subject and number


def by_key(named: Iterable[tuple[Key, str]], faults: Faults) -> dict[Key, str]:
    """The file of each key, in the keys' order. Two files that claim one key are faults, both of them."""
    claims: dict[Key, list[str]] = defaultdict(list)
    for key, file in named:
        claims[key].append(file)
    for files in claims.values():
        if len(files) > 1:
            for file in files:
                reason = f"claims the same frame or mask as another file ({', '.join(files)})"
                faults.add(SourceError(file, reason, "Remove all but one."))
    return {key: claims[key][0] for key in sorted(claims) if len(claims[key]) == 1}


def paired(frames: dict[Key, str], masks: dict[Key, str], where: str, faults: Faults) -> list[tuple[Key, str, str]]:
    """Key, frame's file and mask's file of each pair; a file without a partner is a fault."""
    lonely = frames.keys() ^ masks.keys()
    if len(lonely) > max(FEW, FEW_SHARE * len(frames.keys() | masks.keys())):
        reason = f"is half-empty: {len(frames)} frames, {len(masks)} masks, {len(lonely)} of them without a partner"
        faults.add(SourceError(where, reason, "Copy or download it anew."))
    for key in sorted(lonely):
        if key in frames:
            remedy = "Copy its mask too, or remove the frame."
            faults.add(SourceError(frames[key], "is a frame without a mask", remedy))
        else:
            remedy = "Copy its frame too, or remove the mask."
            faults.add(SourceError(masks[key], "is a mask without a frame", remedy))
    return [(key, frames[key], masks[key]) for key in frames if key in masks]
