"""Reads `instant_golden.json` of `make_instant_golden`, and converts arrays to text and back."""

import base64
import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("instant_golden.json")


def encoded(array):
    """Return an array as text."""
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "base64": data}


def decoded(entry):
    """Return the array of an entry."""
    data = base64.b64decode(entry["base64"])
    return np.frombuffer(data, entry["dtype"]).reshape(entry["shape"])


def read():
    return json.loads(GOLDEN.read_text())
