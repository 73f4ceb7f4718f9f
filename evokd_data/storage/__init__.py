"""Files on disk and in a published repository: run folder, shards, journal, Parquet, snapshots, mirror."""
