"""A teacher in this process: one vLLM engine, opened and closed with the program's `with` block."""
