"""A packed batch as text: its documents, their parts, the ids, and which positions have loss."""

from itertools import groupby

from audiopalm.lm.packing import IGNORED, PackedBatch
from audiopalm.vocabulary.joint import Vocabulary
from audiopalm.vocabulary.text import TextTokenizer

MAX_SHOWN = 12  # of a longer part, only this many ids are shown


def show_batch(batch: PackedBatch, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> str:
    """One line for each run of tokens of one kind: text or audio, input or output.

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
        tokens = sum(segment > 0 for segment in segments)
        with_loss = sum(target != IGNORED for target in targets)
        lines.append(f"row {row} of {len(batch.ids)}: {tokens} of {len(ids)} tokens, {with_loss} with loss")
        # The target of a token stands one position before it.
        kinds = list(zip([False, *(target != IGNORED for target in targets)],
                         (token >= vocabulary.text_size for token in ids), strict=False))
        for number in range(1, max(segments) + 1):
            offsets = [offset for offset, segment in enumerate(segments) if segment == number]
            lines.append(f"  document {number}, {next(names)}, positions {positions[offsets[0]]} to "
                         f"{positions[offsets[-1]]}")
            for (output, audio), group in groupby(offsets, kinds.__getitem__):
                part = [ids[offset] for offset in group]
                shown = " ".join(map(str, part[:MAX_SHOWN]))
                shown += f" ... ({len(part)} ids)" if len(part) > MAX_SHOWN else ""
                if audio:
                    text = "units " + " ".join(str(token - vocabulary.text_size) for token in part[:MAX_SHOWN])
                else:
                    text = tokenizer.decode([token for token in part if token != vocabulary.eos]).replace("\n", "\\n")
                    text += "</s>" if part[-1] == vocabulary.eos else ""
                kind = f"{'output' if output else 'input '} {'audio' if audio else 'text '}"
                lines.append(f"    {kind}  {shown:50}  {text}")
    return "\n".join(lines)
