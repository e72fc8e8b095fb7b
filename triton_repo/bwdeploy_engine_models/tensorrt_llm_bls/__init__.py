"""The model `tensorrt_llm_bls`: text to text by asking the other models, with drafts and clean streams."""
