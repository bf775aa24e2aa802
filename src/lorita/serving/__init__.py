"""An API over HTTP in OpenAI's shape: one base model in memory, and many adapters."""
