"""Who takes part in which step, held against independent coins; what is not that, however it looks, is rejected."""
import mindspore.dataset as ds
import numpy as np
import pytest
from records import epochs_of
from scipy import stats

from mindarmour.privacy.diff_privacy import FixedSizeSampler, PoissonSampler, ShufflePartition

RECORDS, BATCH, EPOCHS = 4000, 80, 16
STEPS = RECORDS // BATCH
BUFFER = 1000
RATE = BATCH / RECORDS
NUMBERS = np.arange(RECORDS, dtype=np.int32)
RIGHT, WRONG = 1e-5, 1e-12


def table_of(batches):
    """Bool [steps, records]."""
    table = np.zeros((len(batches), RECORDS), bool)
    for step, numbers in enumerate(batches):
        table[step, numbers] = True
    return table


def drawn_by(sampler, data=(NUMBERS, NUMBERS)):
    batches = epochs_of(sampler.dataset(data), EPOCHS)
    return table_of([numbers[mask > 0].ravel() for numbers, _, mask in batches])


def through_a_buffer(epochs=EPOCHS):
    """MindSpore's shuffle with a buffer, batched."""
    rows = ds.NumpySlicesDataset(NUMBERS, ["number"], shuffle=False).shuffle(BUFFER).batch(BATCH)
    iterator = rows.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
    return np.array([numbers for _ in range(epochs) for numbers, in iterator]).reshape(epochs, RECORDS)


def buffer_with_binomial_sizes():
    """The same stream, cut into batches whose sizes are those of Poisson sampling."""
    stream = through_a_buffer(EPOCHS + 4).ravel()
    sizes = np.random.default_rng().binomial(RECORDS, RATE, EPOCHS * STEPS)
    return table_of([np.unique(part) for part in np.split(stream, np.cumsum(sizes))[:-1]])


def sticky():
    """Coins of the right rate that remember the last step a little."""
    generator = np.random.default_rng()
    table = generator.random((EPOCHS * STEPS, RECORDS)) < RATE
    for step in range(1, len(table)):
        keep = generator.random(RECORDS) < 0.02
        table[step, keep] = table[step - 1, keep]
    return table


def p_values(table):
    """{what: probability of so large a deviation under independent coins of the claimed rate}."""
    steps = len(table)
    counts = np.bincount(table.sum(axis=0), minlength=steps + 1)
    expected = RECORDS * stats.binom.pmf(np.arange(steps + 1), steps, RATE)
    kept = expected > 5
    observed = np.append(counts[kept], counts[~kept].sum())
    wanted = np.append(expected[kept], expected[~kept].sum())
    sizes = table.sum(axis=1)
    spread = ((sizes - RECORDS * RATE) ** 2).sum() / (RECORDS * RATE * (1 - RATE))
    blocks = table.reshape(EPOCHS, STEPS, 10, -1).sum(axis=(0, 3))
    cell = EPOCHS * RECORDS / 10 * RATE
    together = [(table[:, :-apart] & table[:, apart:]).sum() for apart in range(1, 100)]
    pairs = steps * (RECORDS - np.arange(1, 100)) * RATE ** 2
    again = (table[1:] & table[:-1]).sum() - (steps - 1) * RECORDS * RATE ** 2
    variance = RECORDS * ((steps - 1) * RATE ** 2 * (1 - RATE ** 2) + 2 * (steps - 2) * RATE ** 3 * (1 - RATE))
    return {
        "how often a record takes part": stats.chi2.sf(((observed - wanted) ** 2 / wanted).sum(), len(wanted) - 1),
        "sizes": 2 * min(stats.chi2.sf(spread, steps), stats.chi2.cdf(spread, steps)),
        "step of the epoch and place in the data": stats.chi2.sf(((blocks - cell) ** 2).sum() / (cell * (1 - RATE)),
                                                                 blocks.size),
        # sums of x_i x_(i+k) over k: one z for all distances, whose terms share records and so vary a little more
        "neighbours together": 2 * stats.norm.sf(abs((together - pairs).sum()) / np.sqrt(
            pairs.sum() * (1 + 4 * 99 * RATE))),
        "consecutive steps": 2 * stats.norm.sf(abs(again) / np.sqrt(variance))}


@pytest.mark.parametrize("data", [lambda: (NUMBERS, NUMBERS), lambda: ds.NumpySlicesDataset(
    (NUMBERS, NUMBERS), ["image", "label"], shuffle=False)], ids=["arrays", "pipeline"])
def test_participation_is_that_of_independent_coins(data):
    found = p_values(drawn_by(PoissonSampler(BATCH), data()))
    assert min(found.values()) > RIGHT, found


IMPOSTORS = {
    "shuffle buffer": (lambda: table_of(through_a_buffer().reshape(-1, BATCH)),
                       ["how often a record takes part", "sizes", "step of the epoch and place in the data",
                        "neighbours together"]),
    "shuffle buffer, sizes of Poisson sampling": (buffer_with_binomial_sizes, ["how often a record takes part",
                                                                               "neighbours together"]),
    "partition": (lambda: drawn_by(ShufflePartition(BATCH)), ["how often a record takes part", "sizes"]),
    "fixed size": (lambda: drawn_by(FixedSizeSampler(BATCH)), ["sizes"]),
    "rate 5% off": (lambda: drawn_by(PoissonSampler(BATCH + 4, steps_per_epoch=STEPS)),
                    ["how often a record takes part"]),
    "memory of the last step": (sticky, ["consecutive steps"]),
}


@pytest.mark.parametrize("name", IMPOSTORS)
def test_what_is_passed_off_as_poisson_sampling_is_rejected(name):
    make, seen_by = IMPOSTORS[name]
    found = p_values(make())
    assert all(found[what] < WRONG for what in seen_by), found
