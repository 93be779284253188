"""Monitors: what they count, print, refuse and suggest."""
import math
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Model, RunContext
from small_models import dataset_of, loss_fn, model_of
from small_networks import batch_for, dense

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent, privacy_spent_delta
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.curves.gaussian import epsilon_of_gaussian
from mindarmour.privacy.accounting.lower_bound import shuffle_lower_bound
from mindarmour.privacy.diff_privacy import (
    ClipMechanismsFactory,
    DPModel,
    PLDMonitor,
    PoissonSampler,
    PrivacyMonitorFactory,
    PrivacyProgress,
    RDPMonitor,
    UserPoissonSampler,
    ZCDPMonitor,
)
from mindarmour.privacy.diff_privacy.monitor.arguments import MonitorArguments
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.privacy.errors import BudgetExceededError, PrivacyWarning

ROWS, COUNT = 8, 64
DATA = {"num_samples": COUNT, "batch_size": ROWS, "target_delta": 1e-5}


def poisson():
    return PoissonSampler(ROWS).dataset(tuple(c.asnumpy() for c in batch_for("dense", COUNT)))


def partition():
    return dataset_of(batch_for("dense", COUNT))


def steps_alone(monitor, steps, per_epoch=8):
    """Drive a monitor without any model, as a custom loop would."""
    context = SimpleNamespace(cur_step_num=0, cur_epoch_num=1, batch_num=per_epoch)
    run = RunContext.__new__(RunContext)
    run._original_args, run._stop_requested = context, False
    run.original_args = lambda: context
    for step in range(steps):
        context.cur_step_num, context.cur_epoch_num = step + 1, step // per_epoch + 1
        monitor.on_train_step_end(run)
    monitor.on_train_end(run)
    return run


def expected(steps, multiplier, sampling, delta=1e-5, **event):
    ledger = Ledger()
    ledger.start_epoch()
    ledger.record(StepEvent(sampling, multiplier, **event), steps)
    return privacy_spent(ledger.entries, delta).epsilon


def test_attached_monitor_reads_what_ran_and_counts_every_step(capsys):
    monitor = PrivacyMonitorFactory.create("rdp", max_eps=None, per_print_times=5, **DATA)
    model = model_of(dense(), 2.0)
    model.train(2, poisson(), callbacks=[monitor])
    sampling = Sampling("poisson", COUNT, ROWS, "add-or-remove")
    assert monitor.ledger.steps == 16
    assert monitor.spent().epsilon == pytest.approx(expected(16, 2.0, sampling), rel=1e-6)
    lines = capsys.readouterr().out.splitlines()
    printed = [line for line in lines if line.startswith("epoch:")]
    assert [line.split(",")[0] for line in printed] == ["epoch: 1 step: 5", "epoch: 2 step: 2", "epoch: 2 step: 7",
                                                        "epoch: 2 step: 8"]
    assert float(printed[-1].split("eps is ")[1]) == pytest.approx(monitor.spent().epsilon, rel=1e-4)
    assert "guarantee (rdp): add-or-remove, poisson sampling, one unit = example" in lines[-1]


def test_one_line_an_epoch_and_what_it_means_first_and_last(capsys):
    monitor = PrivacyMonitorFactory.create("rdp", max_eps=None, **DATA)
    model_of(dense(), 2.0).train(3, poisson(), callbacks=[monitor, PrivacyProgress(monitor)])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("epoch:")] == [
        f"epoch: {epoch} step: 8" for epoch in (1, 2, 3)]
    meaning = [number for number, line in enumerate(lines) if "guarantee (rdp)" in line]
    assert meaning == [1, 4] and len(lines) == 5
    assert "ghost engine" in printed.err.replace("\r", "\n").strip().splitlines()[-1]


@pytest.mark.parametrize("policy", ["rdp", "zcdp"])
def test_a_monitor_that_knows_of_users_says_what_they_pay(capsys, policy):
    monitor = PrivacyMonitorFactory.create(policy, max_eps=None, per_print_times=8, examples_per_user=3,
                                           noise_decay_mode=None, initial_noise_multiplier=8.0, **DATA)
    model = model_of(dense(), 8.0)
    model.train(1, poisson(), callbacks=[monitor])
    figure = privacy_spent(model.ledger.entries, 1e-5, policy, unit="user", examples_per_user=3).epsilon
    assert f"eps is {figure:.6g} for users with up to 3 examples" in capsys.readouterr().out
    assert figure > monitor.spent().epsilon
    model.train(1, partition(), callbacks=[monitor])
    assert "for users who own several examples nothing is known: unit must be 'example'" in capsys.readouterr().out


def test_a_monitor_of_users_that_are_drawn_states_their_figure(capsys):
    columns = tuple(c.asnumpy() for c in batch_for("dense", COUNT))
    dataset = UserPoissonSampler(4, 2).dataset(columns, np.arange(COUNT) % 32)
    monitor = RDPMonitor(32, 4, noise_decay_mode=None, initial_noise_multiplier=2.0, max_eps=None, target_delta=1e-5)
    model = model_of(dense(), 2.0)
    model.train(1, dataset, callbacks=[monitor])
    assert monitor.spent().epsilon == pytest.approx(expected(8, 2.0, Sampling("poisson", 32, 4, "add-or-remove")))
    assert "one unit = user (up to 2 examples)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="num_samples of the monitor must agree"):
        model.train(1, dataset, callbacks=[RDPMonitor(COUNT, 4, noise_decay_mode=None, initial_noise_multiplier=2.0)])


def test_partition_gets_the_bound_that_holds_and_poisson_as_an_assumption(capsys):
    monitor = RDPMonitor(max_eps=None, per_print_times=8, **DATA)
    model_of(dense(), 5.0).train(3, partition(), callbacks=[monitor])
    assert monitor.spent().epsilon == pytest.approx(epsilon_of_gaussian(math.sqrt(3) / 5.0, 1e-5), rel=1e-6)
    poisson_figure = expected(24, 5.0, Sampling("poisson", COUNT, ROWS, "zero-out"))
    text = capsys.readouterr().out
    assert "zero-out, shuffle sampling" in text
    assert f"with Poisson sampling it would be eps {poisson_figure:.4g} (assumption, not this run)" in text


def test_micro_batches_and_the_adaptive_bound_are_counted(capsys):
    monitor = RDPMonitor(max_eps=None, per_print_times=8, **DATA)
    clip = ClipMechanismsFactory.create("Gaussian", fraction_stddev=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = model_of(dense(), 1.0, micro_batches=4, clip_mech=clip)
        model.train(2, partition(), callbacks=[monitor])
    mu = math.sqrt(2 * (2.0 ** 2 + (0.01 * 4) ** -2))
    assert monitor.spent().epsilon == pytest.approx(epsilon_of_gaussian(mu, 1e-5), rel=1e-6)
    text = capsys.readouterr().out
    assert "one unit = micro-batch of 2 examples" in text and "next to no protection" in text


def test_budget_only_warns_by_default_and_stops_before_it_when_asked(capsys):
    model = model_of(dense(), 2.0)
    with pytest.warns(PrivacyWarning, match="passed the budget of 1"):
        model.train(2, poisson(), callbacks=[RDPMonitor(max_eps=1.0, per_print_times=4, **DATA)])
    assert model.ledger.steps == 16
    monitor = RDPMonitor(max_eps=1.2, stop_at_budget=True, **DATA)
    model = model_of(dense(), 2.0)
    model.train(2, poisson(), callbacks=[monitor])
    sampling = Sampling("poisson", COUNT, ROWS, "add-or-remove")
    assert 0 < model.ledger.steps < 16
    assert expected(model.ledger.steps, 2.0, sampling) <= 1.2 < expected(model.ledger.steps + 1, 2.0, sampling)
    assert "Training stops after step" in capsys.readouterr().out


def test_a_budget_below_the_first_step_refuses_to_train():
    model = model_of(dense(), 0.5)
    monitor = RDPMonitor(max_eps=0.5, stop_at_budget=True, **DATA)
    with pytest.raises(BudgetExceededError, match="step 1 would bring"):
        model.train(1, poisson(), callbacks=[monitor])
    assert model.ledger.steps == 0


@pytest.mark.parametrize("drop, told", [(False, 100), (True, 100), (True, 96)])
def test_the_true_number_of_records_agrees_whether_the_last_batch_is_dropped_or_not(drop, told):
    arguments = MonitorArguments(told, 32, 1.0, None, 1e-3, 50, False)
    plan = replace(model_of(dense(), 1.0).train_network.plan,
                   sampling=claim_of(dataset_of(batch_for("dense", 100), batch=32, drop=drop)))
    arguments.check_against(plan)


@pytest.mark.parametrize("drop, told", [(False, 128), (False, 99), (False, 101), (True, 128), (True, 95), (True, 64)])
def test_a_wrong_number_of_records_of_a_partition_raises(drop, told):
    arguments = MonitorArguments(told, 32, 1.0, None, 1e-3, 50, False)
    plan = replace(model_of(dense(), 1.0).train_network.plan,
                   sampling=claim_of(dataset_of(batch_for("dense", 100), batch=32, drop=drop)))
    with pytest.raises(ValueError, match="num_samples"):
        arguments.check_against(plan)


@pytest.mark.parametrize("told, name", [
    ({"initial_noise_multiplier": 1.9}, "initial_noise_multiplier"), ({"noise_decay_mode": "Time"}, "noise_decay_mode"),
    ({"batch_size": 7}, "batch_size"), ({"num_samples": COUNT + 1}, "num_samples"),
    ({"num_samples": COUNT - 1}, "num_samples")])
def test_a_monitor_that_contradicts_the_model_raises(told, name):
    monitor = RDPMonitor(**{**DATA, **told})
    with pytest.raises(ValueError, match=f"{name} of the monitor must agree"):
        model_of(dense(), 2.0).train(1, poisson(), callbacks=[monitor])


def test_a_monitor_that_agrees_is_accepted():
    monitor = RDPMonitor(initial_noise_multiplier=2.0, noise_decay_mode=None, max_eps=None, **DATA)
    model_of(dense(), 2.0).train(1, poisson(), callbacks=[monitor])
    assert monitor.ledger.steps == 8


def test_alone_it_accounts_for_its_arguments(capsys):
    monitor = RDPMonitor(60000, 256, 1.0, target_delta=1e-5, noise_decay_mode=None, per_print_times=234, max_eps=None)
    steps_alone(monitor, 250, 234)
    sampling = Sampling("poisson", 60000, 256, "add-or-remove")
    assert monitor.spent().epsilon == pytest.approx(expected(250, 1.0, sampling), rel=1e-6)
    assert capsys.readouterr().out.count("epoch:") == 2, "the tail after the last interval is printed too"


def test_alone_it_follows_its_decay():
    monitor = RDPMonitor(60000, 256, 2.0, target_delta=1e-5, noise_decay_mode="Step", noise_decay_rate=0.1,
                         max_eps=None)
    steps_alone(monitor, 3)
    assert [e.event.noise_multiplier for e in monitor.ledger.entries] == pytest.approx([2.0, 1.8, 1.62])


def test_alone_with_a_plain_model_it_counts_the_steps():
    network = dense()
    monitor = RDPMonitor(max_eps=None, **DATA)
    Model(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1)).train(2, partition(), callbacks=[monitor])
    assert monitor.ledger.steps == 16


def test_zcdp_counts_participations():
    monitor = ZCDPMonitor(60000, 256, 1.5, noise_decay_mode=None, target_delta=1e-5, max_eps=None)
    steps_alone(monitor, 2340, 234)
    rho = 10 / (2 * 1.5 ** 2)
    exact = epsilon_of_gaussian(math.sqrt(2 * rho), 1e-5)
    documented = rho + 2 * math.sqrt(rho * math.log(1e5))
    assert exact <= monitor.spent().epsilon <= documented


def test_delta_at_a_target_epsilon():
    monitor = RDPMonitor(60000, 256, 1.0, target_delta=None, target_eps=1.3516, noise_decay_mode=None, max_delta=0.1)
    steps_alone(monitor, 2340, 234)
    assert monitor.spent().delta == pytest.approx(1e-5, rel=0.02)


@pytest.mark.parametrize("monitor, suggestion, budget", [
    (RDPMonitor(60000, 256, 1.0, max_eps=3.0, target_delta=1e-5, noise_decay_mode=None), None, 3.0),
    (RDPMonitor(60000, 256, 1.5, max_eps=3.0, target_delta=1e-5, noise_decay_mode="Time"), None, 3.0),
    (ZCDPMonitor(60000, 256, 20.0, max_eps=10.0, noise_decay_mode=None, target_delta=1e-3), None, 10.0),
    (RDPMonitor(60000, 256, 0.05, max_eps=10.0, noise_decay_mode=None), 0, 10.0)])
def test_suggested_epochs_are_the_last_that_keep_the_budget(monitor, suggestion, budget):
    epochs = monitor.max_epoch_suggest()
    assert suggestion is None or epochs == suggestion
    if epochs:
        assert monitor.spent(monitor._run_of(epochs)).epsilon <= budget
    assert monitor.spent(monitor._run_of(epochs + 1)).epsilon > budget
    assert monitor.ledger.steps == 0, "a suggestion spends nothing"


def test_suggestion_with_a_target_epsilon_and_without_a_budget():
    monitor = RDPMonitor(60000, 256, 1.0, target_delta=None, target_eps=2.0, max_delta=1e-5, noise_decay_mode=None)
    epochs = monitor.max_epoch_suggest()
    assert monitor.spent(monitor._run_of(epochs)).delta <= 1e-5 < monitor.spent(monitor._run_of(epochs + 1)).delta
    with pytest.raises(ValueError, match="max_eps"):
        RDPMonitor(60000, 256, max_eps=None).max_epoch_suggest()
    with pytest.raises(ValueError, match="max_delta"):
        RDPMonitor(60000, 256, target_delta=None, target_eps=1.0).max_epoch_suggest()


NUMBERS = [0, -1.0, math.nan, math.inf]


@pytest.mark.parametrize("cls", [RDPMonitor, ZCDPMonitor, PLDMonitor])
@pytest.mark.parametrize("name, bad, wrong_type", [
    ("num_samples", [0, -5], [1.0, None]), ("batch_size", [0, 64, 100], [8.0, "8"]),
    ("initial_noise_multiplier", NUMBERS, ["1", True]), ("max_eps", NUMBERS, ["1", True]),
    ("target_delta", [*NUMBERS, 1.0, 5.0], ["1", True]), ("noise_decay_mode", ["linear", 3], []),
    ("noise_decay_rate", [0.0, 1.0, math.nan], [1, None]), ("per_print_times", [0, -1], [5.0, None]),
    ("dataset_sink_mode", [], [1, None]), ("stop_at_budget", [], [1, "yes"])])
def test_bad_arguments_are_refused(cls, name, bad, wrong_type):
    for value in bad:
        with pytest.raises(ValueError, match=name):
            cls(**{**DATA, name: value})
    for value in wrong_type:
        with pytest.raises(TypeError, match=name):
            cls(**{**DATA, name: value})
    for value in (True,):
        if name in ("num_samples", "batch_size", "per_print_times"):
            with pytest.raises(ValueError, match=name):
                cls(**{**DATA, name: value})


@pytest.mark.parametrize("targets", [{"target_delta": 1e-5, "target_eps": 1.0}, {"target_delta": None}])
def test_exactly_one_target(targets):
    with pytest.raises(ValueError, match="Exactly one"):
        RDPMonitor(60000, 256, **targets)


@pytest.mark.parametrize("name, bad", [("max_delta", [0, 1.0, 2, math.nan]), ("target_eps", NUMBERS),
                                       ("orders", [[1.0, 2.0], [0.5], [], [math.nan]])])
def test_rdp_only_arguments_are_refused(name, bad):
    extra = {"target_delta": None} if name == "target_eps" else {}
    for value in bad:
        with pytest.raises(ValueError, match=name):
            RDPMonitor(60000, 256, **{**extra, name: value})


def steps_until_stopped(monitor, most=200, per_epoch=8):
    """Drive a monitor alone until it asks to stop; the number of steps that ran."""
    context = SimpleNamespace(cur_step_num=0, cur_epoch_num=1, batch_num=per_epoch)
    stopped = []
    run = SimpleNamespace(original_args=lambda: context, request_stop=lambda: stopped.append(context.cur_step_num))
    monitor.on_train_begin(run)
    for step in range(1, most + 1):
        context.cur_step_num, context.cur_epoch_num = step, (step - 1) // per_epoch + 1
        monitor.on_train_step_end(run)
        if stopped:
            break
    return context.cur_step_num


def test_steps_and_epochs_left_are_the_last_that_fit():
    sampling = Sampling("poisson", COUNT, ROWS, "add-or-remove")
    monitor = RDPMonitor(initial_noise_multiplier=2.0, noise_decay_mode=None, max_eps=1.2, **DATA)
    left = monitor.steps_left()
    assert expected(left, 2.0, sampling) <= 1.2 < expected(left + 1, 2.0, sampling)
    assert monitor.epochs_left() == left // 8
    steps_alone(monitor, 3)
    assert monitor.steps_left() == left - 3 and f"of 1.2, {left - 3} steps left" in monitor.summary()
    monitor = RDPMonitor(initial_noise_multiplier=2.0, noise_decay_mode=None, max_eps=1.2, stop_at_budget=True, **DATA)
    assert steps_until_stopped(monitor) == left


def test_steps_left_follow_a_decay():
    arguments = dict(initial_noise_multiplier=2.0, noise_decay_mode="Step", noise_decay_rate=0.05, **DATA)
    monitor = RDPMonitor(max_eps=1.2, **arguments)
    left = monitor.steps_left()
    assert left < RDPMonitor(initial_noise_multiplier=2.0, noise_decay_mode=None, max_eps=1.2, **DATA).steps_left()
    steps_alone(monitor, left)
    assert monitor.spent().epsilon <= 1.2 and monitor.steps_left() == 0
    with pytest.warns(PrivacyWarning, match="passed the budget"):
        steps_alone(monitor, 1)
    assert monitor.spent().epsilon > 1.2


def test_a_per_epoch_claim_stops_at_the_end_of_the_last_epoch_that_fits():
    three, four = (epsilon_of_gaussian(math.sqrt(epochs) / 5.0, 1e-5) for epochs in (3, 4))
    monitor = ZCDPMonitor(initial_noise_multiplier=5.0, noise_decay_mode=None, max_eps=four * 0.999,
                          stop_at_budget=True, **DATA)
    assert three < four * 0.97, "the zCDP conversion lies a little above the exact figure"
    assert (monitor.steps_left(), monitor.epochs_left(), monitor.max_epoch_suggest()) == (24, 3, 3)
    assert steps_until_stopped(monitor) == 24
    assert monitor.spent().epsilon <= four * 0.999


def test_nothing_is_left_of_no_budget():
    for method in ("steps_left", "epochs_left"):
        with pytest.raises(ValueError, match="max_eps must be given"):
            getattr(RDPMonitor(max_eps=None, **DATA), method)()


def test_pld_is_tighter_and_stops_later():
    pytest.importorskip("dp_accounting")
    arguments = dict(initial_noise_multiplier=2.0, noise_decay_mode=None, max_eps=1.2, **DATA)
    pld, rdp = (PrivacyMonitorFactory.create(name, **arguments) for name in ("pld", "rdp"))
    assert isinstance(pld, PLDMonitor)
    left = pld.steps_left()
    assert left > rdp.steps_left()
    sampling = Sampling("poisson", COUNT, ROWS, "add-or-remove")
    ledger = Ledger()
    ledger.record(StepEvent(sampling, 2.0), left)
    # a percent is what the refinement of the value grid may leave
    assert privacy_spent(ledger.entries, 1e-5, "pld").epsilon <= 1.2 * 1.01
    ledger.record(StepEvent(sampling, 2.0), 2)
    assert privacy_spent(ledger.entries, 1e-5, "pld").epsilon > 1.2 * 0.99


def test_all_accountants_side_by_side(capsys):
    pytest.importorskip("dp_accounting")
    monitor = PrivacyMonitorFactory.create("all", initial_noise_multiplier=2.0, noise_decay_mode=None, max_eps=None,
                                           per_print_times=4, **DATA)
    steps_alone(monitor, 4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch: 1 step: 4, delta is 1e-05, eps is ")
    for line, accountant in zip(lines[1:], ("pld", "rdp", "zcdp")):
        spent = privacy_spent(monitor.ledger.entries, 1e-5, accountant)
        assert line.strip().startswith(f"eps {spent.epsilon:.6g}, guarantee ({accountant}): add-or-remove, poisson "
                                       f"sampling, one unit = example")
    assert "not amplified by sampling" in lines[3]


def test_a_partition_shows_what_it_provably_leaks(capsys, monkeypatch):
    monitor = PrivacyMonitorFactory.create("all", initial_noise_multiplier=0.5, noise_decay_mode=None, max_eps=None,
                                           per_print_times=8, **DATA)
    sampling = Sampling("shuffle", COUNT, ROWS, "zero-out", steps_per_epoch=8)
    monkeypatch.setattr(monitor, "_assumed_sampling", lambda: sampling)
    steps_alone(monitor, 8)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    bound = shuffle_lower_bound(monitor.ledger.entries, 1e-5).epsilon
    assert 5 < bound <= monitor.spent().epsilon
    assert any(line.startswith(f"eps {bound:.6g}, lower-bound (attack): zero-out") for line in lines)
    assert any("(assumption, not this run)" in line for line in lines)


def test_unknown_accountants_are_not_printed_beside():
    with pytest.raises(ValueError, match="accountant"):
        PLDMonitor(beside=("gdp",), **DATA)


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="policy"):
        PrivacyMonitorFactory.create("moments")


def test_given_orders_are_used():
    few = RDPMonitor(60000, 256, 1.0, target_delta=1e-5, noise_decay_mode=None, orders=[2, 5.5, 10])
    all_orders = RDPMonitor(60000, 256, 1.0, target_delta=1e-5, noise_decay_mode=None)
    for monitor in (few, all_orders):
        steps_alone(monitor, 5)
    assert few.spent().epsilon > all_orders.spent().epsilon
    assert np.isfinite(few.spent().epsilon)


def test_a_delta_that_protects_nobody_is_pointed_out(capsys):
    for delta, said in ((2e-3, True), (1 / 960, True), (1e-3, False)):
        monitor = RDPMonitor(960, 64, 2.0, target_delta=delta, noise_decay_mode=None, max_eps=None, per_print_times=1)
        steps_alone(monitor, 1)
        assert ("is not below 1/960" in capsys.readouterr().out) == said


@pytest.mark.parametrize("multiplier, target", [(0.27, 118.0), (5.0, 1.0)])
def test_the_figure_under_poisson_sampling_is_computed_whatever_the_target(multiplier, target, capsys):
    monitor = RDPMonitor(COUNT, ROWS, target_delta=None, target_eps=target, max_delta=0.5, per_print_times=8)
    model = model_of(dense(), multiplier)
    model.train(2, partition(), callbacks=[monitor])
    figure = privacy_spent_delta(model.ledger.entries, target, assume="poisson").delta
    assert f"with Poisson sampling it would be delta {figure:.4g} (assumption" in capsys.readouterr().out


@pytest.mark.parametrize("data, units, advice", [
    (poisson, None, "raise the noise multiplier"),
    (partition, None, "raise the noise multiplier, use PoissonSampler"),
    (partition, 4, "raise the noise multiplier, use micro_batches=None, use PoissonSampler")])
def test_no_advice_to_do_what_is_done_already(data, units, advice, capsys):
    monitor = RDPMonitor(max_eps=None, per_print_times=8, **DATA)
    model_of(dense(), 0.2, micro_batches=units).train(1, data(), callbacks=[monitor])
    assert f"This is next to no protection: {advice}\n" in capsys.readouterr().out


def test_what_was_spent_before_takes_its_part_of_the_suggestion():
    network = dense()
    model_of(network, 3.0).train(2, poisson())
    monitor = RDPMonitor(max_eps=2.0, **DATA)
    fresh = RDPMonitor(initial_noise_multiplier=3.0, noise_decay_mode=None, max_eps=2.0, **DATA).max_epoch_suggest()
    model = model_of(network, 3.0)
    model.train(1, poisson(), callbacks=[monitor])
    assert monitor.max_epoch_suggest() == fresh - 2 == monitor.epochs_left() + 1


@pytest.mark.parametrize("data", [poisson, partition])
def test_a_budget_for_some_epochs_suggests_these_epochs(data):
    dataset = data()
    network = dense()
    model = DPModel.for_budget(3.0, 1e-5, 4, dataset, network=network, loss_fn=loss_fn(),
                               optimizer=nn.SGD(network.trainable_params(), 0.1))
    monitor = RDPMonitor(max_eps=3.0, **DATA)
    model.train(1, dataset, callbacks=[monitor])
    assert monitor.max_epoch_suggest() == 4


def test_the_progress_line_ends_without_steps_that_are_left(capsys):
    monitor = RDPMonitor(max_eps=5.0, per_print_times=100, **DATA)
    model_of(dense(), 2.0).train(1, poisson(), callbacks=[monitor, PrivacyProgress(monitor, refresh=2)])
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "of 5" in last and "left" not in last and "8/8" in last


def test_a_single_step_left_is_said_in_the_singular(monkeypatch):
    monitor = RDPMonitor(initial_noise_multiplier=2.0, noise_decay_mode=None, max_eps=1.2, **DATA)
    monkeypatch.setattr(monitor, "steps_left", lambda: 1)
    assert monitor.summary().endswith("of 1.2, 1 step left")


def test_evaluation_is_neither_counted_nor_printed(capsys):
    network = dense()
    monitor = RDPMonitor(max_eps=30.0, stop_at_budget=True, per_print_times=1, **DATA)
    model = model_of(network, 2.0, metrics={"accuracy"})
    model.fit(1, partition(), partition(), callbacks=[monitor])
    assert capsys.readouterr().out.count("epoch:") == model.ledger.steps
    alone = RDPMonitor(max_eps=None, **DATA)
    plain = Model(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1), metrics={"accuracy"})
    plain.fit(1, partition(), partition(), callbacks=[alone])
    assert alone.ledger.steps == 8
