"""Let a CUDA build of torch load on a machine without NVIDIA's libraries, for work on the CPU.

PyPI's Linux torch links against 3 GB of NVIDIA libraries that a machine without such a GPU
never calls: the loader only wants their names. This writes one small library for each missing
one into `torch/lib`, with the symbols and versions that torch asks for; every function returns
100, CUDA's "no device". `libcudart` has to be the real one (7 MB), because torch does call it.

Usage: python hack/stub_cuda.py <site-packages>
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANIFEST = "stub_cuda.json"
STUBBED = re.compile(
    r"lib(cu(blas|dnn|dss|fft|file|pti|rand|solver|sparse)|nccl|nv)\w*\.so(\.\d+)*"
)
UNVERSIONED = re.compile(
    r"(cu[A-Z]|cu(blas|dnn|fft|rand|solver|sparse|File|pti)|nccl|nvrtc|nvshmem)"
)


class StubError(Exception):
    """Says in one line why the stubs cannot be made and what to do."""


@dataclass(frozen=True)
class Symbol:
    """One dynamic symbol of a library; `version` is empty where it carries none."""

    name: str
    version: str
    defined: bool


@dataclass
class Library:
    """What the loader wants from one shared object."""

    needed: list[str] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    symbols: list[Symbol] = field(default_factory=list)


def parse_elf(text: str) -> Library:
    """Read the output of `readelf -W -d -V --dyn-syms`."""
    library, owner = Library(), ""
    for line in text.splitlines():
        if found := re.search(r"\(NEEDED\).*\[(.+)\]", line):
            library.needed.append(found[1])
        elif found := re.search(r"Version: \d+\s+File: (\S+)\s+Cnt:", line):
            owner = found[1]
        elif found := re.search(r"Name: (\S+)\s+Flags: \S+\s+Version: \d+", line):
            library.owners[found[1]] = owner
        elif symbol := parse_symbol(line):
            library.symbols.append(symbol)
    return library


def parse_symbol(line: str) -> Symbol | None:
    """Read one line of the symbol table; None for any other line."""
    found = re.match(r"\s*\d+: [0-9a-f]+\s+\S+\s+\S+\s+(GLOBAL|WEAK)\s+\S+\s+(\S+)\s+(\S+)", line)
    if not found:
        return None
    name, _, version = found[3].partition("@")
    return Symbol(name, version.lstrip("@"), found[2] != "UND")


def plan(libraries: Iterable[Library], present: set[str]) -> dict[str, dict[str, set[str]]]:
    """Give soname -> version -> symbol names for every library that is wanted but not there."""
    seen = list(libraries)
    missing = {n for lib in seen for n in lib.needed if is_stubbed(n) and n not in present}
    if not missing:
        return {}
    stubs: dict[str, dict[str, set[str]]] = {name: defaultdict(set) for name in sorted(missing)}
    defined = {s.name for lib in seen for s in lib.symbols if s.defined}
    first = next(iter(stubs))
    for symbol, owner in undefined(seen):
        if owner in stubs:
            stubs[owner][symbol.version].add(symbol.name)
        elif not symbol.version and symbol.name not in defined and UNVERSIONED.match(symbol.name):
            stubs[first][""].add(symbol.name)
    return stubs


def is_stubbed(soname: str) -> bool:
    """Tell NVIDIA's libraries from the rest; the driver and the runtime are never stubbed."""
    return bool(STUBBED.fullmatch(soname))


def undefined(libraries: Iterable[Library]) -> Iterator[tuple[Symbol, str]]:
    """Yield each undefined symbol with the library that its version names."""
    for library in libraries:
        for symbol in library.symbols:
            if not symbol.defined:
                yield symbol, library.owners.get(symbol.version, "")


def source_of(names: Iterable[str]) -> str:
    """Write the C source: a function that reports 'no device' for each name."""
    return "".join(f"int {name}(void) {{ return 100; }}\n" for name in sorted(set(names)))


def version_script(versions: dict[str, set[str]]) -> str:
    """Write the linker's version script; an unversioned symbol needs no entry."""
    blocks = (
        f"{tag} {{ global: {' '.join(f'{n};' for n in sorted(names))} }};\n"
        for tag, names in sorted(versions.items())
        if tag
    )
    return "".join(blocks)


def compile_stub(soname: str, versions: dict[str, set[str]], out: Path) -> None:
    """Compile one stub and move it into place in one step."""
    with tempfile.TemporaryDirectory(dir=out) as folder:
        code, script, made = (Path(folder, n) for n in ("stub.c", "stub.map", "stub.so"))
        code.write_text(source_of(n for names in versions.values() for n in names))
        script.write_text(version_script(versions))
        command = ["gcc", "-shared", "-nostdlib", "-fPIC", "-w", "-fno-builtin", str(code)]
        command += [f"-Wl,-soname,{soname}", "-o", str(made)]
        command += [f"-Wl,--version-script={script}"] if script.stat().st_size else []
        run(command)
        made.chmod(0o755)
        made.replace(out / soname)


def run(command: list[str]) -> str:
    """Run a tool and give its output; a failure carries the tool's own last words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StubError(f"{command[0]} failed: {done.stderr.strip()[-400:]}")
    return done.stdout


def cuda_version(torch: Path) -> str | None:
    """Read the CUDA version that this torch was built for, without importing it."""
    text = (torch / "version.py").read_text()
    found = re.search(r"^cuda\b.*=\s*'([\d.]+)'", text, re.MULTILINE)
    return found[1] if found else None


def torch_version(torch: Path) -> str:
    """Read the full version: stubs made for another build may lack symbols."""
    found = re.search(r"__version__ = '(.+)'", (torch / "version.py").read_text())
    return found[1] if found else "unknown"


def present_libraries(site: Path) -> set[str]:
    """Name every shared object that torch's search path can find."""
    folders = [site / "torch" / "lib", *(site / "nvidia").glob("**/lib")]
    return {file.name for folder in folders for file in folder.glob("*.so*")}


def own_stubs(lib: Path) -> tuple[str, set[str]]:
    """Give the torch version and the names of the stubs that an earlier run left."""
    try:
        kept = json.loads((lib / MANIFEST).read_text())
        return str(kept["torch"]), set(kept["stubs"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", set()


def needs_tools() -> None:
    """Refuse early, in one line, where the compiler or the ELF reader is missing."""
    absent = [tool for tool in ("gcc", "readelf") if not shutil.which(tool)]
    if absent:
        raise StubError(f"{' and '.join(absent)} not found: install the packages gcc and binutils")


def make_stubs(site: Path) -> str:
    """Write what is missing and say in one line what was done."""
    torch = site / "torch"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "no stubs needed: not Linux on x86-64"
    if not (torch / "version.py").is_file():
        raise StubError(f"no torch in {site}: install the requirements first")
    if cuda_version(torch) is None:
        return "no stubs needed: this torch was not built for CUDA"
    version, old = own_stubs(torch / "lib")
    present = present_libraries(site)
    if version == torch_version(torch) and old <= present:
        return f"{len(old)} stub libraries are in place"
    return write_stubs(torch, present - old)


def write_stubs(torch: Path, present: set[str]) -> str:
    """Build the stubs and record them, so that the next run is a look at one file."""
    needs_tools()
    lib = torch / "lib"
    stubs = plan((parse_elf(read_elf(file)) for file in sorted(lib.glob("lib*.so"))), present)
    if not stubs:
        return "no stubs needed: NVIDIA's libraries are installed"
    # The record comes first: after a crash in between, the names it lists are known as stubs.
    kept = lib / f".{MANIFEST}"
    kept.write_text(json.dumps({"torch": torch_version(torch), "stubs": sorted(stubs)}) + "\n")
    kept.replace(lib / MANIFEST)
    for soname, versions in stubs.items():
        compile_stub(soname, versions, lib)
    return f"wrote {len(stubs)} stub libraries to {lib}"


def read_elf(file: Path) -> str:
    """List what a shared object needs, its version table and its symbols."""
    return run(["readelf", "-W", "-d", "-V", "--dyn-syms", str(file)])


def main(arguments: list[str]) -> int:
    """Parse the one argument; 2 is a wrong call or a missing tool."""
    if len(arguments) != 1:
        print("usage: python hack/stub_cuda.py <site-packages>", file=sys.stderr)
        return 2
    try:
        print(f"stub_cuda: {make_stubs(Path(arguments[0]))}")
    except StubError as error:
        print(f"stub_cuda: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
