"""What a person looks at: cards, report, tables, plots, and the statistics behind them."""
