"""Tests of the questions and of the macros behind them."""
