"""A teacher on many machines: a driver, a coordinator beside it, and workers that each hold an engine and write whole
partitions of a round (`teachers.PartitionedEngine`). `pipeline` brings rows to workers by Ray Data; no other module here
imports Ray."""
