"""From neutral graphs to the variants of an artefact, without torch.

A neutral graph holds standard operators and the few `vlv` operations of `_nodes`, in float32. A
variant replaces those by standard operators (fp32, fp16, bf16) or by onnxruntime's fused ones
(int8, int4), converts or quantises the weights, and stores each of them once a folder.
"""
