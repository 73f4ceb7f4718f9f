"""Reading published rounds back: load, verify, replay, reproduce, compare, continue."""
