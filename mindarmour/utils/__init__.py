"""Utilities of the suite. `GradWrap` and `GradWrapWithLoss` need MindSpore and load on first use."""
from mindarmour.utils.logger import LogUtil

__all__ = ["GradWrap", "GradWrapWithLoss", "LogUtil"]


def __getattr__(name):
    if name in ("GradWrap", "GradWrapWithLoss"):
        from mindarmour.utils import util
        return getattr(util, name)
    raise AttributeError(f"module 'mindarmour.utils' has no attribute {name!r}")
