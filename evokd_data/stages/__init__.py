"""The stages of a round, one module each. They exchange data only through files in the run folder."""
