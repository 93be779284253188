"""What a run tells about its engine."""
from __future__ import annotations

from dataclasses import dataclass

from mindspore import nn

from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.vmap import VmapEngine

_ROW_BY_ROW = "the gradient of each row"


@dataclass(frozen=True)
class EngineReport:
    """Which engine computes the clipped sums, why, and how the gradient of each Parameter is had.

    Attributes:
        engine (str): 'ghost', 'vmap' or 'loop'.
        reason (str): Why this one; for a slower one with the layer that ghost cannot serve and what to change.
        rules (dict[str, str]): For each trainable Parameter the rule of the ghost engine that serves it, by the name of
            its class; for the other engines 'the gradient of each row'.
        in_parts (bool): Whether batches are computed in parts of `physical_batch_size` rows.
    """

    engine: str
    reason: str
    rules: dict[str, str]
    in_parts: bool

    def __str__(self) -> str:
        parts = ", in parts" if self.in_parts else ""
        rules = [f"  {name}: {rule}" for name, rule in self.rules.items()]
        return "\n".join([f"{self.engine}{parts}: {self.reason}", *rules])


def report_of(engine: nn.Cell, reason: str, network: nn.Cell) -> EngineReport:
    """The report on an engine that `accumulate.engine_for` gave."""
    part = getattr(engine, "part", engine)
    names = [parameter.name for parameter in network.trainable_params()]
    if isinstance(part, GhostEngine):
        rules = {name: type(gradient).__name__ for name, gradient in zip(names, part.gradients)}
        return EngineReport("ghost", reason, rules, part is not engine)
    kind = "vmap" if isinstance(part, VmapEngine) else "loop"
    return EngineReport(kind, reason, dict.fromkeys(names, _ROW_BY_ROW), part is not engine)
