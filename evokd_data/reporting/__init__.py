"""Output for people: dataset and model cards, report, tables and plots, and the statistics behind them."""
