"""Labels as text: folded, tokenized, embedded once and remembered. Needs no torch."""
