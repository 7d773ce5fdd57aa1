import unicodedata

import numpy as np
import open_clip
import pytest

from synseg_model.export.tokenizer_json import tokenizer_json
from synseg_model.text.tokenizer import Tokenizer, without_marks
from synseg_model.weights.find import SHIPPED

# What byte-pair tokenizers and their cleaning disagree about: contractions, entities, marks, spaces, case, widths.
PARTS = [
    *("ball", "don't", "I'M", "'s", "'LL", "'ſ", "‘re", "´ve", "'d'd", "a'sb", "K", "İstanbul", "ß", "ﬁ", "Ａ", "ǅ"),
    *("&amp;", "&lt;", "<end_of_text>", "&lt;Start_of_text&gt;", "＜end_of_text＞", "<|endoftext|>", "<", "_", "…"),
    *("é", "e\u0301", "12", "½", "٣", "Ã©", "â€™", "👩‍🚒", "ΑΣ", "草", "สวัสดี", "हिन्दी", "العربية", "עברית", "한국어"),
    *(" ", "\t", "\n", "\u200b", "\u00a0", "\u3000", "\x85", "\x1c"),
]


def strings(count):
    """Make strings of every script: characters from all of Unicode, from one block each, and of odd parts."""
    rng = np.random.default_rng(0)
    letters = [c for c in map(chr, range(0x20, 0x20000)) if unicodedata.category(c) not in ("Cs", "Cn", "Co", "Cc")]
    for index in range(count):
        length = rng.integers(1, 12)
        if index % 3 == 0:
            yield "".join(letters[i] for i in rng.integers(0, len(letters), length))
        elif index % 3 == 1:
            block = rng.integers(0, len(letters) - 300)
            yield "".join(letters[block + i] for i in rng.integers(0, 300, length))
        else:
            yield "".join(PARTS[i] for i in rng.integers(0, len(PARTS), length))


@pytest.fixture(scope="module", params=["CLIP's own", "synseg-tiny's"])
def pair(request):
    """open_clip's tokenizer, and ours made from it."""
    own = request.param == "CLIP's own"
    theirs = open_clip.SimpleTokenizer(**({} if own else {"bpe_path": str(SHIPPED / "synseg-tiny" / "merges.txt.gz")}))
    return theirs, Tokenizer(tokenizer_json(theirs).encode(), 77)


def test_ids_are_open_clips_on_1200_strings_in_many_scripts(pair):
    theirs, ours = pair
    different = [
        text for text in strings(1200) if ours.encode(text) != theirs.encode(without_marks(text, theirs.clean_fn))
    ]
    assert different == []


def test_arrays_of_ids_are_open_clips_cut_behind_the_longest_text(pair):
    theirs, ours = pair
    texts = ["ball", "a photo of a red ball.", ""]
    ids = ours.tokenize(texts)
    expected = theirs(texts).numpy()
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, expected[:, : ids.shape[1]])
    assert not expected[:, ids.shape[1] :].any() and ids[:, -1].any()


def test_a_text_that_is_too_long_is_cut_at_the_context_and_keeps_its_end_mark(pair):
    theirs, ours = pair
    text = "ball " * 200
    np.testing.assert_array_equal(ours.tokenize([text]), theirs([text]).numpy())
    assert ours.count_tokens(text) == 202
