"""The one definition of every option. Only runs, workflows, cli and serving import it."""
