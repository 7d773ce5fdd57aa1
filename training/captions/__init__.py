"""Turn captions into labels: read captions, tag them, extract nouns and noun phrases, write sidecars beside the shards.

Nothing here imports torch: the work is text, and a cluster's workers need only spaCy.
"""
