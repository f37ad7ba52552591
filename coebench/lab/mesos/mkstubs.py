"""mkstubs.py LIBRARY FOLDER: write the C sources of what LIBRARY needs and Debian 12 no longer has.

- OpenSSL 1.0 (libssl.so.1.0.0, libcrypto.so.1.0.0): every function ends the process.  The lab runs with TLS off,
  and libprocess calls none of them then.
- libcurl.so.4 with the symbol version CURL_OPENSSL_3: every function passes its call on to Debian's libcurl.

The names and versions are read from the library itself, so that nothing is stubbed that is not asked for.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

OPENSSL = ("OPENSSL_1.0.0", "OPENSSL_1.0.1", "OPENSSL_1.0.2")  # each node inherits the one before
CURL = "CURL_OPENSSL_3"
REAL_CURL = "/usr/lib/x86_64-linux-gnu/libcurl.so.4"


def undefined(library: str) -> dict[str, list[str]]:
    """The undefined functions of ``library`` by symbol version."""
    table = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout
    names: dict[str, list[str]] = {}
    for name, version in re.findall(r"\bU (\w+)@+([\w.]+)", table):
        names.setdefault(version, []).append(name)
    return {version: sorted(set(found)) for version, found in names.items()}


def openssl(names: dict[str, list[str]]) -> tuple[str, str]:
    """Source and linker map of the OpenSSL stub."""
    source = [
        "#include <stdio.h>",
        "#include <stdlib.h>",
        "static void gone(const char *name) {",
        '  fprintf(stderr, "coebench: %s of OpenSSL 1.0 was called, but TLS is off in the lab\\n", name);',
        "  abort();",
        "}",
    ]
    nodes, before = [], ""
    for version in OPENSSL:
        found = names.get(version, [])
        source += [f'void {name}(void) {{ gone("{name}"); }}' for name in found]
        exported = "global: " + "; ".join(found) + "; " if found else ""
        hidden = "" if before else "local: *; "
        nodes.append(f"{version} {{ {exported}{hidden}}} {before};")
        before = version
    return "\n".join(source) + "\n", "\n".join(nodes) + "\n"


def curl(names: list[str]) -> tuple[str, str]:
    """Source and linker map of the libcurl forwarder."""
    source = [
        "#include <dlfcn.h>",
        "#include <stdio.h>",
        "#include <stdlib.h>",
        "static void *real(const char *name) {",
        "  static void *library;",
        f'  if (!library) library = dlopen("{REAL_CURL}", RTLD_NOW | RTLD_LOCAL);',
        "  void *found = library ? dlsym(library, name) : 0;",
        f'  if (!found) {{ fprintf(stderr, "coebench: no %s in {REAL_CURL}\\n", name); abort(); }}',
        "  return found;",
        "}",
        "typedef long call(void *, long, void *, ...);  /* as many arguments as any of them has */",
    ]
    source += [f'long {n}(void *a, long b, void *c) {{ return ((call *)real("{n}"))(a, b, c); }}' for n in names]
    return "\n".join(source) + "\n", f"{CURL} {{ global: curl_*; local: *; }};\n"


def main() -> None:
    library, folder = sys.argv[1], Path(sys.argv[2])
    names = undefined(library)
    for name, (source, linker_map) in {"ssl": openssl(names), "curl": curl(names[CURL])}.items():
        (folder / f"{name}.c").write_text(source)
        (folder / f"{name}.map").write_text(linker_map)


if __name__ == "__main__":
    main()
