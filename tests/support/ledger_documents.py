"""Ledger files taken apart and put together again, with a hash that fits."""
import json

from mindarmour.privacy.accounting.ledger_file import MARK, _digest


def packed(document):
    """A ledger file that holds this document."""
    text = json.dumps(document).encode()
    return MARK + len(text).to_bytes(8, "big") + text + _digest(text)


def document_of(data):
    """The document in a ledger file."""
    start = data.index(MARK) + len(MARK) + 8
    return json.loads(data[start:start + int.from_bytes(data[start - 8:start], "big")])
