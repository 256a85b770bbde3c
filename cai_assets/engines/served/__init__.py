"""Models served elsewhere, by OpenAI-compatible servers: one, or a fleet that takes turns."""
