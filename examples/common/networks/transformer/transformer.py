"""Small transformers in plain `nn` layers: a GPT and an encoder that classifies. Every gradient engine serves them."""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

PAD = 0  # token of the padding, in inputs and labels
_NEVER = -1e9


class Attention(nn.Cell):
    """Multi-head self-attention with four dense layers by name, so that adapters find them.

    Args:
        width (int): Size of a position.
        heads (int): Number of heads, which divides `width`.

    Inputs:
        x (Tensor): float32 [B, T, width].
        mask (Tensor): float32, added to the scores [B, heads, T, T] with broadcasting; very negative hides a position.
    """

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.output = (nn.Dense(width, width) for _ in range(4))
        self.similarity = ops.BatchMatMul(transpose_b=True)
        self.mix = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)

    def construct(self, x, mask):
        query, key, value = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        weights = self.softmax(self.similarity(query, key) * (self.size ** -0.5) + mask)
        return self.output(self.mix(weights, value).transpose(0, 2, 1, 3).reshape(x.shape))

    def _split(self, x):
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.size).transpose(0, 2, 1, 3)


class Block(nn.Cell):
    """Attention and two dense layers, each behind a normalisation and around a shortcut; no dropout."""

    def __init__(self, width, heads):
        super().__init__()
        self.attention = Attention(width, heads)
        self.first, self.second = nn.LayerNorm((width,)), nn.LayerNorm((width,))
        self.up, self.act, self.down = nn.Dense(width, 4 * width), nn.GELU(), nn.Dense(4 * width, width)

    def construct(self, x, mask):
        x = x + self.attention(self.first(x), mask)
        return x + self.down(self.act(self.up(self.second(x))))


class Positions(nn.Cell):
    """Tokens to embedded tokens plus embedded positions."""

    def __init__(self, vocabulary, length, width):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width, embedding_table=Normal(0.02))
        self.places = nn.Embedding(length, width, embedding_table=Normal(0.02))
        self.numbers = Tensor(np.arange(length)[None], ms.int32)

    def construct(self, tokens):
        # places that depend on the row: without that, MindSpore's vmap cannot map the lookup
        return self.tokens(tokens) + self.places(self.numbers + tokens * 0)


class GPT(nn.Cell):
    """Causal language model whose output layer is its token embedding.

    Args:
        vocabulary (int): Tokens.
        length (int): Tokens of a sequence.
        width (int): Size of a position.
        layers (int): Blocks.
        heads (int): Heads of a block.

    Inputs:
        tokens (Tensor): int32 [B, length].

    Outputs:
        Tensor, float32 [B, vocabulary, length]: logits of the next token, as `nn.CrossEntropyLoss` takes them.
    """

    def __init__(self, vocabulary, length=64, width=128, layers=4, heads=4):
        super().__init__()
        self.embedding = Positions(vocabulary, length, width)
        self.blocks = nn.CellList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm((width,))
        self.mask = Tensor(np.triu(np.full((1, 1, length, length), _NEVER), 1), ms.float32)
        self.logits = ops.MatMul(transpose_b=True)

    def construct(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.mask)
        rows = self.norm(x).reshape(-1, x.shape[-1])
        logits = self.logits(rows, self.embedding.tokens.embedding_table)
        return logits.reshape(x.shape[0], x.shape[1], -1).transpose(0, 2, 1)


class Classifier(nn.Cell):
    """Encoder that classifies a sequence by the mean of its positions that are no padding.

    Args:
        vocabulary (int): Tokens.
        classes (int): Classes.
        length (int): Tokens of a sequence.
        width (int): Size of a position.
        layers (int): Blocks.
        heads (int): Heads of a block.

    Inputs:
        tokens (Tensor): int32 [B, length], `PAD` behind the end.

    Outputs:
        Tensor, float32 [B, classes].
    """

    def __init__(self, vocabulary, classes=2, length=64, width=64, layers=2, heads=4):
        super().__init__()
        self.embedding = Positions(vocabulary, length, width)
        self.blocks = nn.CellList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm((width,))
        self.head = nn.Dense(width, classes)

    def construct(self, tokens):
        real = (tokens != PAD).astype(ms.float32)
        x, mask = self.embedding(tokens), ((1 - real) * _NEVER).reshape(tokens.shape[0], 1, 1, -1)
        for block in self.blocks:
            x = block(x, mask)
        weights = real.expand_dims(-1)
        return self.head((self.norm(x) * weights).sum(axis=1) / ops.maximum(weights.sum(axis=1), 1.0))


def sequence_loss():
    """Mean over the tokens of a sequence that are no padding; a row of its own for each sequence."""
    return nn.CrossEntropyLoss(ignore_index=PAD)
