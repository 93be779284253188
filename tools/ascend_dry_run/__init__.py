"""Compile for Ascend without an Ascend: stub libraries in the place of CANN, and MindSpore's own simulation.

MindSpore's wheel ships its Ascend plugin, but not CANN, which the plugin calls. Stubs that do nothing take CANN's
place; `MS_SIMULATION_LEVEL=1` then lets MindSpore select kernels, plan memory and walk through a step for a chip that
is not there. What the plugin has no kernel for, it refuses. `docs/ascend.md` says what this cannot show.
"""
