"""Tokenizers: every string comes back unchanged, the same in transformers, and also when it streams."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace.errors import DataError, SettingError
from interlace.worlds.tokenizer import (
    END_ID,
    IM_END_ID,
    IM_START_ID,
    MASK_ID,
    SPECIAL_TOKENS,
    TextStream,
    character_tokenizer,
    decode,
    encode,
    encode_batch,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)

TEXTS = [
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n"
    "        self.items.append(item)\n\n    def pop(self):\n        return self.items.pop()\n" * 4,
    "import os\n\n\nfor name in os.listdir('.'):\n    if name.endswith('.py'):\n        print(name, 10, 200)\n" * 4,
]
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text("ab_ \t\n\r1é🙂\u0301<|>#-")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 320)


@given(TEXT)
@settings(max_examples=300, deadline=None)
def test_every_string_comes_back(tokenizer, text):
    assert decode(tokenizer, encode(tokenizer, text)) == text
    assert decode(tokenizer, encode(tokenizer, text, allow_special=True)) == text


def test_ids_of_special_tokens(tokenizer):
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [END_ID, MASK_ID, IM_START_ID, IM_END_ID]
    assert (END_ID, MASK_ID, IM_START_ID, IM_END_ID) == (0, 1, 2, 3)
    assert tokenizer.get_vocab_size() == 320


def test_special_tokens_in_a_users_text_are_plain_text(tokenizer):
    text = "a<|endoftext|>b<|MASK|>"
    plain = encode(tokenizer, text)
    assert min(plain) > IM_END_ID and decode(tokenizer, plain, skip_special=True) == text
    special = encode(tokenizer, text, allow_special=True)
    assert [index for index in special if index <= IM_END_ID] == [END_ID, MASK_ID]
    assert decode(tokenizer, special, skip_special=True) == "ab"
    assert tokenizer.encode_special_tokens and encode(tokenizer, text) == plain, (
        "the switch of one call leaks into the next"
    )


def test_pieces_suit_python(tokenizer):
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str("\n        x.__init__(snake_case, 12345)")]
    assert pieces == ["ĊĠĠĠĠĠĠĠĠ", "x", ".", "__init__", "(", "snake", "_case", ",", "Ġ123", "45", ")"]
    vocabulary = tokenizer.get_vocab()
    assert {"ĊĠĠĠĠĠĠĠĠ", "ĊĊĠĠĠĠ", "self", "def"} <= set(vocabulary)
    assert len(encode(tokenizer, "\n        self.items")) <= 4


def test_training_is_deterministic_across_processes(tokenizer):
    code = "from interlace.worlds.tokenizer import train_tokenizer as t; import sys; "
    code += f"sys.stdout.write(t({TEXTS!r}, 320).to_str())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout == tokenizer.to_str()


def test_settings():
    with pytest.raises(SettingError, match="vocab_size is 100; pass 260"):
        train_tokenizer(TEXTS, 100)
    assert train_tokenizer(["ab"], 260).get_vocab_size() == 260


def test_a_lone_surrogate_is_named(tokenizer):
    with pytest.raises(DataError, match="surrogate"):
        encode(tokenizer, "a\ud800")


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_transformers_reads_what_is_saved(tokenizer, tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    ours = tokenizer if kind == "bytes" else character_tokenizer("0123456789+=|,c\n")
    texts = [*TEXTS, "naïve 🙂\r\n\n \t x  y"] if kind == "bytes" else ["12+34=46|c1\n", "<|im_start|>1<|im_end|>"]
    save_tokenizer(ours, tmp_path, max_length=512)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in texts:
        ids = encode(ours, text, allow_special=True)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == text == decode(ours, ids)
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.mask_token_id) == (END_ID, END_ID, MASK_ID)
    assert theirs.model_max_length == 512
    assert encode(theirs, texts[0]) == encode(ours, texts[0])
    again = load_tokenizer(tmp_path)
    assert again.to_str() == ours.to_str() and encode_batch(again, texts, True) == encode_batch(ours, texts, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(DataError, match=r"tokenizer\.json is not found; "):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is not a tokenizer"):
        load_tokenizer(tmp_path)


def test_character_tokenizer():
    tokenizer = character_tokenizer("01+=\n")
    assert encode(tokenizer, "10+1=\n") == [5, 4, 6, 5, 7, 8]
    assert decode(tokenizer, [5, 4, 6, 5, 7, 8]) == "10+1=\n"
    assert encode(tokenizer, "<|MASK|>1", allow_special=True) == [MASK_ID, 5]
    with pytest.raises(DataError, match="'x' is not in the tokenizer's alphabet; "):
        encode(tokenizer, "1x")
    with pytest.raises(SettingError, match="alphabet"):
        character_tokenizer("aa")


@given(TEXT, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_stream_gives_the_same_text(tokenizer, text, choice):
    ids = encode(tokenizer, text)
    stream, given_out = TextStream(tokenizer), ""
    while ids:
        count = choice.randint(1, 4)
        given_out += stream.push(ids[:count])
        assert text.startswith(given_out)
        ids = ids[count:]
    assert given_out + stream.flush() == text


def test_a_stream_of_nonsense_equals_its_decoding(tokenizer):
    """An untrained model emits bytes that are no text; what is out may never have to be taken back."""
    choice = random.Random(0)
    for _ in range(200):
        ids = [choice.randrange(tokenizer.get_vocab_size()) for _ in range(40)]
        stream = TextStream(tokenizer)
        parts = [stream.push([index]) for index in ids]
        assert "".join(parts) + stream.flush() == decode(tokenizer, ids, skip_special=True)


def test_a_stream_keeps_its_context():
    """Some decoders drop the space before the first token; it may be dropped only once."""
    from tokenizers import Tokenizer, decoders, models

    tokenizer = Tokenizer(models.WordLevel({"▁one": 0, "▁two": 1, "s": 2}, unk_token="s"))
    tokenizer.decoder = decoders.Metaspace()
    stream = TextStream(tokenizer)
    assert [stream.push([index]) for index in (0, 1, 2, 0)] == ["one", " two", "s", " one"]


def test_a_stream_is_prompt(tokenizer):
    """Half a character is held back, and nothing else is."""
    stream = TextStream(tokenizer)
    ids = encode(tokenizer, "a🙂b")
    assert len(ids) == 6
    assert [stream.push([index]) for index in ids] == ["a", "", "", "", "🙂", "b"]
    assert stream.push(ids[1:3]) == "" and stream.flush() == "\ufffd"
    assert stream.push(ids[:1]) == "a", "flush starts the stream anew"
    assert stream.push([END_ID]) == ""
    assert TextStream(tokenizer, skip_special=False).push([END_ID]) == "<|endoftext|>"
