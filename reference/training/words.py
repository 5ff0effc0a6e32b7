"""The word-level tokenizer: a Hugging Face `tokenizer.json`, and the same in a few lines of Python for training.

Lower case, cut at white space and punctuation; `<pad>` 0, `</s>` 1 (behind every prompt), `<unk>` 2, then the words.
"""

import re

from .captions import vocabulary

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
TEXT_LEN = 32  # of the DITs; the longest caption has 26 tokens

PIECES = [PAD, END, UNKNOWN, *vocabulary()]
IDS = {piece: i for i, piece in enumerate(PIECES)}


def encode(prompt):
    """Ids of a prompt and `</s>`."""
    words = re.findall(r"\w+|[^\w\s]+", prompt.lower())
    return [IDS.get(word, IDS[UNKNOWN]) for word in words] + [IDS[END]]


def tokenizer_files():
    """What a model folder holds in `tokenizer/`: file name -> object."""
    special = [
        {"id": IDS[piece], "content": piece, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for piece in (PAD, END, UNKNOWN)
    ]
    end = {"SpecialToken": {"id": END, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [first, end],
                "pair": [first, end, second, end],
                "special_tokens": {END: {"id": END, "ids": [IDS[END]], "tokens": [END]}},
            },
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": IDS, "unk_token": UNKNOWN},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "T5Tokenizer",
            "pad_token": PAD,
            "eos_token": END,
            "unk_token": UNKNOWN,
            "extra_ids": 0,
        },
    }
