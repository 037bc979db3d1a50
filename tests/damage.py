"""Accidents that happen to a file: what the tests of damaged folders and tables share."""

from hypothesis import strategies as st

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "drop"]),
        st.integers(0, 10**6),
        st.binary(max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, edits) -> bytes:
    """A file after some accidents."""
    data = bytearray(content)
    for kind, place, new in edits:
        place %= max(len(data), 1)
        if kind == "flip" and data:
            data[place] ^= 1 << (len(new) % 8)
        elif kind == "cut":
            del data[place:]
        elif kind == "insert":
            data[place:place] = new
        else:
            del data[place : place + len(new)]
    return bytes(data)
