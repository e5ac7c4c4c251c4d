"""The masks of SoundStorm in training, and the schedule of decoding."""

import numpy as np

from audiopalm.acoustic.soundstorm.masking import draw_levels, draw_mask, hide, level_probabilities, still_masked


def test_level_probabilities_fall_by_the_bias():
    np.testing.assert_allclose(level_probabilities(4, 1.0), 0.25)
    chances = level_probabilities(3, 0.5)
    np.testing.assert_allclose(chances, [4 / 7, 2 / 7, 1 / 7])


def test_levels_are_drawn_with_their_probabilities():
    random = np.random.default_rng(0)
    drawn = np.concatenate([draw_levels(random, 10, 4, 0.5) for _ in range(500)])
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, level_probabilities(4, 0.5), atol=0.01)


def test_the_prompt_is_never_masked_and_the_masked_fraction_is_a_cosine():
    random = np.random.default_rng(0)
    starts = np.array([0, 10, 40, 99])
    masks = np.stack([draw_mask(random, starts, 100, whole_share=0.0) for _ in range(800)])
    for row, start in enumerate(starts):
        assert not masks[:, row, :start].any()
        assert masks[:, row].any(axis=1).all()
    shares = masks[:, 0].mean(axis=1)
    assert abs(shares.mean() - 2 / np.pi) < 0.03  # the mean of cos(u) over U[0, pi/2]
    assert abs((shares > np.cos(np.pi / 4)).mean() - 0.5) < 0.06  # its median


def test_the_asked_for_fraction_of_examples_is_masked_wholly():
    random = np.random.default_rng(0)
    whole = [draw_mask(random, np.array([5]), 50, whole_share=0.5)[0, 5:].all() for _ in range(600)]
    assert 0.44 < np.mean(whole) < 0.57
    assert draw_mask(random, np.array([5]), 50, whole_share=1.0)[0].tolist() == [False] * 5 + [True] * 45


def test_hide_masks_higher_levels_behind_the_cut_only():
    codec = np.arange(2 * 4 * 3).reshape(2, 4, 3)
    mask = np.array([[False, False, True, False], [False, False, False, True]])
    shown = hide(codec, mask, np.array([1, 2]), np.array([1, 3]), -1)
    assert (shown[0, 0] == codec[0, 0]).all()  # prompt
    assert (shown[0, :, 0] == codec[0, :, 0]).all()  # lower level
    assert (shown[0, 1:, 2] == -1).all()  # higher level
    assert shown[0, :, 1].tolist() == [codec[0, 0, 1], codec[0, 1, 1], -1, codec[0, 3, 1]]
    assert (shown[1] != codec[1]).sum() == 1 and shown[1, 3, 2] == -1


def test_the_decoding_schedule_falls_to_zero():
    for frames in (1, 2, 7, 150):
        masked = [still_masked(frames, iteration, 8) for iteration in range(8)]
        assert masked == sorted(masked, reverse=True) and masked[-1] == 0 and masked[0] < frames
    assert still_masked(100, 3, 8) == 70  # cos(pi / 4)
