"""The stages of the graph, run by Dagster's assets and by the plan alike."""
