"""Answers to exported vectors, computed from the file alone: what `infonce-conformance judge` reads.

From this folder: python answers.py info_nce.npz > answers.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

HELLO = {
    "arguments": ["query", "positive_key", "temperature"],
    "dtypes": ["float64", "float32"],
    "profiles": ["core", "grad"],
}


def answers(path: str) -> Iterator[dict[str, Any]]:
    """What is declared, and then an answer for each vector that it leaves."""
    import numpy as np
    from textbook import in_numpy  # what is judged

    yield {"hello": HELLO}
    with np.load(path, allow_pickle=False) as arrays:
        for row in json.loads(arrays["rows"].tobytes())["rows"]:
            if row["profile"] != "core" or row["dtype"] not in HELLO["dtypes"]:
                continue
            argument = f"{row['id']}/{row['dtype']}/argument"
            query, positive_key = arrays[f"{argument}/query"], arrays[f"{argument}/positive_key"]
            loss, grad = in_numpy(query, positive_key, temperature=float(arrays[f"{argument}/temperature"]))
            gradients = {name: gradient.tolist() for name, gradient in grad.items()}
            yield {"id": row["id"], "dtype": row["dtype"], "loss": float(loss), "grad": gradients}


if __name__ == "__main__":
    for line in answers(sys.argv[1]):
        print(json.dumps(line))
