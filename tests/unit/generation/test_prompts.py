"""Prompts: slots, turns, and draws that depend on seed, request and attempt alone."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from adray.generation.prompts import PromptConfig, draw

COLOURS = ["red", "orange", "yellow", "green", "teal", "blue", "purple", "pink"]
ROOM = PromptConfig(entries=[{"prompt": "{title}, {colour} room, plain wall", "negative_prompt": "no {colour}"}], colours=COLOURS)


def test_slots_are_filled_and_both_prompts_share_the_colour():
    drawn = draw(ROOM, 0, "p1", 0, " Bozo {floor} Headset ")
    colour = drawn.prompt.removeprefix("Bozo {floor} Headset, ").removesuffix(" room, plain wall")
    assert colour in COLOURS and drawn.negative == f"no {colour}"


def test_draws_depend_on_seed_request_and_attempt_alone():
    assert draw(ROOM, 3, "p1", 2, "A") == draw(ROOM, 3, "p1", 2, "A")
    seeds = {draw(ROOM, seed, request, attempt, "A").seed for seed in range(5) for request in ("a", "b", "ab") for attempt in range(5)}
    assert len(seeds) == 75 and all(0 <= seed < 2**31 for seed in seeds)


def test_colours_are_drawn_evenly_and_anew_for_each_attempt():
    prompts = [draw(ROOM, 0, f"p{i}", attempt, "A").prompt for i in range(1000) for attempt in range(4)]
    counts = Counter(prompts)
    # 4,000 draws of 8: 500 each, standard deviation 21; five of them on either side.
    assert len(counts) == 8 and all(395 < n < 605 for n in counts.values())
    repeats = sum(prompts[4 * i] == prompts[4 * i + 1] for i in range(1000))
    assert 75 < repeats < 175  # independent: 125, standard deviation 10


def test_attempts_take_the_entries_in_turn():
    config = PromptConfig(entries=[{"prompt": "a"}, {"prompt": "b", "image_scale": 0.78}, {"prompt": "c"}])
    drawn = [draw(config, 0, "p", attempt, "") for attempt in range(5)]
    assert [d.prompt for d in drawn] == ["a", "b", "c", "a", "b"]
    assert [d.image_scale for d in drawn] == [None, 0.78, None, None, 0.78]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"entries": [{"prompt": "a {color} wall"}]}, r"slot {color} is unknown; slots are {title} and {colour}"),
        ({"entries": [{"prompt": "a {colour} wall"}]}, "'colours' is empty; name some"),
        ({"entries": []}, "at least 1 item"),
        ({"entries": [{"prompt": ""}]}, "at least 1 character"),
    ],
)
def test_prompts_that_cannot_be_drawn_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        PromptConfig(**values)


def test_whether_titles_are_read():
    assert ROOM.reads_titles()
    assert not PromptConfig(entries=[{"prompt": "a table"}]).reads_titles()
