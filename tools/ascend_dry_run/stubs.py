"""Stub libraries with which MindSpore's Ascend plugin loads where no CANN is installed.

A stub returns 0. Functions that return an object through a hidden pointer leave it empty. The operator library holds
every name of an aclnn operator that the plugin mentions: which kernels the plugin wants is its own knowledge, which
kernels CANN has is not shown.
"""
from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

TOOLS = ("g++", "gcc", "nm", "strings", "ldconfig")
_PLUGIN = ("plugin/libmindspore_ascend.so.2", "plugin/libmindspore_ops_ascend.so", "plugin/ascend/libd_collective.so",
           "plugin/ascend/libmindspore_ascend_res_manager.so", "plugin/ascend/libmindspore_graph_ir.so")
_CALLS = (*_PLUGIN, "libmindspore_ge_backend.so", "plugin/ascend/libhccl_plugin.so",
          "plugin/ascend/ms_kernels_symmetric_memory/shmem/shmem/lib/libshmem.so")
_OFFERS = ("*.so*", "plugin/*.so*", "plugin/ascend/*.so", "plugin/ascend/ms_kernels_symmetric_memory/*/*/lib/*.so")
_SYSTEM = re.compile(r"/lib(?:stdc\+\+|m|c|gcc_s|gomp|pthread|dl|rt)\.so|ld-linux")
_LOOKED_UP = re.compile(r"(?:acl(?:rt|mdl|op|prof|tdt|Init|Finalize|Create|Destroy|Get|Set|Update|Data|Gen)\w*"
                        r"|hal[A-Z]\w+|Hccl[A-Z]\w+|Msprof[A-Z]\w+|rt[A-Z]\w+)")
_OWN = re.compile(r"_?Py|_ZN2ge13StatusFactory8InstanceEv$|aclrtGetSocName$")
# How a stub answers, by its mangled name; the first that fits. Sizes are of what the caller expects to be filled.
_KINDS = (
    ("empty24", re.compile(r"_ZN2ge8OperatorC[12]E|OperatorFactory14CreateOperator|GetDimsEv|GetDirectNodeEv"
                           r"|ControlNodesEv")),
    ("empty16", re.compile(r"_ZN2ge\d+[A-Za-z]+C[12]E|8GetShapeEv|14GetOriginShapeEv|13GetTensorDescEv"
                           r"|13GetOutputDescE|23GetCompiledGraphSummary")),
    ("string", re.compile(r"Operator7GetNameEv|Operator9GetOpTypeEv|Graph7GetNameEv")),
    ("chars", re.compile(r"AscendString9GetStringEv")),
    ("zero", re.compile("")),
)
_BODIES = {
    "zero": ("xor %eax,%eax",),
    "empty16": ("mov %rdi,%rax", "movq $0,(%rdi)", "movq $0,8(%rdi)"),
    "empty24": ("mov %rdi,%rax", "movq $0,(%rdi)", "movq $0,8(%rdi)", "movq $0,16(%rdi)"),
    "string": ("push %rdi", "call empty_string", "pop %rax"),
    "chars": ("lea empty_chars(%rip),%rax",),
}
_SUPPORT = """
#include <cstdlib>
#include <map>
#include <string>
namespace ge {
struct StatusFactory {
  std::map<unsigned, std::string> texts;
  static StatusFactory *Instance() { static StatusFactory factory; return &factory; }
};
StatusFactory *(*keep)() = &StatusFactory::Instance;
}
extern "C" __attribute__((visibility("hidden"))) void empty_string(void *place) { new (place) std::string; }
extern "C" const char *aclrtGetSocName() {
  const char *name = getenv("DRY_RUN_SOC_NAME");
  return name ? name : "Ascend910B1";
}
"""
# The plugin asks the (absent) driver which chip it is; this answers for it.
_CHIP = """
#include <cstdlib>
#include <dlfcn.h>
#include <string>
namespace mindspore {
struct MsContext { void set_ascend_soc_version(const std::string &); };
void MsContext::set_ascend_soc_version(const std::string &name) {
  static auto real = (void (*)(MsContext *, const std::string &))dlsym(
      dlopen("libmindspore_core.so", RTLD_NOLOAD | RTLD_LAZY), "_ZN9mindspore9MsContext22set_ascend_soc_versionERKSs");
  const char *chip = getenv("DRY_RUN_CHIP");
  real(this, chip ? std::string(chip) : name);
}
}
"""
_ALIASES = ("ge_runner", "graph", "msprofiler", "hccl", "runtime", "platform", "c_sec", "nnopbase", "ascend_hal",
            "acl_op_compiler", "acl_tdt_channel", "profapi")
_OPERATOR_LIBRARIES = ("plugin/libmindspore_ops_ascend.so", "plugin/libmindspore_ascend.so.2",
                       "plugin/ascend/libmindspore_ascend_res_manager.so", "libmindspore_ops.so",
                       "libmindspore_pynative.so", "libmindspore_pyboost.so")
_OBJECTS = ("Tensor", "Scalar", "IntArray", "BoolArray", "FloatArray", "TensorList", "ScalarList")
_OPERATOR_SUPPORT = (
    "aclnnInit", "aclnnFinalize", "InitHugeMemThreadLocal", "UnInitHugeMemThreadLocal", "ReleaseHugeMem",
    *(f"aclCreate{name}" for name in _OBJECTS), *(f"aclDestroy{name}" for name in (*_OBJECTS, "AclOpExecutor")),
    "aclSetAclOpExecutorRepeatable", "aclSetTensorAddr", "aclSetDynamicTensorAddr", "InitPTACacheThreadLocal",
    "SetPTAHashKey", "CanUsePTACache", "PTAGetExecCache")


def missing_tools() -> list[str]:
    """Programs that building the stubs needs and that are not there."""
    return [tool for tool in TOOLS if shutil.which(tool) is None and not Path("/sbin", tool).exists()]


def build(folder: Path) -> None:
    """Write the stub libraries into `folder`; a folder that holds all of them is left as it is."""
    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    libraries = mindspore_libraries()
    wanted = _symbols((libraries / name for name in _CALLS), "--undefined-only")
    wanted |= _strings((libraries / name for name in _PLUGIN), _LOOKED_UP)
    offered = _symbols([*(path for pattern in _OFFERS for path in libraries.glob(pattern)), *_system_libraries()],
                       "--defined-only")
    missing = sorted(name for name in wanted - offered if not _OWN.match(name))
    _library(folder, "ascendcl", {"support.cc": _SUPPORT, "stubs.s": _assembly(missing)})
    for name in _ALIASES:
        _library(folder, name, {"empty.c": "\n"}, "-Wl,--no-as-needed", f"-L{folder}", "-lascendcl")
    operators = _strings((libraries / name for name in _OPERATOR_LIBRARIES), re.compile(r"aclnn[A-Za-z0-9]+"))
    operators |= {f"{name}GetWorkspaceSize" for name in operators if not name.endswith("GetWorkspaceSize")}
    _library(folder, "opapi", {"operators.s": _assembly(sorted(operators | set(_OPERATOR_SUPPORT)))})
    _library(folder, "chip", {"chip.cc": _CHIP}, "-ldl")
    (folder / "complete").touch()


def mindspore_libraries() -> Path:
    """Folder of the shared libraries of the installed MindSpore."""
    return Path(importlib.util.find_spec("mindspore").origin).parent / "lib"


def _symbols(paths: Iterable[Path], which: str) -> set[str]:
    """Names of the dynamic symbols, without weak ones that nobody defines and without versions."""
    names = set()
    for path in paths:
        listed = subprocess.run(["nm", "-D", which, str(path)], capture_output=True, text=True, check=False).stdout
        rows = (line.split() for line in listed.splitlines())
        names |= {row[-1].partition("@")[0] for row in rows if row and "w" not in row[:-1]}
    return names


def _strings(paths: Iterable[Path], pattern: re.Pattern) -> set[str]:
    """Names in the libraries' strings that fit: what is looked up at run time."""
    names = set()
    for path in paths:
        listed = subprocess.run(["strings", "-n", "4", str(path)], capture_output=True, text=True, check=True).stdout
        names |= {line for line in listed.splitlines() if pattern.fullmatch(line)}
    return names


def _system_libraries() -> list[Path]:
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    return [Path(line.split()[-1]) for line in listed.splitlines() if _SYSTEM.search(line)]


def _assembly(names: Iterable[str]) -> str:
    """Every name as a function; those of one kind share one body."""
    by_kind: dict[str, list[str]] = {kind: [] for kind, _ in _KINDS}
    for name in names:
        by_kind[next(kind for kind, pattern in _KINDS if pattern.search(name))].append(name)
    lines = [".text", ".balign 16"]
    for kind, members in by_kind.items():
        for name in members:
            lines += [f".globl {name}", f".type {name},@function", f"{name}:"]
        if members:
            lines += [*_BODIES[kind], "ret"]
    return "\n".join([*lines, "empty_chars: .byte 0", '.section .note.GNU-stack,"",@progbits', ""])


def _library(folder: Path, name: str, sources: dict[str, str], *options: str) -> None:
    paths = []
    for file, text in sources.items():
        paths.append(folder / f"{name}.{file}")
        paths[-1].write_text(text)
    soname = f"lib{name}.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-D_GLIBCXX_USE_CXX11_ABI=0", f"-Wl,-soname,{soname}",
                    "-o", str(folder / soname), *map(str, paths), *options], check=True)
