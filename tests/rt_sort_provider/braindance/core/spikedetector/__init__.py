"""A stand-in for a provider of RT-Sort."""
