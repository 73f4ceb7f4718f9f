"""What happens around the stages: which is next, whole loops side by side, and what is looked at before a run begins."""
