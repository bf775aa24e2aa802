"""From what the user has to what the model sees: source ► format ► tokens ► batches."""
