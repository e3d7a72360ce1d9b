"""CuPy's own code on a simulated CUDA: the real wheel on a machine without a GPU.

Of CuPy everything runs as it is: arrays, ufuncs, reductions, generated and fused kernels, devices, refusals. The
libraries below it are small stand-ins: runtime.cpp (two devices, their memory the host's), compiler.cpp (kernels
compiled by a C++ compiler against kernel.h), cublas.cpp (products as plain loops). They count launches, copies between
host and device, and synchronisations.

**What it can't show.** It is no GPU: no GPU's arithmetic (fused multiply-add, TF32, its exp and log), no speed, and no
concurrency, so that neither a race nor a missing synchronisation shows itself. There is no sort, cuSOLVER, cuRAND,
cuSPARSE, CUB or NCCL; what else CuPy may call and isn't here answers "not supported". It fits CuPy 14.2.0 on Linux.

The first use builds it (a minute; the package index, a C++ compiler, Python's headers) into a folder of its own in the
user's cache, which the tests' environment never sees. The compiler is $CXX, g++, clang++ or else ziglang's.

    eval "$(python -m tests.simulated_cuda)"     # and CuPy runs in this shell
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

CUPY = "14.2.0"
CUDA = 13020
HEADERS = ("nvidia-cuda-runtime", "nvidia-cuda-crt", "nvidia-cuda-cccl", "nvidia-cuda-profiler-api")
TOOLS = ("cython>=3.2,<3.3", "pyelftools>=0.31", "setuptools>=77", "wheel")
SONAMES = ("libcudart.so.13", "libnvrtc.so.13", "libcublas.so.13", "libcublasLt.so.13")  # beside libcuda.so.1
NOT_SUPPORTED = {"cuda": 801, "cublas": 15}
HERE = Path(__file__).parent
SOURCES = ("runtime.cpp", "compiler.cpp", "cublas.cpp")
BUILT_FROM = ("__init__.py", "simulated.h", *SOURCES)


class CannotBuild(Exception):
    """Something that the simulation is made of is missing."""


def compiler() -> list[str]:
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and shutil.which(name):
            return [name]
    if find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise CannotBuild("there is no C++ compiler: neither $CXX nor g++, clang++ or the package ziglang")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def place() -> Path:
    """Where it is kept: another folder for every version of anything that it is made of."""
    parts = [CUPY, sys.implementation.cache_tag, platform.machine(), *compiler()]
    content = b"".join((HERE / name).read_bytes() for name in BUILT_FROM)
    key = digest(content + "\n".join(parts).encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "infonce-ref-tests" / f"simulated-cuda-{key}"


def environment() -> Mapping[str, str]:
    """What the environment of a process must hold for CuPy to run in it; builds what isn't there yet."""
    root = place()
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
            build(Path(scratch) / "built")
            moved(Path(scratch) / "built", root)
    kernels = kernels_of(root)
    return {
        "PYTHONPATH": str(root / "packages"),
        "CUDA_PATH": str(cuda_headers(root).parent),
        "LD_LIBRARY_PATH": str(root / "lib"),
        "CUPY_CACHE_IN_MEMORY": "1",
        "CUPY_ACCELERATORS": "",
        "SIMULATED_CUDA_KERNELS": str(kernels),
        "SIMULATED_CUDA_COMPILE": shlex.join([*for_kernels(root), "-shared", "-include", str(kernels / "kernel.h")]),
    }


def for_kernels(root: Path) -> list[str]:
    cupy = root / "packages/cupy/_core/include"
    headers = [cupy, *(cupy / "cupy/_cccl" / name for name in ("libcudacxx", "cub", "thrust")), cuda_headers(root)]
    return [*compiler(), *options(), "-O1", *included(*headers)]


def kernels_of(root: Path) -> Path:
    """The folder of the kernels compiled against this kernel.h; the header precompiled, where the compiler can."""
    header = (HERE / "kernel.h").read_bytes()
    folder = root / f"kernels-{digest(header)}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            made = Path(scratch) / "kernels"
            made.mkdir()
            (made / "kernel.h").write_bytes(header)
            with contextlib.suppress(CannotBuild):  # ziglang's can't: it reads the header every time
                run(*for_kernels(root), "-x", "c++-header", str(made / "kernel.h"), "-o", str(made / "kernel.h.gch"))
            moved(made, folder)
    return folder


def moved(made: Path, to: Path) -> None:
    """Put a folder where it belongs, in one step."""
    try:
        made.rename(to)
    except OSError:
        if not to.is_dir():  # else another process was faster
            raise


# --- the build -------------------------------------------------------------------------------------------------------


def run(*command: str, **more: str) -> None:
    done = subprocess.run(
        command, env={**os.environ, **more}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotBuild(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")


def pip(*arguments: str, **more: str) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, **more)


def options() -> list[str]:
    return ["-std=c++17", "-w", "-fPIC", "-U_FORTIFY_SOURCE", "-fno-sanitize=all"]


def included(*folders: Path) -> list[str]:
    return [f"-I{folder}" for folder in folders]


def cuda_headers(root: Path) -> Path:
    return root / "packages" / "nvidia" / f"cu{CUDA // 1000}" / "include"


def build(root: Path) -> None:
    """Everything, from CuPy's wheel and source and NVIDIA's headers."""
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise CannotBuild("Python.h is not on this machine (the package python3-dev, or a Python that brings it)")
    packages, lib = root / "packages", root / "lib"
    lib.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        tools = Path(scratch) / "tools"
        pip("install", "--no-deps", "--target", str(packages), f"cupy-cuda13x=={CUPY}", "cuda-pathfinder", *HEADERS)
        pip("install", "--no-deps", "--target", str(tools), *TOOLS)
        runtime = rebuilt_runtime(root, tools, source(Path(scratch), tools))
        sys.path.insert(0, str(tools))
        try:
            stubs = "".join(stub(name) for name in sorted(asked_for(packages, runtime)))
        finally:
            sys.path.remove(str(tools))
        (Path(scratch) / "stubs.cpp").write_text(stubs)
        sources = [str(HERE / name) for name in SOURCES] + [str(Path(scratch) / "stubs.cpp")]
        library = str(lib / "libcuda.so.1")
        link = ["-Wl,-soname,libcuda.so.1", "-ldl", "-o", library]
        run(*compiler(), *options(), "-O2", "-shared", *included(cuda_headers(root)), *sources, *link)
    for name in SONAMES:
        (lib / name).symlink_to("libcuda.so.1")


def source(scratch: Path, tools: Path) -> Path:
    """CuPy's source, unpacked."""
    on_docs = {"READTHEDOCS": "True", "PYTHONPATH": str(tools)}  # so that its setup asks for no CUDA
    only_source = ["--no-deps", "--no-build-isolation", "--no-binary", "cupy"]
    pip("download", *only_source, f"cupy=={CUPY}", "-d", str(scratch), **on_docs)
    shutil.unpack_archive(scratch / f"cupy-{CUPY}.tar.gz", scratch, filter="data")
    return scratch / f"cupy-{CUPY}"


def rebuilt_runtime(root: Path, tools: Path, cupy: Path) -> Path:
    """CuPy's one module with the CUDA runtime linked into it, built again to look for the runtime in libcuda.so.1."""
    (module,) = (root / "packages/cupy_backends/cuda/api").glob("runtime.*.so")
    generated = cupy / "runtime.cpp"
    translate = (
        "import Cython; from Cython.Compiler.Main import compile_single;"
        "from Cython.Compiler.Options import CompilationOptions;"
        f"known = dict(CUPY_CUDA_VERSION={CUDA}, CUPY_HIP_VERSION=0, CUPY_USE_CUDA_PYTHON=False,"
        " CUPY_CUFFT_STATIC=False, CUPY_CYTHON_VERSION=Cython.__version__);"
        f"options = CompilationOptions(cplus=True, language_level=3, include_path=[{str(cupy)!r}],"
        f" output_file={str(generated)!r}, compile_time_env=known);"
        f"result = compile_single({str(cupy / 'cupy_backends/cuda/api/runtime.pyx')!r}, options,"
        " full_module_name='cupy_backends.cuda.api.runtime');"
        "raise SystemExit(result.num_errors)"
    )
    run(sys.executable, "-W", "ignore", "-c", translate, PYTHONPATH=str(tools))
    backends = cupy / "cupy_backends"
    folders = included(Path(sysconfig.get_path("include")), cuda_headers(root), backends, backends / "cuda/api", cupy)
    run(*compiler(), *options(), "-O1", "-shared", *folders, str(generated), "-o", str(module))
    return module


def asked_for(packages: Path, runtime: Path) -> Iterator[str]:
    """The functions that CuPy's modules expect of CUDA's libraries: a library lacking one couldn't be loaded."""
    from elftools.elf.elffile import ELFFile

    (cublas,) = (packages / "cupy_backends/cuda/libs").glob("cublas.*.so")
    for path in (runtime, cublas):
        with path.open("rb") as file:
            for symbol in ELFFile(file).get_section_by_name(".dynsym").iter_symbols():
                if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name.startswith(tuple(NOT_SUPPORTED)):
                    yield symbol.name


def stub(name: str) -> str:
    """A function that says it isn't supported, unless the sources define it."""
    answer = next(code for family, code in NOT_SUPPORTED.items() if name.startswith(family))
    return f'extern "C" __attribute__((weak, visibility("default"))) int {name}(...) {{ return {answer}; }}\n'
