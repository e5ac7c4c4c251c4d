"""Miniature corpora in the official layouts, encodings and quirks, with what a right preparation keeps and drops.

Each maker fills a folder of downloads and returns the expectation: {set: {clip: text}} and {set: {reason: rows}}.
"""
