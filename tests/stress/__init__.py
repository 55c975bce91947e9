"""Trials by the hundred: what is damaged, killed or too large. docs/reliability.md has the counts."""
