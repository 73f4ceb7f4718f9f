"""The student at work: what a name stands for, predicting and scoring files, exporting."""
