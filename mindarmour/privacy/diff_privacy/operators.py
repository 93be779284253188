"""MindSpore's primitives as functions, for code inside the compiled step.

Compile time asks for them. Each method of a Tensor leads through several Python functions to its primitive, and each
turn of a loop over a tuple is compiled as a function of its own that takes the tuple apart and another one together:
`for_each` does that outside of the graph. (Without loops LeNet-5's private step compiles a quarter faster.)
"""
import mindspore as ms
from mindspore import Tensor, ops

add_all = ops.AddN()
add_up = ops.ReduceSum()
add_up_keeping_axes = ops.ReduceSum(True)
average = ops.ReduceMean()
batched_product = ops.BatchMatMul(transpose_b=True)
both = ops.LogicalAnd()
cast = ops.Cast()
for_each = ops.Map()
greater = ops.Greater()
is_finite = ops.IsFinite()
larger = ops.Maximum()
less = ops.Less()
multiply = ops.Mul()
ones_like = ops.OnesLike()
partial = ops.Partial()
product = ops.MatMul()
reshape = ops.Reshape()
select = ops.Select()
smaller = ops.Minimum()
square_root = ops.Sqrt()
zero_if_not_finite = ops.NanToNum(0.0, 0.0, 0.0)
zeros_like = ops.ZerosLike()


def constant(value):
    """A number of a graph as a Tensor.

    MindSpore takes Python floats that are nearly equal, as all tiny ones are to it, for one and the same when it
    compiles a function that several layers share: it then fails, or computes with another layer's number.
    """
    return Tensor(value, ms.float32)


def when(value, other):
    """`value`, but not before `other` is there, so that what is made of it does not wait in memory."""
    return ops.depend(value, other)


def at(values, place):
    """`values[place]`, for `for_each`."""
    return values[place]
