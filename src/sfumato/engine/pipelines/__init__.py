"""Pictures from diffusers' own pipelines, each request a batch of its own."""
