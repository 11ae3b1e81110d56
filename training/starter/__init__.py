"""The starter model: renderer, tokenizer, VAE, diffusion, judge and export."""
