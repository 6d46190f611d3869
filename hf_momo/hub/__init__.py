"""The record of a run, its model card, and pushing to the Hub."""
