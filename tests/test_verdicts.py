"""What the notebooks conclude about the fields and the frontiers, from their tables."""

from statistics import fmean

import pytest
from numbers_fields import (
    against_equal_weights,
    area_gaps,
    contest_gain,
    contest_gap,
    contest_mean,
    counted,
    gate_gap,
    policy,
    sense_gap,
    strangers,
    tumours_gap,
)
from numbers_said import mean
from scipy.stats import ttest_1samp

from mtlkit.data.fields.tumours import MEASURES
from mtlkit.experiments import differences, read, summarise
from mtlkit.experiments.beyond.frontiers import FEW, PARTITIONS, SEARCH_STEPS, SEARCHERS, TRIAL, predicted
from mtlkit.experiments.beyond.fronts import WAYS
from mtlkit.experiments.beyond.search import ARMS
from mtlkit.experiments.fields.health import OVERLAP

SHARES = ("all measured", "30 % by chance", "30 % suspicious first", "10 % by chance", "5 % diagnosed")


def test_of_tumours_only_the_radius_of_the_suspicious_gains_for_certain():
    sure = {
        (task, share): tumours_gap(task, share).mean > 0
        for share in SHARES
        for task in ("diagnosis", *MEASURES)
        if tumours_gap(task, share).p < 0.05
    }
    assert sure == {
        ("radius", "all measured"): False,
        ("radius", "30 % suspicious first"): True,
        ("radius", "5 % diagnosed"): False,
    }


def test_what_is_missing_by_suspicion_triples_the_error_alone_and_doubles_it_together():
    def times(how, share):
        first, then = (
            mean("fields_tumours_missing", f"{how}, {s}", "test radius/mae") for s in ("all measured", share)
        )
        return then / first

    assert 3 <= times("radius alone", "30 % suspicious first") < 3.5
    assert 1.7 <= times("together", "30 % suspicious first") <= 2.3
    assert all(times(how, "30 % by chance") < 1.3 for how in ("radius alone", "together"))


def test_both_ways_to_mind_the_cost_halve_it_in_the_mean_and_the_interval_includes_0():
    ways = ("moved threshold", "loss weight")
    rows = read("fields_tumours_decided")
    before = summarise(rows)["threshold at half"]["cost"].mean
    for way in ways:
        assert 0.45 < summarise(rows)[way]["cost"].mean / before < 0.55
    corrected = differences(rows, "cost", "threshold at half", ways, OVERLAP)
    assert all(one.mean < 0 < one.mean + one.half for one in corrected.values())


def test_counting_boxes_is_as_good_as_a_head_only_where_there_are_boxes():
    assert counted("detect alone, 100% boxed", "boxes/mae") <= counted("count alone, 100% boxed", "count/mae")
    few = counted("detect alone, 5% boxed", "boxes/mae") / counted("count alone, 5% boxed", "count/mae")
    assert 2 < few < 3.2


@pytest.mark.parametrize("field", ["tumours", "cells"])
def test_in_health_the_budget_turns_the_picture_round(field):
    steps, seconds = contest_gain(field, ""), contest_gain(field, "_seconds")
    assert steps.mean < 0 and seconds.mean - seconds.half > 0
    for budget in ("", "_seconds"):
        assert all(one.p > 0.05 for one in against_equal_weights(field, budget).values())


def test_in_speech_equal_weights_cost_words_and_voices_and_win_sequences_only_at_equal_seconds():
    for budget in ("", "_seconds"):
        assert all((one := contest_gap("speech", budget, task)).mean < 0 and one.p < 0.05 for task in ("word", "voice"))
    assert contest_gap("speech", "", "digits").p > 0.05
    won = contest_gap("speech", "_seconds", "digits")
    assert won.mean < 0 and won.p < 0.001 and contest_mean("speech", "_seconds", "digits alone", "digits") > 0.9


def test_in_speech_nash_mtl_is_ahead_of_equal_weights_with_either_budget():
    for budget in ("", "_seconds"):
        found = against_equal_weights("speech", budget)
        assert {name for name, one in found.items() if one.p < 0.05 and one.mean > 0} == {"NashMTL"}
    assert contest_gap("speech", "_seconds", "word", "NashMTL").p > 0.05


def test_of_real_speakers_known_ones_are_solved_and_sharing_changes_nothing_for_new_ones():
    known = [
        mean("fields_speech_people", f"{how}, known speakers", "test word/accuracy")
        for how in ("together", "word alone")
    ]
    assert min(known) >= 0.95
    gaps = [a - b for a, b in zip(strangers("together"), strangers("word alone"), strict=True)]
    assert ttest_1samp(gaps, 0).pvalue > 0.3
    assert max(strangers("together")) - min(strangers("together")) > 3 * abs(fmean(gaps))


def test_on_roads_the_budget_turns_the_picture_round_and_a_constant_is_best():
    steps, seconds = (contest_gain("roads", budget) for budget in ("", "_seconds"))
    assert steps.mean + steps.half < 0 < seconds.mean - seconds.half
    ways = [name for name in summarise(read("fields_roads_seconds")) if not name.endswith("alone")]
    assert max(ways, key=lambda way: contest_gain("roads", "_seconds", way).mean) == "static 3"
    assert against_equal_weights("roads", "_seconds")["static 3"].p < 0.05
    assert mean("fields_roads_costs", "NashMTL", "cost") > 1.7 * mean("fields_roads_costs", "EqualWeights", "cost")


def test_of_four_remedies_for_the_rare_sampling_helps_and_more_focus_does_not():
    rows = read("fields_roads_rare")
    night, other = (differences(rows, column, "as it is") for column in ("pedestrians at night", "pedestrians else"))
    assert night["sampling"].p < 0.05 and night["loss weight"].p > 0.05 > other["loss weight"].p
    bound = night["night for night"].mean
    assert 0.7 < night["sampling"].mean / bound < 0.8 and 0.045 < -other["sampling"].mean < 0.055
    assert 0.035 < night["loss weight"].mean < 0.045 and 0.125 < -other["loss weight"].mean < 0.135
    assert night["no focus"].p < 0.05 and 0.055 < night["no focus"].mean < 0.065
    assert all(one["more focus"].mean < 0 and one["more focus"].p < 0.05 for one in (night, other))


def test_of_two_senses_only_one_head_for_both_makes_a_difference_and_a_bad_one():
    certain = {
        (scarce, n, how): sense_gap(f"{scarce}, {n} samples", how).mean
        for scarce in ("see", "hear")
        for n in FEW
        for how in ("one trunk", "one trunk and head")
        if sense_gap(f"{scarce}, {n} samples", how).p < 0.05
    }
    assert list(certain) == [("hear", 200, "one trunk and head")] and certain.popitem()[1] < 0


def test_learned_gates_are_as_good_as_gates_that_are_held_and_no_better_than_hard_sharing():
    for side in ("left", "right"):
        held = differences(read("frontiers_gates"), f"test {side}/accuracy", "gates held")["gates"]
        assert held.p > 0.5 and abs(held.mean) < 0.005
        assert all(gate_gap(way, side).mean < -0.015 for way in ("gates", "gates held"))
        assert gate_gap("gates", side).p < 0.05


def test_no_searcher_is_better_than_lots_and_the_grid_has_nothing_left_to_train_with():
    gaps = [differences(read("frontiers_search"), f"test {s}", "drawn") for s in ("classify/accuracy", "detect/ap")]
    assert all(found[how].p > 0.05 for found in gaps for how in SEARCHERS)
    assert gaps[0]["equal weights"].p < 0.05 and gaps[1]["equal weights"].p > 0.5
    assert gaps[1]["known before"].p < 0.05 and all(found["grid"].mean < -0.1 for found in gaps)
    assert len(ARMS) * TRIAL == SEARCH_STEPS / 2 and len(policy("weight")) == 10


def test_groups_by_affinity_gain_nothing_beyond_chance_and_those_by_lot_are_worst():
    ways = list(summarise(read("frontiers_groups")))
    against = {way: differences(read("frontiers_groups"), "test mean", way) for way in ways}
    assert all(gap.p > 0.05 for way in ways if way != "drawn" for name, gap in against[way].items() if name != "drawn")
    better = {way for way, gap in against["drawn"].items() if gap.p < 0.05}
    assert better == {"all together", "against it"} and all(gap.mean > 0 for gap in against["drawn"].values())
    assert mean("frontiers_groups", "against it", "test mean") > mean("frontiers_groups", "by affinity", "test mean")
    assert max(PARTITIONS, key=predicted)[0] == ("colour",)


def test_one_network_for_all_preferences_has_no_larger_area():
    assert all(gap.p > 0.05 for base in ("five", "one") for gap in area_gaps(base).values())
    areas = {how: mean("frontiers_fronts", how, "test area") for how in WAYS}
    assert min(areas, key=areas.get) == "five" and max(areas, key=areas.get) == "one"
    spans = {
        how: [mean("frontiers_fronts", how, f"test left {share}") for share in (0.1, 0.5, 0.9)]
        for how in ("one, told", "one, told, COSMOS")
    }
    assert max(spans["one, told"]) - min(spans["one, told"]) < 0.01
    assert spans["one, told, COSMOS"][2] < spans["one, told, COSMOS"][1]
