"""Hypotheses of one's own: small classes, whose slips are answered before they cost anything."""

import numpy as np
import pytest
from toy_robots import Robots, play, policy

from sb3_plastic.adaptive.hypotheses import DEFAULT, HYPOTHESES, OF_COMMANDS, Hypothesis, checked_names
from sb3_plastic.adaptive.hypotheses.motors import Motors, MotorsAndBias
from sb3_plastic.adaptive.options import LayerOptions
from sb3_plastic.errors import UserError


def test_default_stands_for_those_that_run_by_default_and_are_served():
    added = policy().with_hypotheses("default", "motors_and_disturbance").layer
    assert added.settings.hypotheses == (*DEFAULT, "motors_and_disturbance")
    assert added.names == ["nominal", *added.settings.hypotheses]
    options = LayerOptions.of({"forward_model": "actor", "hypotheses": ["motors_and_disturbance", "default"]})
    assert set(options.names()) == set(OF_COMMANDS)
    assert checked_names(["wires", "default"])[0] == "wires"
    with pytest.raises(UserError, match="Each hypothesis is named once"):
        checked_names(["default", "default"])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("columns", [[0], [0, 1, 0, 1], []])
def test_derivatives_by_other_synapses_than_there_are_are_refused(columns, full, monkeypatch):
    class Slip(Motors):
        name = "slip"

        def innovation(self, mean, t, model):
            e, H = super().innovation(mean, t, model)
            return e, H[:, :, columns]

    Slip.full = full
    monkeypatch.setitem(HYPOTHESES, "slip", Slip)
    with pytest.raises(UserError, match=r"n = 2 synapses, H = -de/dm has the shape \(\d, 3, 2\)"):
        play(policy(("slip",)), Robots(3, applied=lambda u, t: -0.6 * u), 60)


def test_whole_numbers_at_the_start_learn_as_others_do_in_some_robots_of_many(monkeypatch):
    class Whole(MotorsAndBias):
        name = "whole"
        start_variance = 1

        def start(self):
            return np.repeat([1, 0], self.sizes.n_motors)

    class Real(Whole):
        name = "real"
        start_variance = 1.0

        def start(self):
            return super().start().astype(float)

    def half_of_them(u, t):
        return u * np.where(np.arange(len(u))[:, None] % 2, -0.6, 1.0) if t > 20 else u

    estimates = []
    for kind in (Whole, Real):
        monkeypatch.setitem(HYPOTHESES, kind.name, kind)
        p = policy((kind.name,))
        estimates.append(p.estimates(play(p, Robots(4, applied=half_of_them), 60))[kind.name].mean)
    np.testing.assert_array_equal(*estimates)
    assert estimates[0][1, :2] == pytest.approx([-0.6, -0.6], abs=0.1)


def test_a_class_that_has_another_name_than_it_is_entered_under_is_refused(monkeypatch):
    class Nameless(Hypothesis):
        pass

    monkeypatch.setitem(HYPOTHESES, "weak", Nameless)
    with pytest.raises(UserError, match=r"HYPOTHESES\['weak'\] calls itself 'nominal': give its class name = 'weak'"):
        policy(("weak",))


def test_an_inflation_of_other_synapses_than_there_are_is_refused(monkeypatch):
    class Slip(Motors):
        name = "slip"

        def inflation(self):
            return np.full(3, 0.3)

    monkeypatch.setitem(HYPOTHESES, "slip", Slip)
    with pytest.raises(
        UserError, match=r"slip starts with 2 synapses, but inflation\(\) has the shape \(3,\), not \(2,\)"
    ):
        policy(("slip",))
