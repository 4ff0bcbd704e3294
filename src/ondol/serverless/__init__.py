"""serverless."""
