"""How a round's texts come about: requests scheduled, drafts filtered, near-duplicates found."""
