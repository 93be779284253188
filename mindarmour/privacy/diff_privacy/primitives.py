"""MindSpore's primitives as functions, for code inside the compiled step.

MindSpore parses a Python function once but every Cell instance anew, and each method of a Tensor leads through several
Python functions to its primitive. Compile time therefore asks for functions over primitives.
"""
from mindspore import ops

add_up = ops.ReduceSum()
add_up_keeping_axes = ops.ReduceSum(True)
average = ops.ReduceMean()
batched_product = ops.BatchMatMul(transpose_b=True)
both = ops.LogicalAnd()
cast = ops.Cast()
greater = ops.Greater()
is_finite = ops.IsFinite()
larger = ops.Maximum()
less = ops.Less()
product = ops.MatMul()
reshape = ops.Reshape()
select = ops.Select()
smaller = ops.Minimum()
square_root = ops.Sqrt()
zeros_like = ops.ZerosLike()
