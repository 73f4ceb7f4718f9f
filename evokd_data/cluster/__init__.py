"""A teacher on many machines: one driver, a coordinator beside it, and workers that each hold an engine and write whole
partitions of a round (`evokd_data.generation.partitions`). `pipeline` brings rows to workers, by Ray Data; nothing else here knows of it."""
