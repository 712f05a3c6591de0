"""Models behind HTTP: the OpenAI endpoints, a stream of units, and a page that shows diffusion at work."""
