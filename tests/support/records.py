"""Fifty records whose image tells their number, and a table of who took part in which step."""
import numpy as np

COUNT = 50
IMAGES = np.arange(COUNT, dtype=np.float32)[:, None] + 1
LABELS = np.arange(COUNT, dtype=np.int32)


def epochs_of(dataset, epochs):
    """Per step: (images, labels, mask) as NumPy arrays."""
    iterator = dataset.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
    return [batch for _ in range(epochs) for batch in iterator]


def included(batches, count=COUNT):
    """Bool [steps, count]: who took part."""
    table = np.zeros((len(batches), count), bool)
    for step, (images, _, mask) in enumerate(batches):
        table[step, images[mask > 0, 0].astype(int) - 1] = True
    return table
