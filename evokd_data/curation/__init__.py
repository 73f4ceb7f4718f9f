"""Curation: a person looks at the samples of a run, and what they decide becomes a round."""
