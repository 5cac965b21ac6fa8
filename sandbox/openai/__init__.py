"""OpenAI as its documents and its SDK's types describe it: chat completions, images, models; strict about requests."""
