"""What is wrong with rows: problems, duplicates, secrets, languages."""
