"""Files and fine-tuning jobs: runs of lorita in processes of their own, one after another."""
