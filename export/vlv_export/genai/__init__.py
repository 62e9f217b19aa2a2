"""`--genai`: a folder that stock ONNX Runtime GenAI opens and runs, with no code of ours.

GenAI has no call that takes embeddings, so the model goes in as three graphs:

    vision      pixel_values -> image_features, the prefix
    embedding   input_ids, image_features -> inputs_embeds: words from the table, and where the ids
                are placeholders the prefix
    decoder     inputs_embeds, attention_mask, cache -> logits, cache

Of the model types that GenAI knows, `videochat_flash_qwen` is the one whose number of visual tokens
is a setting, whose positions count up by one, and whose picture processor does no more than it is
told. Nothing else of that model is used.
"""
