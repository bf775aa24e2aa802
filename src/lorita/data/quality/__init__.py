"""Problems in rows: duplicates, contradictions, secrets, broken text, mixed languages."""
