"""Selection of utterances: a sample of a set, and utterances of other speakers."""

from bisect import bisect_right
from collections.abc import Collection, Mapping


def spread(names: Collection[str], limit: int | None) -> list[str]:
    """At most `limit` names (None: all), evenly spaced in the sorted names and thereby over the speakers."""
    names = sorted(names, key=str.encode)
    count = len(names) if limit is None else min(limit, len(names))
    return [names[(2 * number + 1) * len(names) // (2 * count)] for number in range(count)]


def other_speakers(utterances: Collection[str], candidates: Collection[str],
                   utt2spk: Mapping[str, str]) -> dict[str, str]:
    """{utterance: an utterance of `candidates` by another speaker}.

    The other speaker is the next by name, and the first after the last. Utterances for which there is no other speaker
    are left out.
    """
    by_speaker: dict[str, list[str]] = {}
    for candidate in sorted(candidates, key=str.encode):
        by_speaker.setdefault(utt2spk[candidate], []).append(candidate)
    speakers = sorted(by_speaker, key=str.encode)
    chosen = {}
    for number, utterance in enumerate(sorted(utterances, key=str.encode)):
        speaker = utt2spk[utterance]
        following = speakers[bisect_right(speakers, speaker) % len(speakers)] if speakers else speaker
        if following != speaker:
            chosen[utterance] = by_speaker[following][number % len(by_speaker[following])]
    return chosen


def speakers_beside(utterances: Collection[str], candidates: Collection[str], utt2spk: Mapping[str, str],
                    utt2lang: Mapping[str, str], language: str) -> tuple[dict[str, str], str]:
    """`other_speakers` among the candidates in `language`, or among all where that is empty; and which of the two:
    "the same language" or "another language"."""
    same = other_speakers(utterances, [name for name in candidates if utt2lang[name] == language], utt2spk)
    if same:
        return same, "the same language"
    return other_speakers(utterances, candidates, utt2spk), "another language"
