"""Monitoring is switched on once for all of these, and off again behind them."""
