"""Models that ignore their training data, and everything an attack needs to attack them: there is nothing to find."""
from dataclasses import dataclass

import numpy as np

from mindarmour.privacy.evaluation import ShadowModels, Signals, collect_signals

CLASSES = 4


@dataclass(frozen=True)
class World:
    """One kind of set-up.

    Args:
        members (int): Audited members (of the stand-in: half of the records).
        others (int): Audited non-members.
        models (int): Shadow models.
        views (int): Augmented copies of each record.
        step (float): Logits are rounded to multiples of it, which makes ties; 0 for none.
        stand_in (bool): A shadow model takes the audited model's place.
    """

    members: int = 150
    others: int = 150
    models: int = 4
    views: int = 0
    step: float = 0.0
    stand_in: bool = False


WORLDS = {
    "plain": World(), "stand-in": World(stand_in=True, models=6), "stand-in of four": World(stand_in=True),
    "views": World(views=2), "stand-in, views": World(views=1, stand_in=True, models=6), "ties": World(step=4.0),
    "stand-in, ties": World(step=4.0, stand_in=True, models=6), "few values": World(step=8.0),
    "imbalance": World(members=20, others=280), "many members": World(members=280, others=20),
    "tiny": World(members=8, others=9),
}


class BlindModels:
    """One draw of a world: shadow models, the audited model's signals, and its signals on a population.

    Args:
        world (World): The kind.
        seed (int): Of everything random.
        folder (Path): Where the shadow models' outputs go.
        population (int): Records that nobody trains on.
    """

    def __init__(self, world, seed, folder, population=100):
        self.world, self._seed = world, seed
        count = world.members + world.others
        rng = np.random.default_rng([seed, 1])
        self.records, self.population = np.arange(count), np.arange(count, count + population)
        self._total = count + population
        labels = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, self._total - CLASSES)])
        self.labels = labels
        shape = (1 + world.views, self._total, CLASSES)
        self._base, self._spread = rng.normal(0, 2, shape), np.exp(rng.normal(0, 0.7, (1, self._total, 1)))
        self._base[:, np.arange(self._total), labels] += 2
        pairs = [(self._inputs(part), labels[part]) for part in (self.records, self.population)]
        views = [self._view(number) for number in range(1, 1 + world.views)]
        self.store = ShadowModels(self._train, pairs[0], world.models, seed, folder, population=pairs[1],
                                  augmentations=views)
        self.pairs, self.augmentations = pairs, views

    @staticmethod
    def _inputs(numbers):
        return np.asarray(numbers, np.float64)[:, None]

    def _view(self, number):
        return lambda batch: batch + number * self._total

    def _train(self, inputs, labels, seed):
        return self.model(seed)

    def model(self, seed):
        """Function from record numbers to logits; only the seed matters."""
        noise = np.random.default_rng([self._seed, seed, 2]).normal(size=self._base.shape)
        logits = self._base + noise * self._spread
        if self.world.step:
            logits = np.round(logits / self.world.step) * self.world.step
        flat = logits.reshape(-1, CLASSES)
        return lambda batch: flat[batch[:, 0].astype(int)]

    def audited(self):
        """(signals, population signals, shadow models to leave out)."""
        if self.world.stand_in:
            return self.store.signals(1), self.store.population_signals(1), (1,)
        order = np.random.default_rng([self._seed, 3]).permutation(len(self.records))
        members, others = order[:self.world.members], order[self.world.members:]
        (x, y), population = self.pairs
        model = self.model(10 ** 6)
        signals = collect_signals(model, (x[members], y[members]), (x[others], y[others]), ids=(members, others),
                                  augmentations=self.augmentations, progress=False)
        return signals, collect_signals(model, None, population, augmentations=self.augmentations, progress=False), ()

    def reference(self):
        """Signals of another blind model, with members and non-members of its own."""
        outputs = self.model(10 ** 6 + 1)(self._inputs(self.records))
        is_member = np.random.default_rng([self._seed, 4]).random(len(self.records)) < 0.5
        return Signals(outputs, self.labels[self.records], is_member)
