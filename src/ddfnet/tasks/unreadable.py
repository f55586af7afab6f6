"""Images that cannot be read: reported once, and remembered for the summary of a run."""

import sys
from collections.abc import Iterable


def note(known: set[str], unreadable: Iterable[str]) -> None:
    """Add the names to those known, and report new ones on stderr, in the process that found them."""
    new = set(unreadable) - known
    known |= new
    if new:
        print(f"cannot be read, left out: {shown(new)}", file=sys.stderr, flush=True)


def shown(names: Iterable[str]) -> str:
    """Write the names into a sentence: how many there are, and the first five."""
    listed = sorted(names)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return f"{len(listed)} image{'s' * (len(listed) > 1)}: {', '.join(listed[:5])}{more}"
