"""The inputs of the fixed vectors: which calls are asked, and why; the answers come from the oracle."""
