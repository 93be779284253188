"""Which operators the compiled steps run, and what MindSpore documents about them on Ascend.

    python -m tools.ascend_report [--output docs/ascend.md] [--verdicts FILE] [--json FILE]

Compiles, on a CPU, the steps that would be compiled on Ascend, reads the primitives out of the final graphs that
MindSpore saves, and checks each against MindSpore's own documentation and a reviewed list. Exits with an error if a
primitive stays unexplained.
"""
import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # MindSpore reads these when it is imported
    os.environ.update(MS_DEV_SAVE_GRAPHS="1", MS_DEV_SAVE_GRAPHS_PATH=tempfile.mkdtemp(prefix="graphs"),
                      MS_DEV_DUMP_IR_PASSES="validate")  # the last graph of the front end

import mindspore as ms
from mindspore import ops

from mindarmour.privacy.diff_privacy.grads.layers import conv
from mindarmour.utils.files import replacing
from tools.ascend_subjects import SUBJECTS, VMAP_CONVOLUTION

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "ascend.md"
VERDICTS = ROOT / "outputs" / "ascend_verdicts.json"

# Operators that only exist in a job of several ranks; a single process cannot compile them.
COLLECTIVES = {"AllReduce": {"Float32"}, "AllGather": {"Int32"}, "Broadcast": {"Float16", "Float32", "Int32"}}


# -- reading the graphs ----------------------------------------------------------------------------------------

@dataclass
class Operator:
    """One primitive as the graphs use it."""

    name: str
    dtypes: set = field(default_factory=set)
    grouped: set = field(default_factory=set)
    subjects: set = field(default_factory=set)
    dynamic: bool = False


_NODE = re.compile(r"^  %\d+\(.*?\) = (?:PrimFunc_)?([A-Za-z_]\w*)\(")
_DTYPE = re.compile(r"Tensor\[(\w+)\]")
_GROUP = re.compile(r"\bgroups?: I64\((\d+)\)")


def read_graph(text, subject, operators):
    """Add the primitives of one saved graph."""
    lines = text.splitlines()
    for line, types in zip(lines, lines[1:]):
        node = _NODE.match(line)
        if not node:
            continue
        operator = operators.setdefault(node.group(1), Operator(node.group(1)))
        operator.subjects.add(subject)
        operator.dtypes.update(_DTYPE.findall(types))
        operator.dynamic |= "-1" in re.sub(r"value=[^>]*", "", types) or "-2" in types
        if grouped_beyond_depthwise(node.group(1), line, types):
            operator.grouped.add(subject)


def grouped_beyond_depthwise(name, line, types):
    """Whether a convolution has groups other than one channel in and one out of each: refused on Ascend."""
    found = _GROUP.search(line)
    shapes = [tuple(map(int, shape.split(","))) for shape in re.findall(r"\((\d+(?:, \d+){3,4})\)", types)]
    if not found or int(found.group(1)) == 1 or len(shapes) < 2:
        return False
    group, first, second = int(found.group(1)), shapes[0], shapes[1]
    channels = {"Conv2D": (first[1], second[0]), "Conv2DBackpropInput": (first[1], second[1] * group),
                "Conv2DBackpropFilter": (first[1], second[1])}
    return channels.get(name, (first[1], second[0])) != (group, group)


def collect():
    """{name: Operator} of everything that the subjects compile, as on Ascend."""
    choose = conv.cheapest_form
    conv.cheapest_form = lambda positions, patch, outputs, group, target: choose(positions, patch, outputs, group,
                                                                                 "Ascend")
    ms.set_context(mode=ms.GRAPH_MODE)
    operators, seen = {}, set()
    for subject, run in SUBJECTS.items():
        run()
        for path in sorted(Path(os.environ["MS_DEV_SAVE_GRAPHS_PATH"]).rglob("*_validate_*.ir")):
            if path not in seen:
                seen.add(path)
                read_graph(path.read_text(), subject, operators)
    for name, dtypes in COLLECTIVES.items():
        operators[name] = Operator(name, set(dtypes), subjects={"Data parallel training"})
    return operators


# -- what MindSpore documents ----------------------------------------------------------------------------------

def documentation():
    """Modules in which a primitive or the function it implements may be documented."""
    from mindspore.ops import auto_generate, operations
    from mindspore.ops.operations import _grad_ops, _inner_ops, array_ops, math_ops, nn_ops
    return [ops, operations, auto_generate, nn_ops, math_ops, array_ops, _inner_ops, _grad_ops, ms.mint]


def platforms(name, modules, depth=0):
    """Platforms in the docstring of a primitive, following a 'Refer to' to the function; None without one."""
    for module in modules:
        text = getattr(getattr(module, name, None), "__doc__", None) or ""
        found = re.search(r"Supported Platforms:\s*\n\s*(.+)", text)
        if found:
            return sorted(set(re.findall(r"``(\w+)``", found.group(1))))
        reference = re.search(r"[Rr]efer to\s+:func:`[\w.]*?(\w+)`", text)
        if reference and depth < 2:
            followed = platforms(reference.group(1), modules, depth + 1)
            if followed:
                return followed
    return None


# Nodes that the compiler resolves; no kernel runs.
STRUCTURE = {
    "Return", "Depend", "Load", "UpdateState", "MakeTuple", "TupleGetItem", "make_tuple", "tuple_getitem", "call",
    "Partial", "Switch", "switch", "partial", "tuple_setitem", "make_list", "list_getitem", "stop_gradient",
    "MakeList", "TupleToTensor", "StopGradient", "MakeKeywordArg", "DictGetItem", "make_dict", "dict_getitem",
}

# Primitives without a statement of their own, each reviewed: the public interface that produces it, whose
# documentation is checked instead, and how it does.
REVIEWED = {
    "AvgPoolGrad": ("ops.AvgPool", "its gradient"),
    "BiasAddGrad": ("ops.BiasAdd", "its gradient"),
    "Conv2DBackpropFilter": ("ops.Conv2D", "its gradient with respect to the weight"),
    "Conv2DBackpropInput": ("ops.Conv2D", "its gradient with respect to the input (deprecated only as a public name)"),
    "Divs": ("ops.div", "its form for a tensor and a number"),
    "GroupNormGrad": ("nn.GroupNorm", "its gradient"),
    "LayerNormGrad": ("nn.LayerNorm", "its gradient"),
    "MatMulExt": ("ops.matmul", "its kernel"),
    "MaxPoolGrad": ("ops.MaxPool", "its gradient"),
    "Muls": ("ops.mul", "its form for a tensor and a number"),
    "ReluGrad": ("ops.ReLU", "its gradient"),
    "SigmoidGrad": ("ops.sigmoid", "its gradient"),
    "SoftmaxBackward": ("ops.softmax", "its gradient"),
    "SparseSoftmaxCrossEntropyWithLogits": (
        "nn.SoftmaxCrossEntropyWithLogits", "its sparse form; the Ascend backend rewrites it into OneHot and "
        "SoftmaxCrossEntropyWithLogits (pass SparseSoftmaxCrossEntropyWithLogitsUnifyMindIR of the Ascend plugin)"),
    "SplitWithSize": ("ops.split", "its form for parts of given sizes"),
    "StridedSliceGrad": ("ops.strided_slice", "its gradient"),
    "TanhGrad": ("ops.Tanh", "its gradient"),
    "TensorMove": ("ops.assign", "the copy that keeps a Parameter's old value while it is assigned"),
}
# Uses that Ascend refuses, by subject, with what the suite does instead.
GROUPED_USES = {
    VMAP_CONVOLUTION: "MindSpore's vmap rule makes one group per example, which Ascend refuses unless depthwise. "
                      "engine='auto' takes the ghost engine for such layers (patches, no groups); where that cannot "
                      "serve the network, 'auto' tries vmap on two rows first and falls back to the loop.",
}
FORBIDDEN_DTYPES = {"Float64", "Complex64", "Complex128"}
LIMITS = [
    ("Static shapes", "No primitive has a dynamic dimension: batches have one physical size, with a mask; a partial "
                      "last batch is filled up."),
    ("No float64", "No primitive takes or returns float64. What needs double precision (accountant, noise) runs on "
                   "the host; normals enter the step as float32."),
    ("Grouped convolutions only depthwise", "The ghost engine's grouped weight gradient is for CPUs; elsewhere it "
                                            "unfolds patches plane by plane with one group. A depthwise layer keeps "
                                            "its own groups, which Ascend serves."),
    ("Sink mode", "DPModel refuses dataset_sink_mode=True: it would run a whole epoch on the device, with one draw "
                  "of noise. Non-sink mode runs on Ascend, at the price of one host call per step."),
    ("Random operators", "None in the compiled steps: seeds have no effect on Ascend. All noise and all sampling come "
                         "from the host."),
    ("Collectives", "AllReduce of float32 sums, AllGather of int32 words and, with parameter_broadcast=True, "
                    "Broadcast: all documented for Ascend (HCCL)."),
    ("Control flow", "No branch depends on a tensor: bounds, factors and holes are selected, not branched on. The "
                     "loop engine branches on the host."),
]


def documented(name, modules):
    """Whether MindSpore documents a primitive, or a name such as 'nn.LayerNorm', for Ascend."""
    if "." in name:
        module, name = name.split(".")
        modules = [getattr(ms, module)]
        if module == "ops":
            modules += documentation()
    return "Ascend" in (platforms(name, modules) or ())


def verdict(operator, modules):
    """(status, explanation): 'documented', 'structure', 'reviewed', 'fallback' or 'unexplained'."""
    if operator.dtypes & FORBIDDEN_DTYPES or operator.dynamic:
        return "unexplained", f"dtypes {sorted(operator.dtypes)}, dynamic shape: {operator.dynamic}"
    if operator.grouped - set(GROUPED_USES):
        return "unexplained", f"groups that are not depthwise in {sorted(operator.grouped - set(GROUPED_USES))}"
    if operator.grouped:
        return "fallback", " ".join(GROUPED_USES[subject] for subject in sorted(operator.grouped))
    if operator.name in STRUCTURE:
        return "structure", "resolved by the compiler, no kernel"
    if operator.name in REVIEWED:
        source, how = REVIEWED[operator.name]
        return ("reviewed" if documented(source, modules) else "unexplained"), f"{how} (`{source}`)"
    if documented(operator.name, modules):
        return "documented", "its own documentation"
    return "unexplained", f"documented platforms: {platforms(operator.name, modules)}"


# -- the report ------------------------------------------------------------------------------------------------

def rows_of(operators):
    """One dictionary per primitive, by name."""
    modules = documentation()
    rows = []
    for name, operator in sorted(operators.items()):
        status, explanation = verdict(operator, modules)
        rows.append({"name": name, "dtypes": sorted(operator.dtypes), "status": status, "explanation": explanation,
                     "subjects": sorted(operator.subjects), "grouped": sorted(operator.grouped),
                     "dynamic": operator.dynamic})
    return rows


def table(rows, columns):
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def markdown(rows, verdicts):
    """The page from the primitives and, if the dry run ran, its verdicts."""
    places = [*SUBJECTS, "Data parallel training"]
    by_status = {status: [row for row in rows if row["status"] == status]
                 for status in ("documented", "reviewed", "fallback", "structure", "unexplained")}

    def uses(row):
        return ", ".join(str(places.index(subject) + 1) for subject in sorted(row["subjects"], key=places.index))

    def lines(status):
        return table([(f"`{row['name']}`", ", ".join(row["dtypes"]), uses(row), row["explanation"])
                      for row in by_status[status]], ("primitive", "dtypes", "used in", "why"))

    parts = [
        "# Readiness for Ascend",
        "Generated by `make ascend-check` with MindSpore " + ms.__version__ + "; do not edit. No Ascend device was at "
        "hand. The page shows what MindSpore's Ascend plugin takes in a simulation, and what MindSpore documents: "
        "every primitive of the compiled steps (their final graphs, compiled on a CPU with the choices made on "
        "Ascend) and what speaks for each. Run `examples/privacy/ascend/first_run.py` on a device to see the rest.",
        "Choose the device with `--device_target Ascend` in every example, or `mindspore.set_device('Ascend')`; "
        "nothing else in a script changes.",
        "## What was compiled", "\n".join(f"{i}. {place}" for i, place in enumerate(places, 1)),
        "The sanitizer selects and perturbs weights on the host; on the device it only reads and sets Parameters.",
        *simulated(verdicts),
        "## Known limits of the platform, and what the suite does", table(LIMITS, ("limit", "here")),
        f"## Exceptions ({len(by_status['reviewed']) + len(by_status['fallback'])})",
        "Primitives without a platform statement of their own, by the documented interface that produces them:",
        lines("reviewed"), "Uses that Ascend refuses, and the fallback:", lines("fallback"),
        f"## Documented for Ascend ({len(by_status['documented'])})", lines("documented"),
        "## Nodes without a kernel", ", ".join(f"`{row['name']}`" for row in by_status["structure"]) + ".",
        "## Unexplained", lines("unexplained") if by_status["unexplained"] else "None.",
    ]
    return "\n\n".join(parts) + "\n"


def simulated(verdicts):
    """Parts of the page about the dry run."""
    chips = list(dict.fromkeys(verdict["chip"] for verdict in verdicts))
    by_subject = {}
    for verdict in verdicts:
        key = f"{verdict['subject']} ({verdict['mode']})"
        by_subject.setdefault(key, {})[verdict["chip"]] = "refused" if verdict["reason"] else "compiled"
    cells = [(name, *(found.get(chip, "not tried") for chip in chips)) for name, found in by_subject.items()]
    return [
        f"## Compiled for chips that were not there ({len(verdicts)} verdicts)",
        "MindSpore's own Ascend plugin with stub libraries in the place of CANN and simulation level 1: kernels are "
        "selected, memory is planned, the loop is stepped through. The subjects named as having no kernel, and the "
        "hidden size, must be refused: they show that the check can fail. A simulation does not show whether CANN "
        "holds the kernel, what it computes, its limits on groups, or its speed.",
        table(cells, ("subject (mode)", *chips)),
        "Recurrent layers: `nn.GRU` and `nn.LSTM` run as DynamicGRUV2 and DynamicRNN there, which want a hidden size "
        "that 16 divides and compute in float16. MindSpore refuses other sizes by name.",
    ]


def main(arguments=None):
    """Write the page; returns the number of unexplained primitives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PAGE)
    parser.add_argument("--verdicts", type=Path, default=VERDICTS, help="what `tools.ascend_dry_run --json` wrote")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    args = parser.parse_args(arguments)
    try:
        rows = rows_of(collect())
    finally:
        shutil.rmtree(os.environ["MS_DEV_SAVE_GRAPHS_PATH"], ignore_errors=True)
    for path, text in ((args.output, markdown(rows, json.loads(args.verdicts.read_text()))),
                       (args.json, json.dumps(rows, indent=1))):
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text)
    return sum(row["status"] == "unexplained" for row in rows)


if __name__ == "__main__":
    sys.exit(f"{unexplained} primitives are unexplained" if (unexplained := main()) else 0)
