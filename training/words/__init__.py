"""English words for the text encoder: nouns of WordNet, synonyms, and the phrases that it learns from."""
