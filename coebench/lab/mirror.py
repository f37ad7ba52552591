"""Where Debian's packages come from: the sources of one suite, whatever suite or distribution the machine itself has.

The lab's trees are of one suite of Debian on every machine. If the machine's apt has that suite, its own sources are used. If it
has another suite of Debian, the same mirror is asked for the tree's suite, and signatures are checked with Debian's archive keys.
Elsewhere the user names a mirror: COEBENCH_MIRROR.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from ..contract import BadInput

MIRROR = "COEBENCH_MIRROR"
KEYRING = "COEBENCH_KEYRING"
KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")
BRANCHES = ("", "-updates", "-security")  # of a stable suite; what follows its name in a source
STABLE = ("bullseye", "bookworm", "trixie")  # suites that have all of them; a suite in the making has itself alone


class Source(msgspec.Struct, frozen=True):
    """One source of packages. `keyring`: the file that its signature is checked with; empty: what the machine's apt trusts."""

    uri: str
    suite: str
    keyring: str = ""

    def line(self, kind: str = "deb") -> str:
        """Its line in a sources.list; `kind` is "deb" or "deb-src"."""
        signed = f"[signed-by={self.keyring}] " if self.keyring else ""
        return f"{kind} {signed}{self.uri} {self.suite} main"


def named(suite: str, given: str) -> list[Source]:
    """The sources of a suite on mirrors that the user named: URIs with blanks between. One that ends in "-security" holds the
    security updates. Raises BadInput for what is no URI, and if there are no keys to check signatures with."""
    found = []
    for uri in given.split():
        if not re.match(r"[a-z][a-z+]*:/+\w", uri):
            raise BadInput(
                f"{MIRROR}: '{redacted(uri)}' is not a URI: name a mirror of Debian, such as {MIRROR}=https://HOST/debian"
            )
        branch = "-security" if uri.rstrip("/").endswith("-security") else ""
        found.append(Source(uri, suite + branch, keyring(suite)))
    if not any(source.suite == suite for source in found):
        raise BadInput(f"{MIRROR} names no mirror of Debian itself, only of its security updates: name both")
    return found


def derived(suite: str, configured: str) -> list[Source]:
    """The sources of a suite, from what the machine's apt is configured with. `configured` has a line a source: URI, suite as the
    source names it, code name, component and origin, with "|" between. Empty if no source is Debian's. Raises BadInput if there
    are no keys to check another suite's signatures with."""
    lines = [words for line in configured.splitlines() if len(words := line.split("|")) == 5]
    # a source may say "stable": the code name is what its Release file says
    debian = sorted({(uri, name or given) for uri, given, name, part, origin in lines if (part, origin) == ("main", "Debian")})
    own = [Source(uri, name) for uri, name in debian if name.removeprefix(suite) in BRANCHES]
    if any(source.suite == suite for source in own):
        return own
    bases = [name for _, name in debian if "-" not in name]
    if not bases:
        return []
    base, signed = bases[0], keyring(suite)
    return [
        Source(uri, suite + name.removeprefix(base), signed)
        for uri, name in debian
        if name.startswith(base) and name.removeprefix(base) in (BRANCHES if suite in STABLE else ("",))
    ]


def keyring(suite: str) -> str:
    """The file with the keys that Debian's suites are signed with. Raises BadInput if this machine has none."""
    given = os.environ.get(KEYRING, "")
    if given and not Path(given).is_file():
        raise BadInput(f"{KEYRING}={given} is not a file: name one that holds Debian's archive keys")
    for file in (given, *KEYRINGS):
        if file and Path(file).is_file():
            return str(Path(file).absolute())
    raise BadInput(
        f"Debian {suite}'s signatures can't be checked: this machine lacks Debian's archive keys. Install the package "
        f"debian-archive-keyring (Fedora: debian-keyring), or name a file of keys with {KEYRING}"
    )


_USERINFO = re.compile(r"(?<=//)[^/@\s]+@")


# What apt says of a mirror that can't be used, and what to do about it.
_ADVICE = (
    (
        r"NO_PUBKEY|Missing key|no longer signed",
        "this machine's keys don't check the signature of {suite}: 'apt-get install debian-archive-keyring' brings "
        "today's; for a mirror with keys of its own, set COEBENCH_KEYRING=FILE",
    ),
    (
        r"is expired|Valid-Until|invalid since",
        "the mirror's index is past its date, so the mirror stands still or this machine's clock is ahead: set the clock, or "
        "name another mirror with COEBENCH_MIRROR=URI",
    ),
    (r"is not valid yet", "this machine's clock is behind the mirror's index: set the clock"),
    (
        r"does not have a Release file|no longer has a Release file|404 +Not Found|Unable to (locate|find a source)",
        "the mirror lacks {suite} or a part of it: name one that has it with COEBENCH_MIRROR=URI",
    ),
    (
        r"Temporary failure resolving|Could not (resolve|connect|handshake)|Network is unreachable|timed out|Cannot initiate",
        "the mirror can't be reached: check network and apt's proxy, or name another mirror with COEBENCH_MIRROR=URI",
    ),
    (r"No space left|enough free space", "the disk is full: make room, or set COEBENCH_CACHE to a folder on another disk"),
)


def explained(errors: str, suite: str) -> str:
    """What to do about errors of apt, in one sentence; empty if they say nothing that is known here. `suite`: what was asked for,
    such as "Debian bookworm"."""
    return next((advice.format(suite=suite) for said, advice in _ADVICE if re.search(said, errors, re.I)), "")


def redacted(text: str) -> str:
    """A text without users and passwords of URIs."""
    return _USERINFO.sub("", text)
