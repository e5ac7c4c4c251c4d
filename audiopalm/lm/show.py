"""A packed batch as a person reads it: documents, their parts, ids, and which of them carry loss."""

from itertools import groupby

from audiopalm.lm.packing import IGNORED, PackedBatch
from audiopalm.vocabulary.joint import Vocabulary
from audiopalm.vocabulary.text import TextTokenizer

SHOWN = 12  # ids of a part


def show_batch(batch: PackedBatch, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> str:
    """One line for each stretch of a document that is all text or all audio, all input or all output.

        row 1 of 4: 118 of 128 tokens, 61 with loss
          document 1, dora-es-17, positions 0 to 30
            input  text   7 8 9 10 11               [ASR Spanish]
            input  audio  512 640 533 ... (17 ids)  units 12 140 33 ...
            input  text   4                         \\n
            output text   81 92 2                   tengo dos</s>
    """
    names = iter(batch.utterances)
    lines = []
    for row, (ids, segments, positions, targets) in enumerate(
            zip(*(tensor.tolist() for tensor in (batch.ids, batch.segments, batch.positions, batch.targets)),
                strict=True), start=1):
        used = sum(segment > 0 for segment in segments)
        with_loss = sum(target != IGNORED for target in targets)
        lines.append(f"row {row} of {len(batch.ids)}: {used} of {len(ids)} tokens, {with_loss} with loss")
        # A target stands one place before its token.
        kinds = list(zip([False, *(target != IGNORED for target in targets)],
                         (token >= vocabulary.text_size for token in ids), strict=False))
        for number in range(1, max(segments) + 1):
            places = [place for place, segment in enumerate(segments) if segment == number]
            lines.append(f"  document {number}, {next(names)}, positions {positions[places[0]]} to "
                         f"{positions[places[-1]]}")
            for (output, audio), group in groupby(places, kinds.__getitem__):
                part = [ids[place] for place in group]
                shown = " ".join(map(str, part[:SHOWN])) + (f" ... ({len(part)} ids)" if len(part) > SHOWN else "")
                if audio:
                    text = "units " + " ".join(str(token - vocabulary.text_size) for token in part[:SHOWN])
                else:
                    text = tokenizer.decode([token for token in part if token != vocabulary.eos]).replace("\n", "\\n")
                    text += "</s>" if part[-1] == vocabulary.eos else ""
                kind = f"{'output' if output else 'input '} {'audio' if audio else 'text '}"
                lines.append(f"    {kind}  {shown:50}  {text}")
    return "\n".join(lines)
