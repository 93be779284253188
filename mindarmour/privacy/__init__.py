"""Privacy parts of the suite. Empty on purpose: importing `accounting` must not import MindSpore."""
