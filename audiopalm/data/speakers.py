"""Which utterances stand for a set: some of each, and those of other speakers."""

from collections.abc import Collection, Mapping


def spread(names: Collection[str], most: int | None) -> list[str]:
    """At most so many (None: all), evenly spread over the sorted ids and with them over the speakers."""
    names = sorted(names, key=str.encode)
    count = len(names) if most is None else min(most, len(names))
    return [names[(2 * number + 1) * len(names) // (2 * count)] for number in range(count)]


def other_speakers(utterances: Collection[str], candidates: Collection[str],
                   utt2spk: Mapping[str, str]) -> dict[str, str]:
    """{utterance: one of `candidates` by the next speaker, by name, wrapping}; empty for a speaker without company."""
    spoken: dict[str, list[str]] = {}
    for candidate in sorted(candidates, key=str.encode):
        spoken.setdefault(utt2spk[candidate], []).append(candidate)
    speakers = sorted(spoken, key=str.encode)
    chosen = {}
    for number, utterance in enumerate(sorted(utterances, key=str.encode)):
        others = [speaker for speaker in speakers if speaker != utt2spk[utterance]]
        if others:
            following = next((speaker for speaker in others if speaker > utt2spk[utterance]), others[0])
            chosen[utterance] = spoken[following][number % len(spoken[following])]
    return chosen


def speakers_beside(utterances: Collection[str], candidates: Collection[str], utt2spk: Mapping[str, str],
                    utt2lang: Mapping[str, str], language: str) -> tuple[dict[str, str], str]:
    """`other_speakers` of the same language, or where there is no such speaker of any; and which of the two it is."""
    same = other_speakers(utterances, [name for name in candidates if utt2lang[name] == language], utt2spk)
    if same:
        return same, "the same language"
    return other_speakers(utterances, candidates, utt2spk), "another language"
