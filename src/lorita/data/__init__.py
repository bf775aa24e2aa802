"""From the user's files to what the model sees: source ► format ► tokens ► batches."""
