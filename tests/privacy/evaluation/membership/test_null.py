"""Where nothing can be found, no attack finds anything: one contract for all, over models that ignore their data.

Stand-ins, views, ties, imbalance and tiny sets; the AUC within 4 standard errors of 0.5, p-values uniform.
"""
import mindspore.dataset as ds
import numpy as np
import pytest
from blind_models import WORLDS, BlindModels, World
from mindspore import nn
from mindspore.train import Model
from scipy.stats import kstest, mannwhitneyu

from mindarmour.privacy.evaluation import (
    RMIA,
    AttackResult,
    BlindBaseline,
    ConfidenceAttack,
    EntropyAttack,
    GapAttack,
    LabelOnlyAttack,
    LiRA,
    LossAttack,
    MembershipInference,
    PopulationAttack,
    QuantileAttack,
    Signals,
)

REPETITIONS = 40
# about 150 pairs of attack and world are tested
_SURPRISING = 1e-5
_DRAWS = {}


@pytest.fixture(scope="module")
def draws(tmp_path_factory):
    """Function from a world's name to draws of it; made once for all attacks."""
    def of(name):
        if name not in _DRAWS:
            _DRAWS[name] = [BlindModels(WORLDS[name], seed, tmp_path_factory.mktemp("blind"))
                            for seed in range(REPETITIONS)]
            for draw in _DRAWS[name]:
                draw.store.fit(progress=False)
        return _DRAWS[name]
    yield of
    _DRAWS.clear()


def p_value(result):
    """Two-sided, of equal scores of members and non-members; uniform without ties."""
    scores, member = result.scores, result.is_member
    return mannwhitneyu(scores[member], scores[~member], method="asymptotic", use_continuity=False).pvalue


class NullContract:
    """What every attack keeps. A subclass says how to attack one draw of blind models."""

    worlds = tuple(WORLDS)
    repetitions = REPETITIONS

    def attack(self, draw: BlindModels) -> AttackResult:
        raise NotImplementedError

    def test_finds_nothing_where_nothing_is(self, draws):
        for name in self.worlds:
            results = [self.attack(draw) for draw in draws(name)[:self.repetitions]]
            areas = np.array([result.auc for result in results])
            # an attack whose scores are all equal has no scatter at all
            error = max(areas.std(ddof=1) / len(areas) ** .5, 1e-12)
            assert abs(areas.mean() - .5) < 4 * error, (name, areas.mean(), error)
            if areas.std() > 0 and name != "tiny":
                assert kstest([p_value(result) for result in results], "uniform").pvalue > _SURPRISING, name


class TestLoss(NullContract):
    def attack(self, draw):
        return LossAttack()(draw.audited()[0])


class TestLargestProbability(NullContract):
    def attack(self, draw):
        return ConfidenceAttack("max")(draw.audited()[0])


class TestLogOdds(NullContract):
    def attack(self, draw):
        return ConfidenceAttack("logit")(draw.audited()[0])


class TestModifiedEntropy(NullContract):
    def attack(self, draw):
        return EntropyAttack()(draw.audited()[0])


class TestEntropyWithThresholdsOfAReference(NullContract):
    worlds = tuple(name for name in WORLDS if name not in ("tiny",))

    def attack(self, draw):
        return EntropyAttack(modified=False)(draw.audited()[0], draw.reference())


class TestGap(NullContract):
    worlds = tuple(name for name in WORLDS if name != "tiny")

    def attack(self, draw):
        return GapAttack()(draw.audited()[0])


class TestLabelOnly(NullContract):
    worlds = ("views", "stand-in, views")

    def attack(self, draw):
        return LabelOnlyAttack()(draw.audited()[0])


class TestPopulation(NullContract):
    alpha = 0.05

    def attack(self, draw):
        signals, population, _ = draw.audited()
        return PopulationAttack(self.alpha)(signals, population)

    # with few values a fifth of the records ties with the threshold
    @pytest.mark.parametrize("name", ["plain", "ties", "few values", "stand-in, ties", "imbalance"])
    def test_false_positives_stay_below_alpha(self, draws, name):
        rates = [self.attack(draw).decision().fpr for draw in draws(name)]
        assert np.mean(rates) <= self.alpha + 4 * max(np.std(rates), .01) / len(rates) ** .5


class TestQuantile(NullContract):
    worlds = ("ties",)
    alpha = 0.1

    def attack(self, draw):
        signals, population, _ = draw.audited()
        rng = np.random.default_rng(0)
        return QuantileAttack(self.alpha)(signals, population, rng.normal(size=(len(signals), 2)),
                                          rng.normal(size=(len(population), 2)))

    def test_false_positives_stay_below_alpha(self, draws):
        rates = [self.attack(draw).decision().fpr for draw in draws("plain")[:15]]
        assert np.mean(rates) <= self.alpha + 4 * np.std(rates) / len(rates) ** .5

    @pytest.mark.parametrize("method", ["quantile", "gaussian"])
    def test_ties_with_the_threshold_are_not_called_members(self, method):
        # three of ten records have the larger of two margins, and no feature tells them apart
        rng, count = np.random.default_rng(0), 300
        records, public = (Signals(8.0 * (rng.random((count, 1)) < .3) * [1, 0], np.zeros(count, int), member)
                           for member in (np.arange(count) % 2 == 0, np.zeros(count, bool)))
        same = np.zeros((count, 1))
        assert QuantileAttack(self.alpha, method)(records, public, same, same).decision().fpr <= self.alpha


class WithoutNumber(nn.Cell):
    """Logits are what stands beside the record's number."""

    def construct(self, x):
        return x[:, 1:]


class TestTrainedClassifiers(NullContract):
    """Trained on every second record, judged on the others."""

    worlds = ("plain", "stand-in", "ties", "imbalance", "many members")
    repetitions = 20
    attacks = [{"method": "lr", "params": {}}]
    model = Model(WithoutNumber())

    @staticmethod
    def _pair(signals, chosen):
        rows = np.column_stack([signals.ids, signals.logits]).astype(np.float32)
        return [ds.NumpySlicesDataset((rows[part], signals.labels[part].astype(np.int32)), ["image", "label"],
                                      shuffle=False).batch(256)
                for part in (chosen & signals.is_member, chosen & ~signals.is_member)]

    def attack(self, draw):
        signals, _, _ = draw.audited()
        known = np.zeros(len(signals), bool)
        for group in (signals.is_member, ~signals.is_member):
            known[np.flatnonzero(group)[::2]] = True
        attack = MembershipInference(self.model, n_jobs=1)
        attack.train(*self._pair(signals, known), self.attacks)
        return attack.results(*self._pair(signals, ~known))[0]


class TestBlindBaseline(NullContract):
    """Both sets are draws of one distribution: the records' outputs stand for the records."""

    worlds = ("plain", "ties", "imbalance", "many members")
    repetitions = 15

    def attack(self, draw):
        signals, _, _ = draw.audited()
        rows = np.column_stack([signals.ids, signals.logits])
        sides = [(rows[part], signals.labels[part]) for part in (signals.is_member, ~signals.is_member)]
        return BlindBaseline()(*sides)


class ShadowContract(NullContract):
    """An attack with shadow models."""

    def make(self):
        raise NotImplementedError

    def attack(self, draw):
        signals, _, excluded = draw.audited()
        return self.make()(signals, draw.store, exclude=excluded)


# four models of which one is audited leave one with and two without a record: too few for a variance
_ENOUGH = tuple(name for name in WORLDS if name != "stand-in of four")


class TestLiRAOnlineShrinkage(ShadowContract):
    worlds = _ENOUGH

    def make(self):
        return LiRA()


class TestLiRAOnlineGlobal(ShadowContract):
    worlds = _ENOUGH

    def make(self):
        return LiRA("online", "global")


class TestLiRAOnlineOwnVariance(ShadowContract):
    worlds = _ENOUGH

    def make(self):
        return LiRA("online", "per_example")


class TestLiRAOfflineShrinkage(ShadowContract):
    worlds = _ENOUGH

    def make(self):
        return LiRA("offline")


class TestLiRAOfflineOwnVariance(ShadowContract):
    worlds = _ENOUGH

    def make(self):
        return LiRA("offline", "per_example")


class PopulationContract(NullContract):
    """An attack with shadow models and a population."""

    def attack(self, draw):
        signals, population, excluded = draw.audited()
        return self.make()(signals, draw.store, population, exclude=excluded)


class TestRMIAOnline(PopulationContract):
    def make(self):
        return RMIA()


class TestRMIAOffline(PopulationContract):
    def make(self):
        return RMIA("offline", a=1.0)


class TestRMIAOfflineSmallShare(PopulationContract):
    def make(self):
        return RMIA("offline", gamma=1.0, a=.3)


class TestRMIAOfflineTuned(PopulationContract):
    worlds = tuple(name for name in WORLDS if name not in ("stand-in of four", "tiny"))

    def make(self):
        return RMIA("offline")


@pytest.mark.parametrize("make", [RMIA, lambda: RMIA("offline", a=1.0), lambda: LiRA("online", "global")])
def test_a_stand_in_recognises_no_more_than_chance_at_low_rates(tmp_path, make):
    rates = []
    for seed in range(40):
        draw = BlindModels(World(members=300, others=300, models=6, stand_in=True), seed, tmp_path / str(seed))
        draw.store.fit(progress=False)
        signals, population, excluded = draw.audited()
        attack = make()
        arguments = (signals, draw.store) + ((population,) if isinstance(attack, RMIA) else ())
        rates.append(attack(*arguments, exclude=excluded).tpr_at_fpr(.01))
    error = np.std(rates, ddof=1) / len(rates) ** .5
    # at most 3 of 300 non-members: between 3 and 4 of 301 in expectation
    assert .01 - 4 * error <= np.mean(rates) <= 4 / 301 + 4 * error
