"""Training LoRAs for Stable Diffusion models in diffusers' layout, the starter among them."""
