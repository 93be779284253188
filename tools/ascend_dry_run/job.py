"""One process of the dry run: compile the subjects of a group, a line of JSON each.

    python -m tools.ascend_dry_run.job GROUP MODE [FIRST]

GROUP is one of `subjects.GROUPS`; MODE is 'O0' or 'O1' (graph mode) or 'pynative'; FIRST is the first subject to run,
counted from 0: where one ends the process, the next process goes on behind it.
"""
from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def say(**facts: Any) -> None:
    """One line for the parent."""
    print(json.dumps(facts), flush=True)


def prepare(group: str, mode: str) -> None:
    """Device, mode and ranks, before anything else of MindSpore."""
    import mindspore as ms
    ms.set_context(mode=ms.PYNATIVE_MODE if mode == "pynative" else ms.GRAPH_MODE)
    ms.set_device("Ascend")
    if mode != "pynative":
        ms.set_context(jit_config={"jit_level": mode})
    if group == "ranks":
        from mindspore.communication import init
        init()
        ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True, parameter_broadcast=True)


def without_values() -> None:
    """A simulation computes nothing: what compares values would judge what happened to stand in memory."""
    from mindarmour.privacy.diff_privacy.grads import exactness
    exactness.refuse_if_rows_mix = lambda *_: None


def main(group: str, mode: str, first: int = 0) -> None:
    prepare(group, mode)
    without_values()
    from tools.ascend_dry_run.subjects import GROUPS
    for name, run in list(GROUPS[group].items())[first:]:
        say(starts=name)
        begin = time.monotonic()
        try:
            run()
            reason = ""
        except Exception as error:  # any refusal is a verdict
            reason = " ".join(f"{type(error).__name__}: {error}".split())
        say(subject=name, reason=reason, seconds=round(time.monotonic() - begin, 1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    os._exit(0)  # the stubs have nothing to tear down
