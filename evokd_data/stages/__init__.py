"""The stages of a round, one public function each. They meet only through files in the workspace."""
