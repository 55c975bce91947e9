"""Notebooks, and the script that writes them from their texts."""
