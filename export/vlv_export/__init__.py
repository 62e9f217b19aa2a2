"""From a trained captioner to a folder that captions without torch, and the proof that it does."""
