from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from hack import stub_cuda
from hack.stub_cuda import Library, Symbol

ROOT = Path(__file__).resolve().parents[3]
LISTING = """
 0x0000000000000001 (NEEDED)             Shared library: [libcublas.so.13]
 0x0000000000000001 (NEEDED)             Shared library: [libcudart.so.13]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
  000000: Version: 1  File: libcublas.so.13  Cnt: 1
  0x0010:   Name: libcublas.so.13  Flags: none  Version: 4
     1: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND cublasCreate_v2@libcublas.so.13 (4)
     2: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND ncclRecv
     3: 0000000000001234    16 FUNC    GLOBAL DEFAULT   12 at_own_function
     4: 0000000000001234    16 FUNC    LOCAL  DEFAULT   12 hidden
"""


def test_what_the_loader_wants_is_read_from_the_listing() -> None:
    found = stub_cuda.parse_elf(LISTING)
    assert found.needed == ["libcublas.so.13", "libcudart.so.13", "libc.so.6"]
    assert found.owners == {"libcublas.so.13": "libcublas.so.13"}
    assert found.symbols == [
        Symbol("cublasCreate_v2", "libcublas.so.13", defined=False),
        Symbol("ncclRecv", "", defined=False),
        Symbol("at_own_function", "", defined=True),
    ]


def test_only_missing_nvidia_libraries_are_planned() -> None:
    planned = stub_cuda.plan([stub_cuda.parse_elf(LISTING)], present=set())
    assert planned == {
        "libcublas.so.13": {"libcublas.so.13": {"cublasCreate_v2"}, "": {"ncclRecv"}}
    }
    assert stub_cuda.plan([stub_cuda.parse_elf(LISTING)], present={"libcublas.so.13"}) == {}


@pytest.mark.parametrize(
    ("soname", "stubbed"),
    [
        ("libcublasLt.so.13", True),
        ("libnccl.so.2", True),
        ("libnvshmem_host.so.3", True),
        ("libcudart.so.13", False),
        ("libcuda.so.1", False),
        ("libcurl.so.4", False),
        ("libc10_cuda.so", False),
    ],
)
def test_driver_runtime_and_strangers_are_never_stubbed(soname: str, *, stubbed: bool) -> None:
    assert stub_cuda.is_stubbed(soname) == stubbed


@pytest.mark.skipif(sys.platform != "linux", reason="the linker's version scripts are Linux's")
def test_a_stub_reports_no_device(tmp_path: Path) -> None:
    stub_cuda.compile_stub("libcunothing.so.1", {"V_1": {"cuNothing"}, "": {"cuPlain"}}, tmp_path)
    loaded = ctypes.CDLL(str(tmp_path / "libcunothing.so.1"))
    assert (loaded.cuNothing(), loaded.cuPlain()) == (100, 100)
    assert [file.name for file in tmp_path.iterdir()] == ["libcunothing.so.1"]


def fake_torch(tmp_path: Path, cuda: str) -> Path:
    library = tmp_path / "torch" / "lib"
    library.mkdir(parents=True)
    version = f"__version__ = '2.15.0'\ncuda: Optional[str] = {cuda}\n"
    (tmp_path / "torch" / "version.py").write_text(version)
    return tmp_path


def test_a_torch_that_was_not_built_for_cuda_is_left_alone(tmp_path: Path) -> None:
    site = fake_torch(tmp_path, "None")
    assert "not built for CUDA" in stub_cuda.make_stubs(site) or sys.platform != "linux"
    assert not list((site / "torch" / "lib").iterdir())


def test_a_folder_without_torch_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "hack/stub_cuda.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"stub_cuda: no torch in {tmp_path}: install the requirements first\n"


def test_a_symbol_that_torch_defines_itself_is_not_stubbed() -> None:
    asks = Library(["libnccl.so.2"], {}, [Symbol("ncclOwn", "", defined=False)])
    gives = Library([], {}, [Symbol("ncclOwn", "", defined=True)])
    assert stub_cuda.plan([asks, gives], present=set()) == {"libnccl.so.2": {}}
